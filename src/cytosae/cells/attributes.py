"""What experts have noted about single cells: a table of attributes, joined to a list of cells."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cytosae.cells.columns import COLUMNS, folded
from cytosae.cells.user_tables import read_table
from cytosae.errors import CytosaeError

_MOST_VALUES = 30  # a column with more different values is a name or a measurement, not an attribute


def read_attributes(path: Path, cells: pd.DataFrame) -> pd.DataFrame:
    """Attributes of cells from a table with a row per cell and a column per attribute.

    Parameters
    ----------
    path
        CSV or Parquet with a column ``cell_id``, or ``path``: as in the cells, or the end of it, such as
        ``pbc/basophil/BA_100102.jpg``. Columns of the cells' own (label, split, ...) are not attributes.
    cells
        Listing with ``cell_id`` and ``path``.

    Returns
    -------
    The attributes in the order of the cells, as text; missing where a cell is not in the table.

    Raises
    ------
    CytosaeError
        No such column, no attribute, or no cell of the table among the cells.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    table = read_table(path).rename(columns=lambda name: folded(name) if folded(name) in COLUMNS else name)
    key = next((name for name in ("cell_id", "path") if name in table), None)
    if key is None:
        raise CytosaeError(f"{path}: has no column 'cell_id' or 'path' to tell which cell a row is about.")
    names = [c for c in table.columns if c not in COLUMNS and 1 < table[c].nunique() <= _MOST_VALUES]
    if not names:
        raise CytosaeError(f"{path}: has no attribute, a column of its own with 2 to {_MOST_VALUES} different values.")
    given = table.assign(**{key: table[key].astype(str)}).drop_duplicates(key).set_index(key)[names]
    wanted = cells["cell_id"].astype(str)
    if key == "path":
        depth = given.index.str.count("/").max() + 1
        wanted = cells["path"].astype(str).map(lambda p: "/".join(Path(p).parts[-depth:]))
        given.index = given.index.map(lambda p: "/".join(Path(p).parts[-depth:]))
    matched = given.reindex(wanted)
    if matched.isna().to_numpy().all():
        raise CytosaeError(
            f"{path}: none of its {len(given):,} rows is a cell of this study; the first names {given.index[0]!r}, the "
            f"first cell is {wanted.iloc[0]!r}."
        )
    return matched.astype("string").set_axis(cells.index)
