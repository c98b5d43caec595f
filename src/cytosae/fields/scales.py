"""Micrometres per pixel of every field: from an option, a column, its file, its own red cells, or those of others."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cytosae.cells.scales import stated_scales
from cytosae.errors import CytosaeError

ENOUGH = 10
"""Red cells from which a field has a scale of its own."""


def scales_of_fields(fields: pd.DataFrame, option: float, rulers: list[pd.DataFrame]) -> pd.DataFrame:
    """Columns ``mpp, mpp_low, mpp_high, mpp_from``, a row per field; missing where there is no scale.

    Parameters
    ----------
    fields
        Their listing; a column ``mpp`` counts before red cells.
    option
        Of all fields; 0 if not given.
    rulers
        For each field ``stated`` by a slide's file, and ``count, mpp, low, high`` from its red cells; empty where they were
        not needed.

    Raises
    ------
    CytosaeError
        An ``mpp`` that is no positive number; no field has a scale.
    """
    written = [None] * len(fields) if option else stated_scales(fields, "field")
    rows: list[tuple[float | str | None, ...]] = []
    for number in range(len(fields)):
        stated = option or written[number]
        if stated:
            rows.append((stated, np.nan, np.nan, "option" if option else "column"))
            continue
        ruler = rulers[number].iloc[0]
        if np.isfinite(ruler["stated"]):
            rows.append((float(ruler["stated"]), np.nan, np.nan, "file"))
            continue
        own = ruler["count"] >= ENOUGH
        rows.append(
            (*(ruler[name] if own else np.nan for name in ("mpp", "low", "high")), "red cells" if own else None)
        )
    table = pd.DataFrame(rows, columns=["mpp", "mpp_low", "mpp_high", "mpp_from"])
    measured = table["mpp_from"] == "red cells"
    for number in np.flatnonzero(table["mpp"].isna()).tolist():
        same = measured & (fields["dataset"] == fields["dataset"][number]).to_numpy()
        others = table[same if same.any() else measured]
        if len(others):
            middle = others[["mpp", "mpp_low", "mpp_high"]].median()
            low, high = others["mpp_low"].min(), others["mpp_high"].max()
            table.loc[number, :] = [middle["mpp"], low, high, "other fields"]
    if table["mpp"].isna().all():
        raise CytosaeError(
            f"none of the {len(fields)} fields has a scale: there is no column 'mpp', and no field shows {ENOUGH} whole red "
            "cells. Give --mpp (micrometres per pixel) or a column mpp."
        )
    return table
