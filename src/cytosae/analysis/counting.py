"""``cytosae count``: the differential count of smears or patients, from predicted cell types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytosae.analysis.labelling import STATED, read_labels
from cytosae.artefacts import (
    FileRecord,
    Manifest,
    claim,
    digest,
    refuse_strangers,
    remove_outdated,
    sha256_file,
    write_csv,
    write_json,
)
from cytosae.cells import read_table
from cytosae.cohort import differential_count
from cytosae.errors import CytosaeError

COUNTS, RESULT = "counts.csv", "counts.json"
NOTICE = "Not for diagnosis: types are predicted, for research alone."
ALL = "all"
_FEW = 50
"""Cells below which a count is marked."""


def count_labels(
    labels: Path, folder: Path, *, by: str | None = None, expert: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """Share of each cell type, as answered and corrected for wrong and missing answers, with intervals.

    Parameters
    ----------
    labels
        Folder of `cytosae.analysis.label_cells`.
    folder
        Gets ``counts.csv``, a row for each unit and type, and ``counts.json``.
    by
        Column of the cells that says which are counted together; ``patient`` if None and there are patients, otherwise all.
    expert
        Table with the column `by`, ``label``, and ``count`` or ``share``: an expert's differential. If None, and all cells
        of a unit had labels, those.
    seed
        Of the draws for the intervals.

    Raises
    ------
    CytosaeError
        No labels, no such column, or an expert's table of other units or types.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    names = [COUNTS, RESULT]
    refuse_strangers(folder, "counts", names)
    cells, result = read_labels(labels)
    by = by or ("patient" if "patient" in cells and cells["patient"].notna().any() else None)
    if by is not None and by not in cells:
        raise CytosaeError(f"--by {by}: {labels} has no such column. Choose one of its table labels.csv.")
    units = cells[by].astype("string").fillna("unknown") if by else pd.Series(ALL, cells.index)
    classes = [str(name) for name in result["classes"]]
    given = _stated(cells, units) if expert is None else _expert(expert, by, set(units))
    confusion = np.array(result["confusion"])
    rows = []
    for unit, own in cells.groupby(units, sort=True):
        answers = own["label"].map({name: k for k, name in enumerate(classes)}).fillna(len(classes)).to_numpy(int)
        estimated = differential_count(answers, confusion, seed=seed)
        for k, name in enumerate(classes):
            row = {"unit": str(unit), "label": name, "cells": len(own), "answered_cells": int((answers == k).sum())}
            for column in ("answered", "answered_low", "answered_high", "share", "low", "high"):
                row[column] = float(getattr(estimated, column)[k])
            rows.append(row)
    table = pd.DataFrame(rows)
    if given:
        unknown = sorted({name for shares in given.values() for name in shares} - set(classes))
        keys = zip(table["unit"], table["label"], strict=True)
        table["expert"] = [given[unit].get(name, 0.0) if unit in given else np.nan for unit, name in keys]
    sizes = cells.groupby(units).size()
    summary: dict[str, Any] = {
        "notice": NOTICE,
        "by": by,
        "units": len(sizes),
        "cells": len(cells),
        "answered": float(cells["label"].notna().mean()),
        "few_cells": sorted(str(unit) for unit, size in sizes.items() if size < _FEW),
    }
    if given:
        summary["expert"] = {**_agreement(table), "types_unknown_to_the_probe": unknown}
    claim(folder, "counts", names)
    write_csv(folder / COUNTS, table.rename(columns={"unit": by or "unit"}))
    inputs = {
        "labels": digest([result["inputs"], result["parameters"]]),
        "expert": "" if expert is None else sha256_file(expert),
    }
    write_json(folder / RESULT, {**summary, "inputs": inputs})
    outputs = {name: FileRecord.from_file(folder / name) for name in names}
    Manifest("counts", {"by": by, "seed": seed}, inputs, outputs, {"cells": len(cells)}).save(folder)
    remove_outdated(folder, "counts", names)
    return {**summary, "table": f"{folder / COUNTS}"}


def _stated(cells: pd.DataFrame, units: pd.Series) -> dict[str, dict[str, float]]:
    """Shares of the labels that the cells came with, of units all of whose cells had one."""
    if STATED not in cells:
        return {}
    groups = cells[STATED].groupby(units)
    return {
        str(unit): {str(k): float(v) for k, v in own.value_counts(normalize=True).items()}
        for unit, own in groups
        if own.notna().all()
    }


def _expert(path: Path, by: str | None, units: set[str]) -> dict[str, dict[str, float]]:
    """An expert's shares by unit."""
    table = read_table(path)
    wanted = [*([by] if by else []), "label"]
    value = next((name for name in ("count", "share") if name in table), None)
    if value is None or any(name not in table for name in wanted):
        raise CytosaeError(
            f"--expert {path}: expected columns {', '.join(wanted)} and count or share; found "
            f"{', '.join(map(str, table))}."
        )
    table["_value"] = pd.to_numeric(table[value], errors="coerce")
    if table["_value"].isna().any() or (table["_value"] < 0).any():
        raise CytosaeError(f"--expert {path}: column {value!r} has a value that is no number from 0 up.")
    names = table[by].astype(str) if by else pd.Series(ALL, table.index)
    by_unit = {}
    for unit, own in table.groupby(names):
        total = float(own["_value"].sum())
        if str(unit) in units and total > 0:
            sums = own.groupby(own["label"].astype(str))["_value"].sum() / total
            by_unit[str(unit)] = {str(k): float(v) for k, v in sums.items()}
    if not by_unit:
        raise CytosaeError(
            f"--expert {path}: none of its {by or 'rows'} is among the counted ones. Check the column {by!r}."
        )
    return by_unit


def _agreement(table: pd.DataFrame) -> dict[str, Any]:
    """How far the counts are from an expert's: mean absolute difference of shares, and how often the interval holds it."""
    known = table[table["expert"].notna()]
    inside = (known["low"] <= known["expert"]) & (known["expert"] <= known["high"])
    return {
        "units": int(known["unit"].nunique()),
        "difference": float((known["share"] - known["expert"]).abs().mean()),
        "difference_answered": float((known["answered"] - known["expert"]).abs().mean()),
        "within_interval": float(inside.mean()),
    }
