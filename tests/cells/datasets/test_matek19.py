"""Matek 2019, on a miniature of its published layout."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cytosae.cells import list_cells
from cytosae.cells.datasets import find, prepare
from cytosae.cells.datasets.preparation import NO_CLASS
from support.published import ask, picture, refused, table


def test_matek19(tmp_path: Path) -> None:
    source = tmp_path / "PKG - AML-Cytomorphology"
    cells_folder = source / "AML-Cytomorphology"
    for name in ("BAS/BAS_0001.tiff", "EBO/EBO_0014.tiff", "MYO/MYO_0001.tiff", "NGS/NGS_0001.TIFF"):
        picture(cells_folder / name, edge=40, mode="RGBA")
    picture(source / "data" / "augmented" / "BAS" / "BAS_0001_r90.tiff")
    (source / "annotations.dat").write_text(
        "BAS/BAS_0001.tiff BAS UNC UNC\nEBO/EBO_0014.tiff EBO LYT EBO\nMYO/MYO_0001.tiff MYB nan nan\n"
        "NGS/NGS_0001.tiff NGS nan nan\n"
    )
    (source / "abbreviations.txt").write_text("BAS Basophil\n")
    summary = ask("prepare", "matek19", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out").set_index("code")
    assert cells["label"].to_dict() == {
        "BAS": "basophil", "EBO": "erythroblast", "MYO": "myeloblast", "NGS": "segmented_neutrophil"
    }  # fmt: skip
    assert cells.loc["BAS", "reannotation_first"] == "not_assigned"
    assert cells.loc["EBO", ["annotation", "reannotation_first", "reannotation_second"]].tolist() == [
        "erythroblast", "lymphocyte", "erythroblast"
    ]  # fmt: skip
    assert pd.isna(cells.loc["NGS", "reannotation_first"])
    assert cells.loc["NGS", "annotation"] == "segmented_neutrophil"
    assert summary["notes"] == ["1 images lie in the folder of another class than annotations.dat says"]
    assert summary["left_out"] == {NO_CLASS: 1}  # the augmented copy; annotations and abbreviations are known
    listing = list_cells(tmp_path / "out" / "cells.csv")  # the alpha channel is no obstacle
    assert (len(listing.cells), len(listing.rejected)) == (4, 0)

    # One level too low the annotations lie beside the source.
    prepare(find("matek19"), cells_folder, tmp_path / "low")
    assert table(tmp_path / "low")["reannotation_first"].notna().sum() == 2
    (source / "annotations.dat").write_text("BAS/BAS_0001.tiff BAS\n")
    assert "row 1 has 2 columns instead of 4" in refused("prepare", "matek19", source, "-o", tmp_path / "out")
    (source / "annotations.dat").unlink()
    assert "annotations.dat is not there" in ask("prepare", "matek19", source, "-o", tmp_path / "out")["notes"][0]
