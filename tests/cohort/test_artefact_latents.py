"""Latents that are artefacts are left out of barcodes: those that experts judge, and those that a refinement gathered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from cytosae.artefacts import Manifest
from cytosae.cohort import artefact_latents, read_barcodes
from cytosae.concepts import add_columns, encode, read_concepts
from cytosae.sae import SAE
from cytosae.settings import BarcodeConfig
from cytosae.study import stages
from cytosae.tokens import TokenStore
from support.commands import ask

CELLS, LATENTS = 48, 24
COLUMNS: dict[str, Any] = {
    "patient": [f"p{number % 4}" for number in range(CELLS)],
    "diagnosis": [("AML", "healthy")[number % 2] for number in range(CELLS)],
    "label": [("blast", "monocyte")[number // 8 % 2] for number in range(CELLS)],
}
LEFT_OUT = BarcodeConfig(artefacts="leave-out")


def encoded(store: TokenStore, block: Sequence[int] = ()) -> Path:
    """A study with concepts of an autoencoder that a refinement may have left with a block of artefacts."""
    folder = store.folder.parent
    asked = {"refined": {"asked": {"block": [*block]}}} if block else {}
    sae = SAE(8, LATENTS, {"backbone": store.layout.backbone, **asked})
    sae.initialise(torch.Generator().manual_seed(0))
    sae.save_pretrained(folder / "sae")
    Manifest("sae", {"given": True}, {}, {}, {"n_latents": LATENTS}).save(folder / "sae")
    encode(store, sae, folder / "concepts")
    return folder


def judged(folder: Path, verdicts: dict[int, str]) -> None:
    """As `cytosae annotations apply` leaves it."""
    text = [verdicts.get(latent) for latent in range(LATENTS)]
    add_columns(folder, "var", lambda var, _: {"verdict": pd.Series(pd.Categorical(text), var.index)})


@pytest.fixture
def store(make_store: Callable[..., TokenStore]) -> TokenStore:
    return make_store(torch.randn(CELLS, 7, 8, generator=torch.Generator().manual_seed(0)), **COLUMNS)


@pytest.mark.parametrize("by_cell_type", [False, True])
def test_judged_artefacts_are_0_in_all_barcodes_and_the_others_are_as_they_were(
    store: TokenStore, tmp_path: Path, by_cell_type: bool
) -> None:
    folder = encoded(store)
    judged(folder, {2: "artefact", 5: "meaningful", 9: "artefact"})
    whole, without = tmp_path / "whole.h5ad", tmp_path / "without.h5ad"
    typed = ["--by-cell-type"] if by_cell_type else []
    assert ask("barcodes", folder / "concepts", "-o", whole, *typed)["artefacts_left_out"] == 0
    said = ask("barcodes", folder / "concepts", "-o", without, "--artefacts", "leave-out", *typed)
    assert said["artefacts_left_out"] == 2
    before, after = ad.read_h5ad(whole), ad.read_h5ad(without)
    gone, stay = [2, 9], np.setdiff1d(np.arange(LATENTS), [2, 9])
    assert np.flatnonzero(after.var["artefact"]).tolist() == gone
    pooled = read_barcodes(without, pooled=True)
    assert pooled.uns["cytosae"]["parameters"]["artefacts"] == "leave-out"
    assert not np.asarray(pooled.X)[:, gone].any()
    assert not after.var["is_concept"].to_numpy()[gone].any()
    assert np.asarray(before.X)[:, gone].any()
    pairs = {"X": (before.X, after.X)} | {name: (before.layers[name], after.layers[name]) for name in before.layers}
    for name, (old, new) in pairs.items():
        assert not np.asarray(new)[:, gone].any(), name
        np.testing.assert_array_equal(np.asarray(new)[:, stay], np.asarray(old)[:, stay], err_msg=name)
    assert "artefact" not in before.var
    if by_cell_type:
        assert not after.obsm["largest_counts"][:, gone].any()
    else:
        assert not after.varm["disease_barcodes"][gone].any()


def test_a_latent_that_somebody_finds_meaningful_elsewhere_is_no_artefact(
    make_store: Callable[..., TokenStore],
) -> None:
    tokens = torch.randn(CELLS, 7, 8, generator=torch.Generator().manual_seed(0))
    folder = encoded(make_store(tokens, **COLUMNS, dataset=["a"] * 20 + ["b"] * 28))
    said = {"a": {1: "artefact", 3: "artefact"}, "b": {3: "meaningful", 4: "cannot tell"}}
    add_columns(
        folder,
        "var",
        lambda var, name: {
            "verdict": pd.Series(pd.Categorical([said[name].get(one) for one in range(LATENTS)]), var.index)
        },
    )
    assert artefact_latents([folder / "concepts"]).tolist() == [1]
    assert artefact_latents([folder / "concepts"], ["a"]).tolist() == [1, 3]


def test_verdicts_make_the_barcodes_of_a_study_stale_only_where_they_count(store: TokenStore) -> None:
    folder = encoded(store)
    for config in (BarcodeConfig(), LEFT_OUT):
        judged(folder, {2: "artefact"})
        stages.barcodes(folder, config).update()
        assert stages.barcodes(folder, config).why_stale() is None
        judged(folder, {7: "artefact"})
        assert (stages.barcodes(folder, config).why_stale() is None) == (config == BarcodeConfig())
    stages.barcodes(folder, LEFT_OUT).update()
    data = read_barcodes(folder / "cohort" / "barcodes.h5ad")
    assert np.flatnonzero(data.var["artefact"]).tolist() == [7]


def test_the_block_of_a_refined_autoencoder(store: TokenStore) -> None:
    folder = encoded(store, block=[3, 11])
    (dataset,) = store.cells["dataset"].unique()
    var = read_concepts(folder / "concepts", dataset, matrices=False).var
    assert np.flatnonzero(var["artefact"]).tolist() == [3, 11]
    assert artefact_latents([folder / "concepts"]).tolist() == [3, 11]
