"""Which concepts are the stain's: measured on a study, kept in `var`, used by barcodes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytosae.analysis import stain_response
from cytosae.cells import RESPONSES, load_squashed, read_cells
from cytosae.cohort import read_barcodes, restricted
from cytosae.concepts import passport, read_concepts
from cytosae.concepts.response import MORPHOLOGY, STAIN
from cytosae.errors import CytosaeError
from cytosae.settings import StainConfig
from support.studies import SET


def test_pictures_of_a_cell_are_of_that_cell(drawn_study: Path) -> None:
    pixels = load_squashed(Path(read_cells(drawn_study / "cells.parquet")["path"][0]), 224)
    for changes in RESPONSES.values():
        for name, change in changes.items():
            after = change(pixels)
            assert after.shape == pixels.shape, name
            assert after.dtype == np.uint8, name
            assert not np.array_equal(after, pixels), name
            if name != "turned":
                assert np.corrcoef(after.ravel(), pixels.ravel())[0, 1] > 0.6, name


def test_every_latent_gets_a_word_and_barcodes_a_filter(drawn_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(drawn_study, tmp_path / "study"))
    barcodes = study / "cohort" / "barcodes.h5ad"
    with pytest.raises(CytosaeError, match="cytosae stain-response"):
        restricted(read_barcodes(barcodes), barcodes, "morphology")
    result = stain_response(study, StainConfig(cells=20))
    (counts,) = result["datasets"].values()
    var = read_concepts(study / "concepts", SET, matrices=False).var
    words = var["stain_response"].astype(object)
    assert counts["cells"] == 20
    assert sum(counts[word] for word in (MORPHOLOGY, "mixed", STAIN, "not seen")) == len(var)
    known = words.notna().to_numpy()
    shares = var.loc[known, ["stain_share", "cell_share"]].to_numpy(float)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (var.loc[words == MORPHOLOGY, "stain_share"] < 0.2).all()
    table = pd.read_csv(study / "stain_response" / "stain_response.csv")
    assert np.allclose(table[["cell_of_all", "stain_of_all", "optics_of_all"]].sum(axis=1), 1)
    kept = restricted(read_barcodes(barcodes), barcodes, "morphology")
    assert np.flatnonzero(np.asarray(kept.X).any(axis=0)).tolist() == [
        latent
        for latent in np.flatnonzero((words == MORPHOLOGY).to_numpy()).tolist()
        if np.asarray(read_barcodes(barcodes).X)[:, latent].any()
    ]
    latent = int(np.flatnonzero(known)[0])
    assert passport(study, latent)["datasets"][SET]["stain_response"] == words.iloc[latent]
    before = (study / "stain_response" / "stain_response.csv").read_bytes()
    stain_response(study, StainConfig(cells=20))
    assert (study / "stain_response" / "stain_response.csv").read_bytes() == before


def test_an_image_that_has_gone_is_named(drawn_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(drawn_study, tmp_path / "study"))
    cells = read_cells(study / "cells.parquet")
    for path in cells["path"]:
        if Path(path).is_relative_to(study):
            Path(path).unlink()
    if not any(Path(path).is_relative_to(study) for path in cells["path"]):
        pytest.skip("the images lie elsewhere")
    with pytest.raises(CytosaeError, match="an image of the study cannot be read"):
        stain_response(study, StainConfig(cells=20))
