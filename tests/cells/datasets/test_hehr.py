"""Hehr, on a miniature of its published layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from cytosae.cells.datasets.preparation import NO_CLASS, NO_IMAGE
from support.published import ask, picture, refused, table

HEHR_TABLE = (
    "patient_id,sex_1f_2m,age,bag_label,instance_count,leucocytes_per_¬µl,pb_myeloblast\n"
    "AEC,1.0,61,PML_RARA,2,1200.0,40\n007,2.0,35,control,2,,0\nZZZ,2.0,50,NPM1,3,900,10\n"
)


def hehr(folder: Path) -> Path:
    for patient in ("PML_RARA/AEC", "control/007", "NPM1/AAA"):
        for number in (0, 10):
            picture(folder / "data" / patient / f"image_{number}.tif", edge=14)
    (folder / "metadata.csv").write_text(HEHR_TABLE, encoding="utf-8")
    return folder


@pytest.mark.parametrize("inside", ["", "data"])
def test_hehr(tmp_path: Path, inside: str) -> None:
    source = hehr(tmp_path / "hehr")
    (source / "data" / "control" / "007" / "fnl34_bn_features_layer_7.npy").write_bytes(b"features")
    picture(source / "data" / "BCR_ABL" / "QQQ" / "image_0.tif")
    summary = ask("prepare", "hehr", source / inside, "-o", tmp_path / "out")
    cells = table(tmp_path / "out")
    assert Counter(zip(cells["diagnosis"], cells["patient"], strict=True)) == {
        ("PML_RARA", "AEC"): 2, ("healthy", "007"): 2, ("NPM1", "AAA"): 2
    }  # fmt: skip
    assert cells["label"].isna().all()
    by_patient = cells.drop_duplicates("patient").set_index("patient")
    assert by_patient["sex"].dropna().to_dict() == {"AEC": "female", "007": "male"}
    assert by_patient.loc["AEC", ["age", "leucocytes_per_ul", "pb_myeloblast"]].tolist() == [61, 1200, 40]
    assert pd.isna(by_patient.loc["AAA", "age"])
    assert summary["diagnoses"] == {"NPM1": 2, "PML_RARA": 2, "healthy": 2}
    assert summary["patients"] == 3
    assert summary["missing"] == ["CBFB_MYH11", "RUNX1_RUNX1T1"]
    assert summary["left_out"] == {NO_CLASS: 1, NO_IMAGE: 1}
    assert summary["notes"] == [
        "1 patients are not in metadata.csv (first: AAA)",
        "1 patients of metadata.csv have no images (first: ZZZ)",
    ]


def test_hehr_folder_and_table_that_contradict(tmp_path: Path) -> None:
    source = hehr(tmp_path / "hehr")
    (source / "metadata.csv").write_text("patient_id,bag_label\nAEC,NPM1\n007,control\nAAA,NPM1\n")
    notes = ask("prepare", "hehr", source, "-o", tmp_path / "out")["notes"]
    assert notes == ["1 patients lie in the folder of another diagnosis (first: AEC)"]
    latin = "patient_id,leucocytes_per_µl\n007,4.5\n".encode("latin-1")
    (source / "metadata.csv").write_bytes(latin)
    ask("prepare", "hehr", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out")
    assert cells.loc[cells["patient"] == "007", "leucocytes_per_ul"].tolist() == [4.5, 4.5]
    (source / "metadata.csv").write_text("")
    assert "the table is empty" in refused("prepare", "hehr", source, "-o", tmp_path / "out")
    (source / "metadata.csv").write_text("name,age\nAEC,3\n")
    assert "no column 'patient_id' (found: name, age)" in refused("prepare", "hehr", source, "-o", tmp_path / "out")
