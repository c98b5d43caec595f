"""Autoencoders of the release and of PatchSAE, as they compute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.foreign import import_sae
from support.foreign_files import release_file
from support.foreign_weights import D, agrees, arrays, by_hand, same_bytes


@pytest.mark.parametrize("key", ["cfg", "config"])
def test_release_is_read_as_it_computes(tmp_path: Path, elsewhere: Any, key: str) -> None:
    path = release_file(tmp_path / "final_sparse_autoencoder_dinov2_vitb14_-2_resid_49152.pt", elsewhere, key)
    sae = import_sae(path)
    assert "src.sae_training" not in sys.modules
    agrees(sae, by_hand(**arrays()))
    same_bytes(sae, arrays())
    sae.save_pretrained(tmp_path / "sae")
    loaded = SAE.from_pretrained(tmp_path / "sae")
    same_bytes(loaded, arrays())
    about = loaded.metadata["imported"]
    assert about["format"] == "release"
    assert about["changes"] == []
    assert about["configuration"] == {
        "class": "src.sae_training.config.ViTSAERunnerConfig",
        "model_name": "dinov2_vitb14",
        "block_layer": -2,
        "d_in": D,
        "expansion_factor": 64,
        "b_dec_init_method": "geometric_median",
        "gated_sae": None,
        "l1_coefficient": 8e-5,
        "lr": 4e-4,
        "class_token": True,
        "dtype": "float32",
        "device": "cuda",
        "store_batch_size": [32],
    }


def test_nested_settings_of_patchsae_are_kept(tmp_path: Path, elsewhere: Any) -> None:
    kind = elsewhere("src.sae_training.config.Config")
    config, inner = kind(), kind()
    inner.lr = 1e-3
    config.__dict__.update({"optimiser": inner, "loop": config, "bad\ud800": float("nan"), "loss": torch.tensor(2.0)})
    torch.save({"cfg": config, "state_dict": arrays()}, tmp_path / "a.pt")
    elsewhere.forget()
    sae = import_sae(tmp_path / "a.pt")
    settings = sae.metadata["imported"]["configuration"]
    assert settings["optimiser"] == {"lr": 1e-3}
    assert settings["loss"] == 2.0
    sae.save_pretrained(
        tmp_path / "sae"
    )  # a configuration that contains itself, and what JSON has not, still are written
    SAE.from_pretrained(tmp_path / "sae")


def test_gated_release_is_refused(tmp_path: Path, elsewhere: Any) -> None:
    path = release_file(tmp_path / "a.pt", elsewhere, gated_sae=True)
    with pytest.raises(CytosaeError, match="gated"):
        import_sae(path)
