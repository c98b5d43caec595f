"""Which laboratory each row comes from, and whether it can be separated from the diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.errors import CytosaeError, NotFound

DEFAULT_COLUMN = "dataset"
"""Data sets are laboratories unless another column is named."""


@dataclass(frozen=True)
class Laboratories:
    """The laboratory of every row of a table."""

    column: str
    codes: NDArray[np.int64]
    """Number of each row's laboratory, negative where the table does not say; ``(n_rows,)``."""
    names: tuple[str, ...]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each laboratory, ``(n_laboratories,)``."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))

    def few(self, least: int) -> list[str]:
        """A sentence on each laboratory with fewer rows than a method needs."""
        return [
            f"{self.column} {name}: {size} rows, fewer than {least}; they stay as they are"
            for name, size in zip(self.names, self.sizes.tolist(), strict=True)
            if size < least
        ]


def laboratories(table: pd.DataFrame, column: str, *, several: bool = True) -> Laboratories:
    """The laboratories that a column of cells or patients names.

    Parameters
    ----------
    table
        Cells or patients.
    column
        Such as ``laboratory`` or ``dataset``; ``patient`` makes a laboratory of every patient.
    several
        Refuse a single one.

    Raises
    ------
    CytosaeError
        No such column, or one laboratory alone where several are needed.
    """
    if column not in table:
        raise NotFound(f"--laboratory {column}: no such column; there are {', '.join(map(str, table.columns))}.")
    values = table[column].astype(object)
    codes, names = pd.factorize(values.where(values.notna(), None), sort=True)
    if several and len(names) < 2:
        held = f"all rows are of {names[0]!r}" if len(names) else "it is empty"
        raise CytosaeError(
            f"--laboratory {column}: two laboratories are needed, and {held}. Name another column with --laboratory, or "
            "leave harmonisation out."
        )
    return Laboratories(column, codes.astype(np.int64), tuple(map(str, names)))


def inseparable(codes: NDArray[np.integer], classes: NDArray[np.integer]) -> bool:
    """Whether every laboratory has a single class: then laboratory and diagnosis cannot be separated.

    Parameters
    ----------
    codes, classes
        Laboratory and class of each row, negative where unknown: left out; ``(n_rows,)``.

    Examples
    --------
    >>> import numpy as np
    >>> inseparable(np.array([0, 0, 1, 1]), np.array([2, 2, 3, 3])), inseparable(np.array([0, 1]), np.array([2, 2]))
    (True, False)
    """
    known = (codes >= 0) & (classes >= 0)
    codes, classes = codes[known], classes[known]
    held = [len(np.unique(classes[codes == code])) for code in np.unique(codes)]
    return len(np.unique(classes)) > 1 and max(held, default=0) <= 1


def single_class(codes: NDArray[np.integer], classes: NDArray[np.integer], names: Sequence[str]) -> list[str]:
    """Names of the laboratories all whose rows are of one class, and of which no harmonisation can be fitted without taking
    the class away too.
    """
    return [
        name
        for code, name in enumerate(names)
        if len(np.unique(classes[(codes == code) & (classes >= 0)])) == 1 and len(np.unique(classes[classes >= 0])) > 1
    ]
