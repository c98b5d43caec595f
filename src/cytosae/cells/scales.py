"""Micrometres per pixel that a table states."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cytosae.errors import CytosaeError

MPP = "mpp"
"""Column of a table with micrometres per pixel."""
MOST = 10.0
"""Largest that is believed."""


def stated_scales(table: pd.DataFrame, what: str = "cell") -> list[float | None]:
    """Micrometres per pixel of each row, None where the table does not say.

    Parameters
    ----------
    table
        With ``cell_id``; without a column ``mpp`` no scale is stated.
    what
        What a row is, for messages.

    Raises
    ------
    CytosaeError
        An ``mpp`` that is no number above 0 and up to `MOST`.

    Examples
    --------
    >>> stated_scales(pd.DataFrame({"cell_id": ["a", "b"], "mpp": [0.1, None]}))
    [0.1, None]
    """
    if MPP not in table:
        return [None] * len(table)
    values: list[float | None] = []
    for name, value in zip(table["cell_id"], table[MPP], strict=True):
        if pd.isna(value) or str(value).strip() == "":
            values.append(None)
            continue
        try:
            number = float(str(value))
        except ValueError:
            number = np.nan
        if not (np.isfinite(number) and 0 < number <= MOST):
            raise CytosaeError(
                f"column {MPP!r}: {what} {name} has {value!r}; expected micrometres per pixel, a number above 0 and at most "
                f"{MOST:g}."
            )
        values.append(number)
    return values
