"""Autoencoders of saev, as they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cytosae.errors import CytosaeError
from cytosae.sae.foreign import import_sae
from support.foreign_files import saev_file, saev_header
from support.foreign_weights import D, agrees, arrays, by_hand, same_bytes


@pytest.mark.parametrize(
    ("header", "centred"),
    [
        ({"d_vit": D, "exp_factor": 4, "sparsity_coeff": 4e-4, "n_reinit_samples": 8, "ghost_grads": False}, True),
        (saev_header(2), False),
        (saev_header(3), False),
        (saev_header(4), False),
        (saev_header(5), False),
    ],
)
def test_saev_is_read_as_it_computes(tmp_path: Path, header: dict[str, Any], centred: bool) -> None:
    sae = import_sae(saev_file(tmp_path / "sae.pt", header))
    agrees(sae, by_hand(**arrays(), centred=centred))
    assert bool(sae.metadata["imported"]["changes"]) is not centred
    if centred:
        same_bytes(sae, arrays())
    assert sae.metadata["imported"]["configuration"] == header


def test_schema_1_of_saev_says_not_which(tmp_path: Path) -> None:
    path = saev_file(tmp_path / "sae.pt", {"schema": 1, "cls": "Relu", "cfg": {"d_vit": D}, "lib": "0.1.0"})
    with pytest.raises(CytosaeError, match="--format saev-centred"):
        import_sae(path)
    agrees(import_sae(path, "saev-centred"), by_hand(**arrays()))
    agrees(import_sae(path, "saev-uncentred"), by_hand(**arrays(), centred=False))


def test_other_activations_of_saev_are_refused(tmp_path: Path) -> None:
    topk = saev_header(5)
    topk["cfg"]["activation"] = {"cls": "BatchTopK", "params": {"top_k": 3}}
    for header, said in (
        (topk, "BatchTopK"),
        ({"schema": 1, "cls": "TopK", "cfg": {}}, "TopK"),
        ({"schema": 6, "cfg": {}}, "schema 6"),
        ({"schema": [2], "cfg": {}}, r"schema \[2\]"),
        ({"schema": True, "cfg": {}}, "schema True"),
        ({"schema": 2, "cfg": {"activation": {"cls": ["Relu"]}}}, "activation"),
    ):
        with pytest.raises(CytosaeError, match=said):
            import_sae(saev_file(tmp_path / "sae.pt", header))
