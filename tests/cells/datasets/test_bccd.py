"""BCCD, on a miniature of its published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cytosae.cells.datasets import find, prepare
from support.published import ask, bccd, table

SIZES = {"BloodImage_00000_0": (301, 301), "BloodImage_00001_0": (284, 224), "BloodImage_00002_0": (370, 238)}


def test_bccd(tmp_path: Path) -> None:
    source = bccd(tmp_path / "BCCD_Dataset-1.0")
    summary = ask("prepare", "bccd", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out").set_index("cell_id")
    assert len(cells) == 6
    assert cells["label"].isna().all()
    assert summary["notes"] == ["labels.csv is not there: white cells without their kinds"]
    for name, size in SIZES.items():
        assert Image.open(cells.loc[f"bccd/{name}", "path"]).size == size
    crop = np.asarray(Image.open(cells.loc["bccd/BloodImage_00000_0", "path"])).astype(int)
    # red is the column and green the row of the field: the crop is where its box is
    assert abs(crop[20, 10, 1] - (126 + 20)) < 12
    assert abs(crop[20, 10, 0] - (225 + 10)) < 12
    assert cells["split"].dropna().to_dict() == dict.fromkeys(
        ["bccd/BloodImage_00000_0", "bccd/BloodImage_00001_0"], "train"
    )

    (source / "labels.csv").write_text(
        ',Image,Category\n0,0,NEUTROPHIL\n1,1,\n2,2,EOSINOPHIL\n3,10,"NEUTROPHIL, NEUTROPHIL"\n'
        '4,103,"EOSINOPHIL, LYMPHOCYTE"\n'
    )
    kinds = (source / "labels.csv").read_text()
    (source / "labels.csv").write_text(kinds.replace('"NEUTROPHIL, NEUTROPHIL"', "NEUTROPHIL"))
    prepare(find("bccd"), source, tmp_path / "out")
    assert table(tmp_path / "out")["label"].notna().sum() == 2  # two boxes and one name say of neither what it is
    (source / "labels.csv").write_text(kinds)
    (source / "BCCD" / "Annotations" / "BloodImage_00002.xml").write_text("<annotation><object>")
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'
    (source / "BCCD" / "Annotations" / "BloodImage_00001.xml").write_text(bomb)
    summary = ask("prepare", "bccd", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out").set_index("cell_id")
    assert cells["label"].dropna().to_dict() == dict.fromkeys(
        ["bccd/BloodImage_00000_0", "bccd/BloodImage_00010_0", "bccd/BloodImage_00010_1"], "neutrophil"
    )
    assert cells.loc["bccd/BloodImage_00103_0", "image_category"] == "EOSINOPHIL, LYMPHOCYTE"
    assert [note.split(":")[0] for note in summary["notes"]] == [
        "BloodImage_00001 is left out", "BloodImage_00002 is left out"
    ]  # fmt: skip
    images = {path.name for path in (tmp_path / "out" / "images").iterdir() if path.suffix == ".png"}
    assert images == {f"{cell.split('/')[1]}.png" for cell in cells.index}  # nothing of the first run is left
