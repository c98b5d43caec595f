"""What an expert points at: a table of marks, and marks from what is known already (labels, masks, attributes)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.artefacts import bare, guarded, write_csv
from cytosae.cells import TISSUES, tissues_of_cells
from cytosae.cells.columns import folded
from cytosae.cells.user_tables import read_table
from cytosae.errors import CytosaeError
from cytosae.sae.taught import check_name

COLUMNS = ("concept", "cell_id", "patch", "mark", "rater", "time")
"""Columns of a table of marks."""
THIS, NOT, NONE = "this", "not", "none"
"""What a mark says; the last takes back what its rater said before."""
WHOLE_CELL = -1
"""In place of a patch: the cell shows the concept somewhere, or nowhere."""
_NAMED = 3  # cells that a message names
MOST = 100
"""Cells of each kind whose marks are taken from a table or from masks, drawn at random, at most."""
INSIDE = 0.9
"""Share of a patch that has to be of a tissue for the patch to count as inside it."""


@dataclass(frozen=True)
class ConceptMarks:
    """The marks of one concept that can be learned from."""

    concept: str
    cells: NDArray[np.int64]
    """Row of each mark's cell among the tokens, ``(n_marks,)``."""
    patches: NDArray[np.int64]
    """Its patch, row by row from the top left, `WHOLE_CELL` for the whole cell; ``(n_marks,)``."""
    positive: NDArray[np.bool_]
    """Whether it says *this*, ``(n_marks,)``."""
    problems: tuple[str, ...]
    """What was left out and why, a sentence each."""

    def __len__(self) -> int:
        return len(self.cells)

    def counts(self) -> dict[str, int]:
        """Number of marks by what they say and of what."""
        whole = self.patches == WHOLE_CELL
        return {
            "this_patches": int((self.positive & ~whole).sum()),
            "this_cells": int((self.positive & whole).sum()),
            "not_patches": int((~self.positive & ~whole).sum()),
            "not_cells": int((~self.positive & whole).sum()),
        }


def marks_table(rows: Iterable[tuple[str, str, int | None, str]], rater: str | None = None) -> pd.DataFrame:
    """A table of marks from concept, ``cell_id``, patch (None for the whole cell) and mark of each.

    Examples
    --------
    >>> marks_table([("Auer rod", "cell 1", 17, "this"), ("Auer rod", "cell 2", None, "not")])[["patch", "mark"]]
       patch  mark
    0     17  this
    1   <NA>   not
    """
    table = pd.DataFrame(list(rows), columns=list(COLUMNS[:4]))
    return _typed(table.assign(rater=rater, time=None))


def read_marks(path: Path) -> pd.DataFrame:
    """Read a table of marks.

    Parameters
    ----------
    path
        CSV or Parquet with ``concept``, ``cell_id`` and ``mark`` (``this``, ``not``, or ``none``, which takes back what
        the rater said before), and where known ``patch`` (row by row from the top left, from 0; empty for the whole cell),
        ``rater`` and ``time``. Other columns are kept.

    Raises
    ------
    CytosaeError
        A column is missing, or a row has no concept or one of over 200 characters, no cell, another mark, or a patch that is
        no whole number.

    Notes
    -----
    No example: needs marks and the cells of a study; the tutorial *Judge and teach with a colleague* runs it.
    """
    table = read_table(path).rename(columns=lambda name: folded(name) if folded(name) in COLUMNS else name)
    table = table.map(bare)  # as `cytosae annotations export --marks` guards names against spreadsheets
    if missing := [name for name in ("concept", "cell_id", "mark") if name not in table]:
        raise CytosaeError(
            f"{path}: has no column {missing[0]!r}. A table of marks has {', '.join(COLUMNS[:4])}, and may have rater "
            "and time."
        )
    for name in ("concept", "cell_id", "mark"):
        if (empty := table[name].isna()).any():
            raise CytosaeError(
                f"{path}: row {int(np.flatnonzero(empty)[0]) + 1} has no {name}. Give one, or remove it."
            )
    given = table["mark"].astype(str).str.strip().str.casefold()
    if (other := ~given.isin([THIS, NOT, NONE])).any():
        row = int(np.flatnonzero(other)[0])
        raise CytosaeError(
            f"{path}: row {row + 1} has the mark {table['mark'][row]!r}; expected {THIS!r}, {NOT!r}, or {NONE!r} to "
            "take back an earlier one."
        )
    for name in COLUMNS:
        if name not in table:
            table[name] = None
    numbers = pd.to_numeric(table["patch"], errors="coerce")
    wrong = table["patch"].notna() & (numbers.isna() | (numbers % 1 != 0) | (numbers < 0))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise CytosaeError(
            f"{path}: row {row + 1} has the patch {str(table['patch'][row])!r}; expected its number, row by row from "
            "the top left, from 0, or nothing for the whole cell."
        )
    typed = _typed(table.assign(mark=given, patch=numbers))
    for row, name in enumerate(typed["concept"], start=1):
        try:
            check_name(name)
        except CytosaeError as error:
            raise CytosaeError(f"{path}: row {row}, {error}") from error
    return typed


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    text = {name: table[name].astype("string") for name in ("concept", "cell_id", "mark", "rater", "time")}
    typed = table.assign(**text, patch=table["patch"].astype("Int64"))
    typed["concept"] = typed["concept"].map(lambda name: " ".join(str(name).split())).astype("string")
    return typed[[*COLUMNS, *(name for name in table.columns if name not in COLUMNS)]]


def write_marks(path: Path, table: pd.DataFrame) -> None:
    """Write a table of marks as CSV, with what `read_marks` takes away again before names that look like formulas.

    No example: needs marks and the cells of a study; the tutorial *Judge and teach with a colleague* runs it.
    """
    write_csv(path, table.map(guarded))


def joined_marks(*tables: pd.DataFrame) -> pd.DataFrame:
    """Marks of several tables, later ones after earlier ones, the same row once; nothing else is lost.

    No example: needs marks and the cells of a study; the tutorial *Judge and teach with a colleague* runs it.
    """
    return pd.concat(tables, ignore_index=True).drop_duplicates(keep="last", ignore_index=True)


def usable_marks(table: pd.DataFrame, cells: pd.DataFrame, n_patches: int) -> list[ConceptMarks]:
    """The marks of each concept that can be learned from, and what cannot and why.

    Of several marks of one rater on one thing the last counts, by time where it is given, otherwise in the order of the
    table. Where raters contradict each other on a patch or a cell, none of these marks counts: which is right is not
    guessed. Where a whole cell is *not* and a patch of it is *this*, the patch counts, which is the more exact
    mark, and the cell is named.

    Parameters
    ----------
    table
        See `read_marks`.
    cells
        The cells in the order of the tokens, with ``cell_id``.
    n_patches
        Patches of a cell.

    Raises
    ------
    CytosaeError
        A patch beyond the grid: the marks are of another backbone.

    Notes
    -----
    No example: needs marks and the cells of a study; the tutorial *Judge and teach with a colleague* runs it.
    """
    beyond = table["patch"].fillna(0) >= n_patches
    if beyond.any():
        row = table[beyond].iloc[0]
        raise CytosaeError(
            f"marks of {row['concept']!r}: patch {row['patch']} of {row['cell_id']}, but a cell of this study has "
            f"{n_patches} patches. The marks are of a backbone with another grid."
        )
    ids = pd.Index(cells["cell_id"].astype(str))
    ordered = table.assign(row=ids.get_indexer(pd.Index(table["cell_id"].astype(str))))
    if ordered["time"].notna().any():
        ordered = ordered.sort_values("time", kind="stable", na_position="first")
    ordered = ordered.assign(patch=ordered["patch"].fillna(WHOLE_CELL).astype(int), rater=ordered["rater"].fillna(""))
    return [_of_concept(str(concept), marks) for concept, marks in ordered.groupby("concept", sort=False)]


def _of_concept(concept: str, marks: pd.DataFrame) -> ConceptMarks:
    problems = []
    gone = marks["row"] < 0
    if gone.any():
        names = marks["cell_id"][gone].unique()
        problems.append(f"{int(gone.sum())} marks are on cells that this study does not have ({_some(names)})")
    known = marks[~gone].drop_duplicates(["row", "patch", "rater"], keep="last")
    known = known[known["mark"] != NONE]
    by_place = known.groupby(["row", "patch"], sort=True)["mark"].nunique()
    disputed = set(by_place.index[by_place > 1])
    one = known.drop_duplicates(["row", "patch"]).sort_values(["row", "patch"], kind="stable")
    agreed = [marked not in disputed for marked in zip(one["row"], one["patch"], strict=True)]
    settled = one[np.array(agreed, bool)]
    if disputed:
        names = one["cell_id"][~np.array(agreed, bool)].unique()
        problems.append(f"raters contradict each other, their marks on the same place are left out ({_some(names)})")
    patch_this = set(settled["row"][(settled["patch"] != WHOLE_CELL) & (settled["mark"] == THIS)])
    torn = (settled["patch"] == WHOLE_CELL) & (settled["mark"] == NOT) & settled["row"].isin(patch_this)
    if torn.any():
        problems.append(
            "a cell is marked 'not' as a whole and a patch of it 'this': the patch counts, the mark of the whole cell "
            f"is left out ({_some(settled['cell_id'][torn])})"
        )
    used = settled[~torn]
    return ConceptMarks(
        concept,
        used["row"].to_numpy(np.int64),
        used["patch"].to_numpy(np.int64),
        (used["mark"] == THIS).to_numpy(bool),
        tuple(problems),
    )


def _some(names: Iterable[object]) -> str:
    listed = list(map(str, names))
    return ", ".join(listed[:_NAMED]) + (f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else "")


def marks_from_column(
    cells: pd.DataFrame, column: str, value: str, concept: str | None = None, *, most: int = MOST, seed: int = 0
) -> pd.DataFrame:
    """Marks of whole cells from a column of the table of cells, or of expert attributes (`cytosae.cells.read_attributes`).

    A cell with the value is *this*, one with another is *not*, one without is not marked.

    Parameters
    ----------
    cells
        With ``cell_id`` and the column.
    column, value
        Such as ``label`` and ``monocyte``, or ``granularity`` and ``yes``.
    concept
        Name of the concept; that of column and value if None.
    most, seed
        So many cells of either kind, at most, and what fixes their draw.

    Raises
    ------
    CytosaeError
        No such column, or no cell with the value.

    Notes
    -----
    No example: needs marks and the cells of a study; the tutorial *Judge and teach with a colleague* runs it.
    """
    if column not in cells:
        raise CytosaeError(
            f"marks from {column!r}: the cells have no such column; they have {', '.join(cells.columns)}."
        )
    known = cells[cells[column].notna()]
    has = known[column].astype(str).to_numpy() == value
    if not has.any():
        shown = ", ".join(sorted(known[column].astype(str).unique())[:20])
        raise CytosaeError(f"marks from {column}={value}: no cell has this value; there are {shown}.")
    ids = known["cell_id"].astype(str).to_numpy()
    rng = np.random.default_rng([seed, 14])
    name = concept or f"{column}: {value}"
    drawn = (
        (mark, np.sort(rng.permutation(np.flatnonzero(which))[:most])) for mark, which in ((THIS, has), (NOT, ~has))
    )
    return marks_table((name, ids[cell], None, mark) for mark, chosen in drawn for cell in chosen)


def marks_from_masks(
    cells: pd.DataFrame,
    grid: tuple[int, int],
    tissue: str = "nucleus",
    concept: str | None = None,
    *,
    most: int = MOST,
    seed: int = 0,
) -> pd.DataFrame:
    """Marks of patches from masks: inside a tissue is *this*, outside of it *not*, at its edge neither.

    Parameters
    ----------
    cells
        With ``cell_id`` and ``mask``; those without a mask are not marked.
    grid
        Rows and columns of patches.
    tissue
        One of `cytosae.cells.TISSUES`.
    concept
        Name of the concept; that of the tissue if None.
    most, seed
        So many cells, at most, and what fixes their draw.

    Raises
    ------
    CytosaeError
        An unknown tissue, or no cell has a mask.

    Notes
    -----
    No example: needs marks and the cells of a study; the tutorial *Judge and teach with a colleague* runs it.
    """
    if tissue not in TISSUES:
        raise CytosaeError(f"marks from masks: {tissue!r} is none of {', '.join(TISSUES)}.")
    masked = cells[cells["mask"].notna()] if "mask" in cells else cells[:0]
    if not len(masked):
        raise CytosaeError("marks from masks: no cell has a mask. Add a column 'mask' to the table of cells.")
    chosen = masked.iloc[np.sort(np.random.default_rng([seed, 14]).permutation(len(masked))[:most])]
    rows: list[tuple[str, str, int | None, str]] = []
    for cell, shares in zip(chosen["cell_id"].astype(str), tissues_of_cells(chosen, grid), strict=True):
        share = shares[TISSUES.index(tissue)].ravel()
        rows += [(concept or tissue, cell, int(patch), THIS) for patch in np.flatnonzero(share >= INSIDE)]
        rows += [(concept or tissue, cell, int(patch), NOT) for patch in np.flatnonzero(share == 0)]
    return marks_table(rows)
