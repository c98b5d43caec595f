"""Values of known columns: what looks alike is one, what may be alike is said, what a spreadsheet spoilt is refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cytosae.cells import list_cells
from support.sources import columns_of, refusal, table

ROWS = "path,label,patient\na.png,{},{}\nb.png,{},{}\n"


def read(folder: Path, *values: str) -> tuple[list[list[str | None]], str]:
    """Labels and patients of two cells, and the remarks."""
    listing = list_cells(table(folder, ROWS.format(*values)))
    return columns_of(listing.cells, "label", "patient"), "\n".join(listing.remarks)


def test_what_looks_alike_is_one(folder: Path) -> None:
    values, said = read(folder, "Sta\u0308b", "Mu\u0308ller", "St\u00e4b\u200b", "\u202aM\u00fcller\x07")
    assert values == [["Stäb", "Stäb"], ["Müller", "Müller"]]
    assert "label: 2 values are read in composed letters" in said
    assert "patient: 2 values" in said


def test_headers_too(folder: Path) -> None:
    cells = list_cells(table(folder, "path\u200b,\ufefflabel\na.png,x\n")).cells
    assert columns_of(cells, "label") == [["x"]]


@pytest.mark.parametrize("word", ["na", "NONE", "Null", "n.a.", "--", "#n/a"])
def test_words_for_a_missing_value_in_any_capitals(folder: Path, word: str) -> None:
    values, said = read(folder, word, word, "x", "p")
    assert values == [[None, "x"], [None, "p"]]
    assert f"patient: 1 values count as missing ({word})" in said


def test_a_patient_called_unknown_is_said(folder: Path) -> None:
    values, said = read(folder, "x", "Unknown", "y", "p")
    assert values[1] == ["Unknown", "p"]
    assert "'Unknown' is taken for the name of a patient" in said


@pytest.mark.parametrize(
    ("one", "other"), [("P1", "p1"), ("7", "007"), ("7", "7.0"), ("P 1", "P  1"), ("\ufb01t", "fit")]
)
def test_patients_that_may_be_the_same_are_said(folder: Path, one: str, other: str) -> None:
    values, said = read(folder, "x", one, "y", other)
    assert sorted(filter(None, values[1])) == sorted([one, other])
    assert "taken for 2 different ones" in said


def test_labels_that_differ_in_capitals_are_said(folder: Path) -> None:
    _, said = read(folder, "Blast", "p", "blast", "q")
    assert "label: 'Blast' and 'blast' are taken for 2 different ones" in said
    assert "taken for" not in read(folder, "Blast", "p", "blasts", "q")[1]


def test_whole_numbers_that_a_program_wrote_with_a_point(folder: Path) -> None:
    values, said = read(folder, "x", "7.0", "y", "")
    assert values[1] == ["7", None]
    assert "'7.0'" in said


@pytest.mark.parametrize("error", ["#REF!", "#NAME?", "#VALUE!", "#DIV/0!"])
def test_errors_of_formulas_are_refused(folder: Path, error: str) -> None:
    message = refusal(table(folder, ROWS.format("x", "p", error, "q")))
    for word in ("line 3", error, "'label'", "formula"):
        assert word in message


@pytest.mark.parametrize("number", ["1.23457E+11", "1,2E+05"])
def test_identifiers_that_a_spreadsheet_rounded_are_refused(folder: Path, number: str) -> None:
    message = refusal(table(folder, ROWS.format("x", f'"{number}"', "y", "q")))
    for word in ("line 2", number, "'patient'", "as text"):
        assert word in message
    assert read(folder, "x", "1E5", "y", "INF")[0][1] == ["1E5", "INF"]


def test_text_as_a_spreadsheet_exports_it(folder: Path) -> None:
    assert read(folder, "x", '"=""007"""', "y", '"=""008"""')[0][1] == ["007", "008"]


def test_decimals_lose_no_digit(folder: Path) -> None:
    path = folder / "cells.parquet"
    patients = pa.array([Decimal(12345678901234567890), Decimal(2)], pa.decimal128(30, 0))
    pq.write_table(pa.table({"path": ["a.png", "b.png"], "patient": patients}), path)
    assert columns_of(list_cells(path).cells, "patient") == [["12345678901234567890", "2"]]


def test_floats_that_cannot_tell_patients_apart_are_refused(folder: Path) -> None:
    path = folder / "cells.parquet"
    pq.write_table(pa.table({"path": ["a.png", "b.png"], "patient": [2.0**60, 3.5]}), path)
    assert "without its last digits" in refusal(path)


@pytest.mark.parametrize("name", ["my%20cell.png", "file://{folder}/my%20cell.png"])
def test_names_of_files_as_in_addresses(folder: Path, name: str) -> None:
    (folder / "a.png").rename(folder / "my cell.png")
    listing = list_cells(table(folder, f"path\n{name.format(folder=folder)}\n"))
    assert listing.cells["path"].tolist() == [str(folder / "my cell.png")]


def test_two_spellings_of_a_column_are_said(folder: Path) -> None:
    listing = list_cells(table(folder, "path,label,Label\na.png,x,y\n"))
    assert any("'Label' is kept beside it" in remark for remark in listing.remarks)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "an image"),
        (b"SQLite format 3\0" + bytes(50), "a database"),
        (b"\x93NUMPY" + bytes(50), "an array of numpy"),
        (b"ARROW1\0\0" + bytes(50), "a Feather file"),
        (b'[{"path": "a.png"}]', "JSON"),
    ],
)
def test_files_of_other_kinds_are_named(folder: Path, content: bytes, words: str) -> None:
    assert words in refusal(table(folder, content))
