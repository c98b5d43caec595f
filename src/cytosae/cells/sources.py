"""Where cells come from: a table, a folder of class folders, a folder of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cytosae.cells.columns import COLUMNS, FILE_COLUMNS, folded, near, storable
from cytosae.cells.image_folder import cells_below, split_named
from cytosae.cells.numbers import is_absent
from cytosae.cells.user_tables import RawTable, read_raw, spellings
from cytosae.cells.values import READ_AS_TEXT, as_read, refuse_spoilt
from cytosae.cells.walk import printable
from cytosae.errors import CytosaeError
from cytosae.storage import below, resolve_path

_LEFT_OUT = ["cell_id", "path", "dataset", "reason"]


@dataclass(frozen=True)
class Source:
    """What a source lists, before any image is opened."""

    cells: pd.DataFrame
    """A row per image, with all of `COLUMNS`."""
    left_out: pd.DataFrame
    """Files of a folder that are no images: ``cell_id, path, dataset, reason``."""
    remarks: tuple[str, ...]
    """How the source was understood, where that is not plain."""
    default_name: str | None = None
    """The data set's name, where the folder alone gives it."""


def read_source(source: Path, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """List the cells of a source without opening an image.

    Parameters
    ----------
    source
        A table of CSV, Excel or Parquet with a column ``path`` (relative paths count from the table's folder, URLs are taken
        as they are), a folder of class folders, or a folder of images; all of these at a URL too.
    columns
        Name in the table of a known column, by known column; empty where the table has none.

    Returns
    -------
    A table with all of `COLUMNS` (missing values where unknown), ``path`` and ``mask`` absolute or URLs, others kept.

    Raises
    ------
    CytosaeError
        The source does not exist, is empty, has no ``path`` column, has a column that may be meant for a known one, or
        repeats a cell id.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    return survey(source, columns).cells


def check_source(source: Path) -> None:
    """Refuse a source that is not there: for what has long work to do before it reads the cells.

    Raises
    ------
    CytosaeError
        It is neither a file nor a folder, or its name is not UTF-8.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    if printable(str(source)) != str(source):
        raise CytosaeError(f"{printable(str(source))}: this name is not UTF-8. Rename the file or folder.")
    if not source.is_dir() and not source.is_file():
        raise CytosaeError(
            f"{source}: no such file or folder. Give a table of CSV, Excel or Parquet, or a folder of images."
        )


def survey(source: Path, columns: Mapping[str, str] | None = None, slides: bool = False) -> Source:
    """The same, with the files that are no images and how the source was understood; whole slides are images if asked."""
    check_source(source)
    if source.is_dir():
        if columns:
            raise CytosaeError(f"--column: {source} is a folder, whose folders give the columns. Give a table.")
        cells, left_out, remarks = cells_below(source, slides)
    else:
        cells, remarks = _from_table(source, dict(columns or {}))
        left_out = pd.DataFrame(columns=_LEFT_OUT)
    named = "dataset" in cells and bool(cells["dataset"].notna().any())
    cells, name = _complete(cells, source, remarks)
    left_out = left_out.assign(dataset=name)[_LEFT_OUT].astype("string")
    return Source(cells, left_out, tuple(remarks), None if named else name)


def chosen_columns(words: Sequence[str]) -> dict[str, str]:
    """Names of known columns from words such as ``label=cell_type``.

    Examples
    --------
    >>> chosen_columns(["label=cell_type"])
    {'label': 'cell_type'}
    """
    chosen: dict[str, str] = {}
    for word in words:
        known, equals, given = word.partition("=")
        if not equals or known.strip() not in COLUMNS:
            raise CytosaeError(
                f"--column {word}: expected KNOWN=YOURS, such as label=cell_type, or label= if the table has no labels; "
                f"known columns are {', '.join(COLUMNS)}."
            )
        chosen[known.strip()] = given.strip()
    return chosen


def _from_table(path: Path, columns: Mapping[str, str]) -> tuple[pd.DataFrame, list[str]]:
    table = read_raw(path)
    _name_known(table, columns)
    cells = table.frame()
    if cells.empty:
        raise CytosaeError(f"{path}: the table is empty. It needs at least one row.")
    for column in COLUMNS:
        if column in cells:
            refuse_spoilt(path, column, cells[column], (table.row(row) for row in range(len(cells))))
        if column in cells and column in READ_AS_TEXT:
            cells[column], remarks = as_read(column, cells[column])
            table.remarks += remarks
        elif column == "mask" and column in cells:
            cells[column] = cells[column].where(~is_absent(cells[column]), None)
    if "split" in cells and (odd := sorted({word for word in cells["split"].dropna() if split_named(word) is None})):
        table.remarks.append(
            f"split: {', '.join(odd[:3])} is no known split such as train, val or test: its cells are trained on"
        )
    if cells["path"].isna().any():
        row = int(cells["path"].isna().to_numpy().argmax())
        raise CytosaeError(f"{path}: {table.row(row)} has no path. Fill it in or remove the row.")
    if "cell_id" in cells and cells["cell_id"].isna().any():
        row = int(cells["cell_id"].isna().to_numpy().argmax())
        raise CytosaeError(f"{path}: {table.row(row)} has no cell_id. Fill it in, or leave the whole column out.")
    given = set(cells.columns)
    for column in ("path", "mask"):
        if column not in cells:
            continue
        spelt = [None if value is None else _spelt(value, path.parent) for value in cells[column]]
        if changed := [(a, b) for a, b in zip(cells[column], spelt, strict=True) if a != b]:
            table.remarks.append(f"{column}: {len(changed):,} names are read in another spelling, as {changed[0][1]!r}")
        if column == "path" and "cell_id" not in cells:
            cells["cell_id"] = spelt
        cells[column] = [None if name is None else below(path.parent, name) for name in spelt]
        if column == "path" and "cell_id" not in given:
            _refuse_repeated(path, cells)
    return cells, table.remarks


def _refuse_repeated(path: Path, cells: pd.DataFrame) -> None:
    """Refuse one file under two names, as its one name twice: where there is no column of ids, a file is one cell."""
    keys = [column for column in ("dataset", "path") if column in cells]
    repeated = cells[cells.duplicated(keys, keep=False)]
    for _, rows in repeated.groupby(keys, sort=False, dropna=False):
        if len(names := rows["cell_id"].unique()) > 1:
            raise CytosaeError(
                f"{path}: {names[0]!r} and {names[1]!r} are the same file. Remove all but one of the rows; or, if they are "
                "different cells, add a column 'cell_id' that tells them apart."
            )


def _name_known(table: RawTable, columns: Mapping[str, str]) -> None:
    """Give the known columns of a table their names, ask about those that may be meant, and free the names we need."""
    path, names = table.path, table.names
    for known, given in columns.items():
        if given:
            _take(table, known, given)
    for known in COLUMNS:
        alike = [name for name in names if folded(name) == known and name != known]
        if known in names:
            if alike:
                table.remarks.append(f"column {known!r} is read, and {alike[0]!r} is kept beside it under its own name")
            continue
        if len(alike) > 1:
            raise CytosaeError(
                f"{path}: columns {', '.join(map(repr, alike))} differ in capitals only. Remove all but one."
            )
        if alike and columns.get(known) != "":
            names[names.index(alike[0])] = known
            table.remarks.append(f"column {alike[0]!r} is taken as {known!r}")
    absent = [known for known in COLUMNS if known not in names and columns.get(known) != ""]
    meant = {known: alike for known in absent if (alike := near(known, names))}
    if "path" not in names:
        like = f" For {meant['path'][0]!r}, add --column 'path={meant['path'][0]}'." if "path" in meant else ""
        raise CytosaeError(
            f"{path}: has no column 'path' (found: {', '.join(names) or 'none'}). The first line names the columns; name "
            f"that of the image files 'path'.{like} Known columns are {', '.join(COLUMNS)}."
        )
    if meant:
        asked = "; ".join(
            f"no column {known!r}, but {' and '.join(map(repr, alike))}" for known, alike in meant.items()
        )
        yes = " ".join(f"--column '{known}={alike[0]}'" for known, alike in meant.items())
        no = " ".join(f"--column {known}=" for known in meant)
        raise CytosaeError(
            f"{path}: has {asked}. If this is what is meant, rename the column or add {yes}; if not, add {no} and the "
            "column is kept under its own name."
        )
    for name, better in storable(names, set(FILE_COLUMNS) <= set(names)).items():
        names[names.index(name)] = better
        table.remarks.append(f"column {name!r} is kept as {better!r}, since its name is taken or cannot be stored")


def _take(table: RawTable, known: str, given: str) -> None:
    """Let a column be a known one, as the user says."""
    names = table.names
    matching = [name for name in names if name == given] or [name for name in names if folded(name) == folded(given)]
    if len(matching) != 1:
        raise CytosaeError(
            f"--column {known}={given}: {table.path} has {len(matching) or 'no'} such columns (found: {', '.join(names)})."
        )
    values = table.columns[names.index(matching[0])]
    if known in names and matching[0] != known:
        names[names.index(known)] = f"given_{known}"
        table.remarks.append(f"column {known!r} is kept as 'given_{known}'")
    if matching[0] in COLUMNS:  # it keeps its own meaning too
        names.append(known)
        table.columns.append(values)
    else:
        names[names.index(matching[0])] = known


def _spelt(name: str, folder: Path) -> str:
    """A file's name as it is spelt on this machine, where only backslashes, composed letters, %20 or ~ differ."""
    if name.isascii() and not {*"\\%~"} & {*name}:
        return name
    if _exists(name, folder):
        return name
    return next((other for other in spellings(name) if other != name and _exists(other, folder)), name)


def _exists(name: str, folder: Path) -> bool:
    try:
        return resolve_path(below(folder, name)).exists()
    except OSError:  # too long a name
        return False


def _complete(cells: pd.DataFrame, source: Path, remarks: list[str]) -> tuple[pd.DataFrame, str]:
    """The table with all known columns, and the name of the data set where none is given."""
    name = (source.absolute().name if source.is_dir() else source.absolute().parent.name) or "cells"
    cells = cells.copy()
    for column in COLUMNS:
        if column not in cells:
            cells[column] = None
        cells[column] = cells[column].astype("string")
    cells["dataset"] = cells["dataset"].fillna(name)
    _make_unique(cells, source, remarks)
    unknown = [column for column in cells.columns if column not in COLUMNS]
    return cells[[*COLUMNS, *unknown]].reset_index(drop=True), name


def _make_unique(cells: pd.DataFrame, source: Path, remarks: list[str]) -> None:
    """Put the data set before the ids of cells where two data sets use the same ones."""
    repeated = cells["cell_id"].duplicated()
    if repeated.any() and not cells.duplicated(["dataset", "cell_id"]).any():
        qualified = cells["dataset"] + "/" + cells["cell_id"]
        if not qualified.duplicated().any():
            remarks.append(
                f"{int(repeated.sum()):,} cell ids are used by two data sets: all get their data set before them"
            )
            cells["cell_id"] = qualified
            return
    names = cells.loc[repeated, "cell_id"].unique()
    if len(names):
        raise CytosaeError(
            f"{source}: {len(names)} cell id(s) occur more than once ({', '.join(names[:3])}). Every cell needs its own; "
            "without a column 'cell_id' the path is used."
        )
