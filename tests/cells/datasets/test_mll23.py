"""MLL23, on a miniature of its published layout."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from cytosae.artefacts import read_json
from cytosae.cells import COLUMNS
from cytosae.cells.datasets import find, prepare
from cytosae.cells.datasets.preparation import NO_CLASS, NO_IMAGE
from cytosae.cells.walk import HIDDEN
from cytosae.cli.commands import app
from support.published import ask, images_by_code, mll23, odd_files, picture, table


def test_mll23(tmp_path: Path) -> None:
    source = mll23(tmp_path / "MLL23_dataset")
    (source / "smudge_cell").mkdir()  # a class folder that is empty
    picture(source / "martian" / "martian_0001.TIF")  # one of no class
    odd = odd_files(source)
    summary = ask("prepare", "mll23", source, "-o", tmp_path / "out")
    cells = table(tmp_path / "out")
    assert Counter(cells["label"]) == dict.fromkeys(["basophil", "myeloblast", "erythroblast", "band_neutrophil"], 2)
    assert set(cells["code"]) == {"basophil", "myeloblast", "normoblast", "neutrophil_band"}
    assert cells["cell_id"].iloc[0] == "mll23/basophil/basophil_0001.TIF"
    assert (cells["dataset"] == "mll23").all()
    assert list(cells.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert len(summary["missing"]) == 14
    assert "smudge_cell" in summary["missing"]
    assert summary["classes"][0] == {"code": "basophil", "label": "basophil", "found": 2, "published": 616}
    assert summary["unknown_folders"] == {"MLL23_dataset/martian": 1}
    assert summary["left_out"] == {HIDDEN: 4, NO_CLASS: 1, NO_IMAGE: 1}
    left = pd.read_csv(tmp_path / "out" / "left_out.csv")
    assert len(left) == odd + 1
    assert "martian_0001.TIF" in left["path"].iloc[left["reason"].tolist().index(NO_CLASS)]
    written = read_json(tmp_path / "out" / "dataset.json")
    assert {key: summary[key] for key in written} == written
    assert written["licence"] == "CC BY 4.0"
    text = CliRunner().invoke(app, ["datasets", "prepare", "mll23", str(source), "-o", str(tmp_path / "out")]).output
    assert "2 of 616" in text
    assert "1 images in 'MLL23_dataset/martian' are of no published class" in text
    for path in pd.read_csv(tmp_path / "out" / "left_out.csv")["path"]:
        shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
    assert ask("prepare", "mll23", source, "-o", tmp_path / "out")["left_out"] == {}
    assert not (tmp_path / "out" / "left_out.csv").exists()


@pytest.mark.parametrize("inside", ["", "MLL23_dataset", "MLL23_dataset/basophil"])
def test_a_level_too_high_or_too_low(tmp_path: Path, inside: str) -> None:
    mll23(tmp_path / "download" / "MLL23_dataset")
    prepare(find("mll23"), tmp_path / "download" / inside, tmp_path / "out")
    cells = table(tmp_path / "out")
    assert set(cells["code"]) == ({"basophil"} if inside.endswith("basophil") else {
        "basophil", "myeloblast", "normoblast", "neutrophil_band"
    })  # fmt: skip
    assert "mll23/basophil/basophil_0001.TIF" in set(cells["cell_id"])  # the same wherever it lies


def test_the_innermost_class_folder_counts(tmp_path: Path) -> None:
    source = mll23(tmp_path / "monocyte")  # somebody's name for the whole
    assert "monocyte" not in images_by_code(ask("prepare", "mll23", source, "-o", tmp_path / "out"))
