"""Where cells come from: a table, a folder of class folders, a folder of images."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cytosae.cells.images import SUFFIXES
from cytosae.errors import CytosaeError
from cytosae.storage import address, below

COLUMNS = ("cell_id", "path", "dataset", "label", "patient", "diagnosis", "split", "mask")
"""Columns that later stages understand; others are kept as they are."""

_TEXT = COLUMNS


def read_source(source: Path) -> pd.DataFrame:
    """List the cells of a source without opening an image.

    Parameters
    ----------
    source
        A CSV or Parquet table with a column ``path`` (relative paths count from the table's folder, URLs are taken as
        they are), a folder of class folders, or a folder of images; all of these at a URL too.

    Returns
    -------
    A table with all of `COLUMNS` (missing values where unknown), ``path`` and ``mask`` absolute or URLs, others kept.

    Raises
    ------
    CytosaeError
        The source does not exist, is empty, has no ``path`` column, or repeats a cell id.
    """
    if source.is_dir():
        cells = _from_folder(source)
    elif source.is_file():
        cells = _from_table(source)
    else:
        raise CytosaeError(f"{source}: no such file or folder. Give a CSV or Parquet table or a folder of images.")
    return _complete(cells, source)


def _from_folder(folder: Path) -> pd.DataFrame:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and _visible(path, folder))
    if not files:
        raise CytosaeError(
            f"{folder}: holds no image ({', '.join(sorted(SUFFIXES))}). Give a folder of images, a folder of class "
            "folders, or a table."
        )
    parts = [path.relative_to(folder).parts for path in files]
    return pd.DataFrame(
        {
            "cell_id": ["/".join(part) for part in parts],
            "path": [address(path) for path in files],
            "label": [part[0] if len(part) > 1 else None for part in parts],
        }
    )


def _visible(path: Path, folder: Path) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet table, all known columns as text; a clear error where it is neither."""
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=dict.fromkeys(_TEXT, "str"), keep_default_na=False, na_values=[""])
    except pd.errors.EmptyDataError:
        raise CytosaeError(f"{path}: the table is empty. It needs at least the column 'path' and one row.") from None
    except (ValueError, OSError, pd.errors.ParserError) as error:
        first = str(error).splitlines()[0]
        raise CytosaeError(f"{path}: not a readable CSV or Parquet table ({first}).") from error


def _from_table(path: Path) -> pd.DataFrame:
    cells = read_table(path)
    if "path" not in cells:
        raise CytosaeError(
            f"{path}: has no column 'path' (found: {', '.join(map(str, cells.columns)) or 'none'}). Name the column "
            "of image files 'path'; known columns are " + ", ".join(COLUMNS) + "."
        )
    if cells.empty:
        raise CytosaeError(f"{path}: the table is empty. It needs at least one row.")
    if cells["path"].isna().any():
        row = int(cells["path"].isna().to_numpy().argmax())
        raise CytosaeError(f"{path}: row {row + 1} has no path. Fill it in or remove the row.")
    cells = cells.copy()
    given = cells["path"].astype(str)
    if "cell_id" not in cells:
        cells["cell_id"] = given
    for column in ("path", "mask"):
        if column in cells:
            cells[column] = [_absolute(value, path.parent) for value in cells[column]]
    return cells


def _absolute(value: object, folder: Path) -> str | None:
    return None if pd.isna(value) else below(folder, str(value))  # type: ignore[call-overload]


def _complete(cells: pd.DataFrame, source: Path) -> pd.DataFrame:
    name = source.absolute().name if source.is_dir() else source.absolute().parent.name
    for column in COLUMNS:
        if column not in cells:
            cells[column] = None
        cells[column] = cells[column].astype("string")
    cells["dataset"] = cells["dataset"].fillna(name or "cells")
    if cells["cell_id"].isna().any():
        row = int(cells["cell_id"].isna().to_numpy().argmax())
        raise CytosaeError(f"{source}: row {row + 1} has no cell_id. Fill it in, or leave the whole column out.")
    repeated = cells["cell_id"][cells["cell_id"].duplicated()].unique()
    if len(repeated):
        shown = ", ".join(repeated[:3])
        raise CytosaeError(
            f"{source}: {len(repeated)} cell id(s) occur more than once ({shown}). Every cell needs its own; "
            "without a column 'cell_id' the path is used."
        )
    unknown = [column for column in cells.columns if column not in COLUMNS]
    return cells[[*COLUMNS, *unknown]].reset_index(drop=True)
