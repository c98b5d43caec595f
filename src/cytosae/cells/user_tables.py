"""Tables as people have them, CSV of any origin, Excel or Parquet, read without losing a zero, a row or a column."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cytosae.cells.columns import COLUMNS, folded, is_identifier, known_names
from cytosae.cells.numbers import as_numbers, exact, is_no_number, typed, whole_with_gaps
from cytosae.cells.text_encoding import decoded
from cytosae.cells.values import visible
from cytosae.cells.workbooks import is_workbook, read_workbook
from cytosae.errors import CytosaeError

_SEPARATORS = ",;\t|"
_SPOKEN = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_PACKED: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ\x00": lzma.decompress,
}
_PARQUET = b"PAR1"
_AS_TEXT = re.compile(r'="((?:[^"]|"")*)"')
_EUROPEAN = re.compile(r"[+-]?([1-9][0-9]{0,2}(\.[0-9]{3})+|0|[1-9][0-9]*)(,[0-9]+)?")  # points between thousands
_NUMBERLIKE = re.compile(r"[+-]?[0-9][0-9.,]*")  # of some form, also one that can be read in two ways
_PREAMBLE = 10  # lines among which a header is looked for below a title
_SHOWN = 60  # characters of a line or a value that a message shows
_NAMED = 3  # rows that a message names


@dataclass
class RawTable:
    """A table as it stands in its file: columns of a CSV are text, those of Parquet have their types."""

    path: Path
    names: list[str]
    columns: list[pd.Series]
    lines: list[int] | None = None
    """Line of the file in which each row begins, or row of the sheet; None for Parquet."""
    remarks: list[str] = field(default_factory=list)
    """What a reader of the table has to know, a sentence each."""

    def row(self, index: int) -> str:
        """A row, as a person would look for it."""
        return f"row {index + 1}" if self.lines is None else f"line {self.lines[index]}: row {index + 1}"

    def frame(self) -> pd.DataFrame:
        """The table, with known columns and identifiers as text and columns of numbers as numbers."""
        if repeated := sorted({name for name in self.names if self.names.count(name) > 1}):
            numbers = [str(index + 1) for index, name in enumerate(self.names) if name == repeated[0]]
            raise CytosaeError(
                f"{self.path}: column {repeated[0]!r} occurs {len(numbers)} times (columns {', '.join(numbers)}). Rename or "
                "remove all but one."
            )
        pairs = zip(self.names, self.columns, strict=True)
        return pd.DataFrame({name: typed(name, values) for name, values in pairs})


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of CSV, Excel or Parquet; known columns and identifiers are text, see `RawTable.frame`.

    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    return read_raw(path).frame()


def read_raw(path: Path) -> RawTable:
    """Read a table as it stands in its file.

    Text may be UTF-8, UTF-16 or Windows-1252, its separator a comma, semicolon, tab or bar, and it may be packed by
    gzip, bzip2 or xz. Of an Excel workbook (.xlsx) the sheet is read that names a known column.

    Raises
    ------
    CytosaeError
        Not such a table, or a row has more or fewer fields than there are columns.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) == _PARQUET or path.suffix.lower() in {".parquet", ".pq"}:
                file.seek(0)
                return _from_parquet(path, pq.ParquetFile(file, page_checksum_verification=True).read())
        data = path.read_bytes()
        for mark, unpack in _PACKED.items():
            if data.startswith(mark):
                data = unpack(data)
    except (pa.ArrowException, OSError, EOFError, ValueError, lzma.LZMAError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CytosaeError(f"{path}: not a readable CSV, Excel or Parquet table ({first}).") from error
    if is_workbook(path, data):
        sheet = read_workbook(path, data, lambda names: any(folded(name) in known_names() for name in names))
        return _from_rows(path, sheet.rows, sheet.lines, sheet.remarks)
    text, encoding = decoded(path, data)
    table = _from_text(path, text)
    if encoding == "cp1252":
        example = next((word for word in re.split(r"[\s,;|]+", text) if not word.isascii()), "")
        table.remarks.append(
            f"{path.name} is not UTF-8 and was read as Windows-1252: if {example!r} is misspelt, save the table as "
            "'CSV UTF-8'"
        )
    return table


def _from_text(path: Path, text: str) -> RawTable:
    separator = None
    if declared := re.match(r"sep=(.)\r?\n", text):  # as Excel writes and reads it
        separator, text = declared[1], "\n" + text[declared.end() :]
    separator = separator or _separator(text)
    try:
        rows, lines, blank = _records(path, text, separator)
    except CytosaeError:  # only then, since it takes as long as reading
        if (bare := _without_spaces_after_quotes(text, separator)) == text:
            raise
        rows, lines, blank = _records(path, bare, separator)
    if rows:
        _check_first(path, text, rows[0], lines[0])
    remarks = [f"{path.name}: {blank:,} rows without any value are skipped"] if blank else []
    return _from_rows(path, rows, lines, remarks, separator)


def _from_rows(
    path: Path, rows: list[list[str]], lines: list[int], remarks: list[str], separator: str | None = None
) -> RawTable:
    """The table of rows of text, the first of which names the columns; `separator` is None for those of a workbook."""
    if not rows:
        raise CytosaeError(
            f"{path}: the table is empty. It needs a first line that names the columns, and a row for each entry."
        )
    names = [" ".join(visible(name).split()) for name in rows.pop(0)]
    _check_widths(path, rows, lines[1:], names, lines[0], separator)
    values = [[_shown(value) for value in column] for column in zip(*(row[: len(names)] for row in rows), strict=True)]
    columns = [pd.Series(column, dtype=object) for column in values or [[] for _ in names]]
    table = RawTable(path, names, columns, lines[1:], remarks)
    _with_points(table, separator in (";", "\t"))
    _name_columns(table)
    return table


def _shown(value: str) -> str | None:
    """A field as a spreadsheet shows it, by which ``="007"`` is the text 007."""
    text = value.strip()
    if quoted := _AS_TEXT.fullmatch(text):
        text = quoted[1].replace('""', '"').strip()
    return text or None


def _records(path: Path, text: str, separator: str) -> tuple[list[list[str]], list[int], int]:
    """The records that hold a value, the line in which each begins, and how many hold none."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    blank, begins = 0, 1
    try:
        for row in reader:
            if any(value.strip() for value in row):
                rows.append(row)
                lines.append(begins)
            elif rows and row:
                blank += 1
            begins = reader.line_num + 1
    except csv.Error as error:
        if "field limit" in str(error):
            raise CytosaeError(
                f"{path}: the record that begins in line {begins} holds a value of more than {csv.field_size_limit():,} "
                "characters. If a quote before it is not closed, close it; otherwise shorten the value or remove its column."
            ) from error
        raise CytosaeError(
            f"{path}: the record that begins in line {begins} cannot be read ({error}). A quote in it is not closed, or "
            "has text after it: a quote inside a value is written twice."
        ) from error
    return rows, lines, blank


def _without_spaces_after_quotes(text: str, separator: str) -> str:
    """The text without the spaces between a closing quote and the end of its field, which the csv module refuses."""
    end = re.escape(separator) + r"\r\n"
    field = re.compile(rf'( *"(?:[^"]|"")*+")( +)(?=[{end}]|\Z)|[^{end}]+|[{end}]')
    return field.sub(lambda match: match[1] or match[0], text)


def _separator(text: str) -> str:
    """The separator under which the first line names most known columns, and then most columns."""

    def names(separator: str) -> tuple[int, int]:
        head = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        try:
            header = next((row for row in head if any(name.strip() for name in row)), [])
        except csv.Error:
            header = []
        return sum(folded(name) in known_names() for name in header), len(header)

    return max(_SEPARATORS, key=names)


def _check_first(path: Path, text: str, header: list[str], first: int) -> None:
    """Refuse a title or a comment where the first line should name the columns, if a line below it does so."""
    names = [visible(name) for name in header]
    if any(folded(name) in known_names() for name in names):
        return
    needed = 1 if len(names) == 1 or names[0].startswith("#") else 2  # a value can have the name of a column
    lines = re.split(r"\r\n|\r|\n", text, maxsplit=first + _PREAMBLE)[: first + _PREAMBLE]
    for number, line in enumerate(lines[first:], first + 1):
        for separator in _SEPARATORS:
            fields = [folded(field.strip().strip('"')) for field in line.split(separator)]
            if len(fields) > 1 and sum(field in known_names() for field in fields) >= needed:
                raise CytosaeError(
                    f"{path}: line {first} is {lines[first - 1][:_SHOWN]!r}, which names no known column; line {number} "
                    f"does. Remove the lines before line {number}: the first line has to name the columns."
                )


def _check_widths(
    path: Path, rows: list[list[str]], lines: list[int], names: list[str], first: int, separator: str | None
) -> None:
    """Refuse rows with more or fewer fields than there are columns; empty fields at the end of a row do no harm."""
    width = len(names)
    wrong = [
        (line, len(row))
        for line, row in zip(lines, rows, strict=True)
        if len(row) < width or any(value.strip() for value in row[width:])
    ]
    if wrong:
        hint = ""
        if len(wrong) == len(rows) and all(fields > width for _, fields in wrong):
            hint = (
                f" If line {first} ({names[0][:_SHOWN]!r}) is a title or a comment, remove it: the first line has to name "
                "the columns."
            )
        named = ", ".join(f"line {line} has {fields}" for line, fields in wrong[:_NAMED])
        if separator is not None:
            spoken = _SPOKEN.get(separator, repr(separator))
            hint = f" Fields are separated by {spoken}; a value that holds one is put in double quotes.{hint}"
        raise CytosaeError(
            f"{path}: {len(wrong):,} of {len(rows):,} rows do not have {width} fields, as the header does: {named}.{hint}"
        )


def _with_points(table: RawTable, decimal: bool) -> None:
    """Numbers with a decimal comma, as European spreadsheets write them, get a point; others with a comma are named.

    Parameters
    ----------
    decimal
        Whether a comma is decimal; not where it can be the separator of the table.
    """
    for index, name in enumerate(table.names):
        values = table.columns[index]
        stated = values.dropna().loc[lambda text: ~text.map(is_no_number).astype(bool)]
        commas = stated[stated.str.contains(",", regex=False)]
        if folded(name) in COLUMNS or is_identifier(name) or commas.empty:
            continue
        european = stated.str.fullmatch(_EUROPEAN)
        points = stated.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
        if decimal and european.all() and as_numbers(points).dtype != object:
            table.columns[index] = values.where(~values.index.isin(points.index), points)
            grouped = commas[commas.str.contains(".", regex=False)]
            example = (commas if grouped.empty else grouped).index[0]
            table.remarks.append(
                f"column {name!r}: {stated[example]} is read as a decimal number"
                + ("" if grouped.empty else f", {points[example]}")
            )
        elif commas.str.fullmatch(_NUMBERLIKE).any() and 2 * int(stated.str.fullmatch(_NUMBERLIKE).sum()) >= len(
            stated
        ):
            odd = stated[~european] if decimal and not european.all() else commas
            table.remarks.append(
                f"column {name!r} stays text: {odd.iloc[0][:_SHOWN]!r} cannot be read as a number for certain"
            )


def _name_columns(table: RawTable) -> None:
    """Drop columns that have neither a name nor a value, and name those that have a value."""
    named = [
        (index, name, values)
        for index, (name, values) in enumerate(zip(table.names, table.columns, strict=True), 1)
        if name or values.notna().any()
    ]
    for index, name, _ in named:
        if not name:
            table.remarks.append(f"column {index} has no name and is kept as 'column_{index}'")
    table.names = [name or f"column_{index}" for index, name, _ in named]
    table.columns = [values for _, _, values in named]


def _from_parquet(path: Path, stored: pa.Table) -> RawTable:
    table = RawTable(path, [], [])
    for name, column in zip(stored.column_names, stored.columns, strict=True):
        if re.fullmatch(r"__index_level_\d+__", name) and pa.types.is_integer(column.type):
            continue  # the numbers of rows, which pandas stores where some were removed
        table.names.append(" ".join(visible(name).split()))
        table.columns.append(_from_arrow(path, name, column))
    _name_columns(table)
    return table


def _from_arrow(path: Path, name: str, column: pa.ChunkedArray) -> pd.Series:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_integer(kind):
        if not column.null_count:
            return column.to_pandas()
        return pd.Series(column.to_pylist(), dtype="UInt64" if pa.types.is_unsigned_integer(kind) else "Int64")
    if pa.types.is_decimal(kind):
        return exact(name, column.to_pylist())
    if pa.types.is_floating(kind):
        return whole_with_gaps(column.cast(pa.float64()).to_pandas())
    if pa.types.is_temporal(kind):
        values = column.to_pandas()
        return values.astype(str).astype(object).where(values.notna(), None)
    if not (_is_text(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        raise CytosaeError(
            f"{path}: column {name!r} holds values of the type {str(kind)[:60]}, which a table of cells cannot keep. Remove "
            "the column, or turn it into text or numbers."
        )
    values = [None if value is None else str(value).strip() or None for value in column.to_pylist()]
    for index, value in enumerate(values):
        if value is not None and "\0" in value:
            raise CytosaeError(f"{path}: row {index + 1} of column {name!r} holds a zero byte. Remove it.")
    return pd.Series(values, dtype=object)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def spellings(name: str) -> list[str]:
    """Other ways to write a path that lead to the same file on another system: slashes, composed letters, %20, ~."""
    slashed = name.replace("\\", "/")
    meant = [slashed, unquote(slashed), *([os.path.expanduser(slashed)] if slashed.startswith("~/") else [])]  # noqa: PTH111
    return [*meant, *(unicodedata.normalize(form, one) for one in meant for form in ("NFC", "NFD"))]
