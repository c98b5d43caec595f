"""Folds from files: tables, JSON, and folders as published."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from cytosae.cohort import fold_column, given_folds
from cytosae.errors import CytosaeError
from support.cohorts import cohort

DATA = cohort(n=12)
EXPECTED = [f"data_fold_{i % 3}" if i < 9 else None for i in range(12)]


def published(folder: Path, patients: list[list[str]]) -> Path:
    """Folds in the layout of marrlab/GenBloom, ``splits/aml_hehr/folds``."""
    for fold, names in enumerate(patients):
        inside = folder / f"data_fold_{fold}"
        inside.mkdir(parents=True)
        pd.DataFrame({"patient_name": names, "labels": 0}).to_csv(inside / "test.csv", index=False)
        for part in ("train", "val"):
            pd.DataFrame({"patient_name": ["P0", "P1"], "labels": 0}).to_csv(inside / f"{part}.csv", index=False)
    pd.DataFrame({"label_name": ["SCD"], "label_id": [4]}).to_csv(folder / "label_to_diagnose.csv", index=False)
    return folder


def test_the_same_folds_in_every_form(tmp_path: Path) -> None:
    tests = [[f"P{i}" for i in range(fold, 9, 3)] + ["unknown"] * (fold == 0) for fold in range(3)]
    forms = {
        "folds": published(tmp_path / "folds", tests),
        "folds.csv": tmp_path / "folds.csv",
        "folds.json": tmp_path / "folds.json",
    }
    rows = [(name, f"data_fold_{fold}") for fold, names in enumerate(tests) for name in names]
    pd.DataFrame([*rows, ("P10", None)], columns=["patient_id", "fold"]).to_csv(forms["folds.csv"], index=False)
    forms["folds.json"].write_text(json.dumps({f"data_fold_{fold}": names for fold, names in enumerate(tests)}))
    for name, path in forms.items():
        column, title = fold_column(DATA, str(path))
        assert title == name
        assert column.tolist() == EXPECTED
    codes = DATA.obs["diagnosis"].cat.codes.to_numpy()
    folds = given_folds(column, codes, DATA.obs["patient"].tolist(), title)
    assert folds.names == ("data_fold_0", "data_fold_1", "data_fold_2")
    assert (folds.row_folds[0, 9:] == -1).all()
    assert "3 patients have no value" in folds.caveats[-1]


def test_a_column_goes_before_a_file() -> None:
    column, title = fold_column(DATA, "laboratory")
    assert title == "laboratory"
    assert column.tolist() == DATA.obs["laboratory"].tolist()


def test_files_that_are_no_folds_are_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    one = published(tmp_path / "one", [["P0"]])
    twice = published(tmp_path / "twice", [["P0", "P1"], ["P1"]])
    others = published(tmp_path / "others", [["ABF"], ["AEC"]])
    broken = tmp_path / "broken.json"
    broken.write_text("[1, 2]")
    letters, cut = tmp_path / "letters.json", tmp_path / "cut.json"
    letters.write_text('{"0": ["P0"], "1": "P1"}')
    cut.write_text('{"0": ["P0"')
    for content, text in (("patient,part\nP0,1\n", "no column 'fold'"), ("name,fold\nP0,1\n", "no column of patients")):
        wrong.write_text(content)
        with pytest.raises(CytosaeError, match=text):
            fold_column(DATA, str(wrong))
    for path, text in (
        (one, "1 folders with a test.csv"),
        (twice, "'P1' is in folds 'data_fold_0' and 'data_fold_1'"),
        (others, "none of its 2 patients, such as 'ABF'"),
        (broken, r'expected \{"0": .*found a list of 2 entries'),
        (letters, "found no list of names for fold '1'"),
        (cut, "not readable as JSON"),
        (tmp_path / "none", "no such file or folder, nor a column"),
    ):
        with pytest.raises(CytosaeError, match=text):
            fold_column(DATA, str(path))
