"""Autoencoders of dictionary_learning, as they compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cytosae.errors import CytosaeError
from cytosae.sae.foreign import import_sae
from support.foreign_files import dictionary_file, linear_state, saev_file, saev_header
from support.foreign_weights import agrees, arrays, by_hand, same_bytes


@pytest.mark.parametrize("legacy", [True, False])
def test_dictionary_learning_is_read_as_it_computes(tmp_path: Path, legacy: bool) -> None:
    folder = dictionary_file(tmp_path / "a", linear_state("bias"), "AutoEncoder")
    torch.save(linear_state("bias"), folder / "ae.pt", _use_new_zipfile_serialization=not legacy)
    for source in (folder, folder / "ae.pt"):
        sae = import_sae(source)
        agrees(sae, by_hand(**arrays()))
        same_bytes(sae, arrays())
        assert sae.metadata["imported"]["configuration"]["trainer"]["lr"] == 1e-3
    new = import_sae(dictionary_file(tmp_path / "b", linear_state("decoder.bias"), "AutoEncoderNew"))
    agrees(new, by_hand(**arrays(), centred=False))


@pytest.mark.parametrize(
    ("state", "kind", "said"),
    [
        ({"encoder.weight": 1, "decoder.weight": 1, "gate_bias": 1}, None, "GatedAutoEncoder"),
        ({"encoder.weight": 1, "decoder.weight": 1, "b_dec": 1, "k": 1, "threshold": 1}, None, "TopK"),
        ({"encoder.weight": 1, "decoder.weight": 1, "b_dec": 1}, None, "AutoEncoderTopK"),
        ({"W_enc": 1, "W_dec": 1, "b_enc": 1, "b_dec": 1, "threshold": 1}, None, "JumpReluAutoEncoder"),
        (linear_state("bias"), "BatchTopKSAE", "BatchTopKSAE"),
    ],
)
def test_other_dictionaries_are_refused_by_name(tmp_path: Path, state: Any, kind: str | None, said: str) -> None:
    state = {name: value if isinstance(value, torch.Tensor) else torch.ones(1) for name, value in state.items()}
    with pytest.raises(CytosaeError, match=said):
        import_sae(dictionary_file(tmp_path / "a", state, kind))


@pytest.mark.parametrize("place", ["trainer", "buffer", None])
def test_settings_of_dictionary_learning_and_saev_are_looked_at(tmp_path: Path, place: str | None) -> None:
    def saved(**more: Any) -> tuple[Path, Path]:
        folder = dictionary_file(tmp_path / "a", linear_state("bias"), "AutoEncoder")
        config = json.loads((folder / "config.json").read_text())
        (config[place] if place else config).update(more)
        (folder / "config.json").write_text(json.dumps(config))
        header = saev_header(5)
        (header["cfg"] if place else header).update(more)
        return folder, saev_file(tmp_path / "sae.pt", header)

    for path in saved(mascot="owl"):
        assert import_sae(path).metadata["imported"]["ignored"] == ["mascot: owl"]
    for more in ({"k": 32}, {"norm_factor": 2.5}, {"normalize_activations": True}, {"top_k": 4}):
        for path in saved(**more):
            with pytest.raises(CytosaeError, match=next(iter(more))):
                import_sae(path)
