"""Acevedo, on a miniature of its published layout and on the real cells."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cytosae.cells import datasets as published
from cytosae.cells.datasets import find
from support.published import acevedo, ask, picture, table


@pytest.mark.parametrize(("classes", "labels", "unlabelled"), [(8, 8, 0), (None, 11, 2), (13, 13, 0)])
def test_acevedo(tmp_path: Path, classes: int | None, labels: int, unlabelled: int) -> None:
    source = acevedo(tmp_path / "in")
    pbc = source / "PBC_dataset_normal_DIB"
    picture(pbc / "platelet" / "UNHEARD_1.jpg")
    (pbc / "basophil" / "BA_8.jpg").rename(pbc / "basophil" / "BA_8.JPG")
    option = () if classes is None else ("--classes", classes)
    summary = ask("prepare", "acevedo", source, "-o", tmp_path / "out", *option)
    cells = table(tmp_path / "out").set_index("cell_id")
    assert len(cells) == 14
    assert cells["label"].nunique() == labels
    assert summary["unlabelled"] == unlabelled == cells["label"].isna().sum()
    assert cells["subtype"].nunique() == 13
    band = cells.loc["acevedo/neutrophil/BNE_1.jpg"]
    assert (band["code"], band["subtype"]) == ("BNE", "band_neutrophil")
    assert band["label"] == ("neutrophil" if classes == 8 else "band_neutrophil")
    assert summary["missing"] == []
    assert summary["unknown_folders"] == {"in/PBC_dataset_normal_DIB/platelet": 1}


def test_real_cells_of_acevedo_have_the_labels_that_the_project_knows(real_cells: Path, tmp_path: Path) -> None:
    known = pd.read_csv(real_cells / "cells.csv").query("dataset == 'pbc'").set_index("path")
    cells = find("acevedo").read(published.Tree.below(real_cells / "pbc"), tmp_path, 8).cells
    assert len(cells) == 8191
    ours = cells.set_index("pbc/" + cells["cell_id"].str.split("/", n=1).str[1]).reindex(known.index)
    for column in ("label", "subtype"):
        assert ours[column].tolist() == known[column].tolist()
