"""Excel workbooks, read as the spreadsheet shows them."""

from __future__ import annotations

import builtins
import datetime
from pathlib import Path
from typing import Any

import pytest

from cytosae.cells import list_cells
from support.sources import columns_of, refusal

openpyxl = pytest.importorskip("openpyxl")

HEADER = ["path", "label", "patient"]


def workbook(folder: Path, *rows: list[Any], sheet: str = "Cells") -> Any:
    book = openpyxl.Workbook()
    book.active.title = sheet
    for row in rows:
        book.active.append(row)
    return book


def saved(folder: Path, book: Any) -> Path:
    path = folder / "cells.xlsx"
    book.save(path)
    return path


def test_a_workbook_is_read_as_it_shows_its_values(folder: Path) -> None:
    book = workbook(
        folder,
        [*HEADER, "date", "age", "score"],
        ["a.png", True, 7, datetime.datetime(2024, 12, 31), 61, 0.25],
        ["b.png", "Stäbchen", "008", datetime.datetime(2024, 1, 2, 3, 4), None, 3.0],
        [None] * 6,
    )
    book.active["C2"].number_format = "000"
    listing = list_cells(saved(folder, book))
    cells = listing.cells
    assert columns_of(cells, "label", "patient") == [["TRUE", "Stäbchen"], ["007", "008"]]
    assert cells["date"].tolist() == ["2024-12-31", "2024-01-02 03:04:00"]
    assert (cells["age"].dropna().tolist(), cells["score"].tolist()) == ([61], [0.25, 3.0])


def test_a_merged_range_has_its_value_in_every_row(folder: Path) -> None:
    book = workbook(folder, HEADER, ["a.png", "x", "p"], ["b.png", "y", None])
    book.active.merge_cells("C2:C3")
    assert columns_of(list_cells(saved(folder, book)).cells, "patient") == [["p", "p"]]


def test_the_sheet_with_a_known_column_is_taken_and_the_others_are_named(folder: Path) -> None:
    book = workbook(folder, ["notes of 2024"], sheet="Notes")
    for row in (HEADER, ["a.png", "x", "p"]):
        book.create_sheet("Cells").append(row) if "Cells" not in book.sheetnames else book["Cells"].append(row)
    listing = list_cells(saved(folder, book))
    assert len(listing.cells) == 1
    assert any("'Cells' is read, and not 'Notes'" in remark for remark in listing.remarks)
    book.create_sheet("Other").append(HEADER)
    assert "'Cells'" in (message := refusal(saved(folder, book)))
    assert "more than one of them" in message


def test_hidden_rows_are_said(folder: Path) -> None:
    book = workbook(folder, HEADER, ["a.png", "x", "p"], ["b.png", "y", "q"])
    book.active.row_dimensions[3].hidden = True
    listing = list_cells(saved(folder, book))
    assert len(listing.cells) == 2
    assert any("1 rows that the sheet 'Cells' hides" in remark for remark in listing.remarks)


def test_what_cannot_be_known_is_refused(folder: Path) -> None:
    book = workbook(folder, HEADER, ["a.png", '=A2&"x"', "p"])
    assert "B2" in (message := refusal(saved(folder, book)))
    assert "formula" in message
    book = workbook(folder, HEADER, ["a.png", "x", 1234567890123456789])
    assert "without its last digits" in refusal(saved(folder, book))
    book = workbook(folder, HEADER, ["a.png", "#REF!", "p"])
    assert "row 2: row 1 has the error #REF!" in refusal(saved(folder, book)).replace("line 2", "row 2")
    assert "without any value" in refusal(saved(folder, openpyxl.Workbook()))


def test_a_damaged_workbook_is_named(folder: Path) -> None:
    path = saved(folder, workbook(folder, HEADER, ["a.png", "x", "p"]))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert str(path) in refusal(path)
    broken = bytearray(whole)
    sheet = whole.index(b"xl/worksheets/sheet1.xml") + 24
    broken[sheet + 10 : sheet + 60] = bytes(50)
    path.write_bytes(broken)
    assert "Save it again, or as 'CSV UTF-8'" in refusal(path)


def test_without_openpyxl_one_sentence_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(folder, workbook(folder, HEADER, ["a.png", "x", "p"]))
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "openpyxl":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert "pip install openpyxl" in refusal(path)
