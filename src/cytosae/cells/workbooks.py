"""Excel workbooks (.xlsx) as rows of text, each value as the spreadsheet shows it to a person."""

from __future__ import annotations

import datetime
import io
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytosae.errors import CytosaeError, in_short

ZIP = b"PK\x03\x04"
_XLSX, _XLSB = "xl/workbook.xml", "xl/workbook.bin"
_LARGEST = 2_000_000_000
"""Bytes of a workbook when it is unpacked."""
_EXACT = 10**15  # a spreadsheet keeps 15 digits of a number
_ZEROS = re.compile(r"0{2,}")


@dataclass
class Sheet:
    """The sheet of a workbook that is the table."""

    rows: list[list[str]]
    lines: list[int]
    """Row of the sheet of each of these, from 1."""
    remarks: list[str] = field(default_factory=list)


def is_workbook(path: Path, data: bytes) -> bool:
    """Whether the content of a file is a workbook that `read_workbook` reads.

    Raises
    ------
    CytosaeError
        It is a binary workbook.
    """
    if not data.startswith(ZIP):
        return False
    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False
    if _XLSB in names:
        raise CytosaeError(f"{path}: is a binary Excel workbook (.xlsb). Save it as .xlsx or as 'CSV UTF-8'.")
    return _XLSX in names


def read_workbook(path: Path, data: bytes, has_header: Callable[[Sequence[str]], bool]) -> Sheet:
    """The rows of the sheet that is the table: the only one that holds anything, or the only one with a known column.

    Numbers that the sheet shows with leading zeros keep them, a merged range has its value in every field, dates are
    written as 2024-12-31, and logical values as TRUE and FALSE.

    Parameters
    ----------
    path
        For messages.
    data
        The file's bytes.
    has_header
        Whether a first row names a known column.

    Raises
    ------
    CytosaeError
        Damaged, protected by a password, several sheets that may be meant, formulas without a value, or openpyxl is
        not installed.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise CytosaeError(
            f"{path}: is an Excel workbook, and openpyxl, which reads it, is not installed. Install it with "
            "`pip install openpyxl`, or save the table as 'CSV UTF-8'."
        ) from None
    try:
        if sum(entry.file_size for entry in zipfile.ZipFile(io.BytesIO(data)).infolist()) > _LARGEST:
            raise CytosaeError(f"{path}: a workbook of more than {_LARGEST / 1e9:g} GB. Save the table as 'CSV UTF-8'.")
        shown = load_workbook(io.BytesIO(data), data_only=True)
        formulas = load_workbook(io.BytesIO(data))
    except CytosaeError:
        raise
    except Exception as error:  # of a damaged workbook openpyxl raises whatever comes
        raise CytosaeError(
            f"{path}: a damaged Excel workbook ({in_short(error)}). Save it again, or as 'CSV UTF-8'."
        ) from error
    name, remarks = _chosen(path, shown, has_header)
    rows, lines = _rows(shown[name])
    _refuse_unknown_formulas(path, formulas[name], shown[name])
    hidden = sum(1 for line in lines if shown[name].row_dimensions[line].hidden)
    if hidden:
        remarks.append(f"{path.name}: {hidden:,} rows that the sheet {name!r} hides are read too")
    return Sheet(rows, lines, remarks)


def _chosen(path: Path, workbook: Any, has_header: Callable[[Sequence[str]], bool]) -> tuple[str, list[str]]:
    """Name of the sheet that is the table."""
    filled = [sheet.title for sheet in workbook.worksheets if any(map(any, sheet.iter_rows(values_only=True)))]
    if not filled:
        raise CytosaeError(f"{path}: a workbook without any value. It needs a sheet whose first row names the columns.")
    if len(filled) == 1:
        return filled[0], []
    known = [name for name in filled if has_header(_rows(workbook[name])[0][0])]
    if len(known) != 1:
        which = "more than one of them names" if known else "none of them names"
        raise CytosaeError(
            f"{path}: has the sheets {', '.join(map(repr, filled))}, and {which} a known column in its first row. Keep one "
            "sheet, or save the one that is the table as 'CSV UTF-8'."
        )
    others = ", ".join(repr(name) for name in filled if name != known[0])
    return known[0], [f"{path.name}: the sheet {known[0]!r} is read, and not {others}"]


def _rows(sheet: Any) -> tuple[list[list[str]], list[int]]:
    """Rows with a value, without the empty fields behind the last column that has one; and the number of each."""
    merged = {
        (row, column): sheet.cell(area.min_row, area.min_col)
        for area in sheet.merged_cells.ranges
        for row in range(area.min_row, area.max_row + 1)
        for column in range(area.min_col, area.max_col + 1)
    }
    rows, lines = [], []
    for cells in sheet.iter_rows():
        row = [_text(merged.get((cell.row, cell.column), cell)) for cell in cells]
        if any(row):
            rows.append(row)
            lines.append(cells[0].row)
    width = max((index + 1 for row in rows for index, value in enumerate(row) if value), default=0)
    return [row[:width] for row in rows], lines


def _text(cell: Any) -> str:
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return _number(value, str(cell.number_format))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    return str(value).strip()


def _number(value: float, shown_as: str) -> str:
    if abs(value) >= _EXACT:
        return f"{value:.14E}"  # as the spreadsheet shows it, with the digits that it has
    if value != int(value):
        return repr(value)
    return f"{int(value):0{len(shown_as)}d}" if _ZEROS.fullmatch(shown_as) else str(int(value))


def _refuse_unknown_formulas(path: Path, formulas: Any, shown: Any) -> None:
    for row in formulas.iter_rows():
        for cell in row:
            if cell.data_type == "f" and shown[cell.coordinate].value is None:
                raise CytosaeError(
                    f"{path}: the field {cell.coordinate} of the sheet {formulas.title!r} is a formula whose value is not "
                    "stored. Open the workbook in a spreadsheet and save it, or save the table as 'CSV UTF-8'."
                )
