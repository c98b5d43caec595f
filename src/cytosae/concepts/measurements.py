"""The measurements of the cells in the AnnData of the concepts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cytosae.cells import read_cells
from cytosae.concepts.columns import add_columns, text_column
from cytosae.morphometry import MEASURED, read_measurements
from cytosae.segmentation.registry import FLAGS, MEASUREMENTS, SEGMENTED


def join_measurements(study: Path) -> dict[str, int]:
    """Write the measurements of a study's cells into ``obs`` of its concepts.

    ``obs`` of every ``concepts/<dataset>.h5ad`` gets a column for each of `cytosae.segmentation.MEASUREMENTS` that has a
    value, ``segmented_by`` and ``segmentation_flags``. A column that a listing of an earlier version has under such a name
    stays.

    Returns
    -------
    Cells that have measurements, and files that changed.

    Raises
    ------
    CytosaeError
        No finished measurements or concepts.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    measured = read_measurements(study / MEASURED)
    users = {*read_cells(study / "cells.parquet").columns}
    numbers = [m.name for m in MEASUREMENTS if m.name not in users]
    texts = [name for name in (SEGMENTED, FLAGS) if name not in users]
    joined = 0

    def columns(obs: pd.DataFrame, dataset: str) -> Mapping[str, pd.Series]:
        nonlocal joined
        rows = measured.reindex(obs.index)
        joined += int(rows[SEGMENTED].notna().sum())
        values = {name: rows[name].astype(np.float32) for name in numbers if rows[name].notna().any()}
        return values | {name: text_column([*rows[name]], obs.index, name) for name in texts}

    changed = add_columns(study, "obs", columns, former=[*numbers, *texts])
    return {"joined": joined, "files": changed}
