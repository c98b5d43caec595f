"""Cells of one patient that show a concept, and how many are expected by chance. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

LEAST = 3
"""Patients of a reference group, at least."""
TAIL = 0.025
"""Share of patients like those of the group whose number lies beyond an end of the interval."""
FALSE_SHARE = 0.1
"""Share of the listed cells that is expected by chance, up to which a list is called sure."""


@dataclass(frozen=True)
class ByChance:
    """How many cells a member of a reference group with as many cells would have."""

    patients: int
    """Of the group."""
    expected: float
    """The group's mean share of cells, times the number of cells."""
    low: float
    high: float
    """95 % prediction interval of the number in one more member of the group."""
    p: float
    """One-sided, that a member of the group has as many."""
    at_least: int
    """Patients of the group whose share of cells is as large."""
    false_alarms: float
    """Share of the group's patients above the upper end that the others give; NaN with fewer than four."""


def number_by_chance(n_shown: int, n_cells: int, group_shown: ArrayLike, group_cells: ArrayLike) -> ByChance:
    """How many cells of a patient would show something if the patient were one of a group.

    Parameters
    ----------
    n_shown, n_cells
        Cells of the patient that show it, of all.
    group_shown, group_cells
        The same of each patient of the group, ``(n_patients,)``, three at least.

    Raises
    ------
    ValueError
        Fewer than three patients in the group.

    Notes
    -----
    Numbers are transformed to ``z = asin(sqrt((k + 3/8) / (n + 3/4)))``, whose variance from the sampling of n cells is
    ``1 / (4 n + 2)`` whatever the share (Anscombe, 1948). One more member of the group has the group's mean z. Its variance
    is that between patients, ``max(s^2 - mean(1 / (4 n_j + 2)), 0)``, that of its own cells, ``1 / (4 n + 2)``, and that of
    the group's mean, ``s^2`` or at least that of the cells, over the number of patients. t has one degree of freedom less
    than there are patients.

    Examples
    --------
    >>> chance = number_by_chance(23, 100, [4, 6, 5, 3, 7], [100] * 5)
    >>> chance.expected, round(chance.high), chance.at_least, chance.p < 0.01
    (5.0, 14, 0, True)
    """
    k, n = np.asarray(group_shown, np.float64), np.asarray(group_cells, np.float64)
    if len(k) < LEAST:
        raise ValueError(f"the group has {len(k)} patients; {LEAST} at least are needed to say what is expected")
    shares = k / n
    low, high, p = _predicted(n_shown, n_cells, k, n)
    alarms = np.nan
    if len(k) > LEAST:
        others = ~np.eye(len(k), dtype=bool)
        ends = (_predicted(k[i], n[i], k[others[i]], n[others[i]])[1] for i in range(len(k)))
        alarms = float(np.mean([own > end for own, end in zip(k, ends, strict=True)]))
    at_least = int((shares >= n_shown / n_cells).sum())
    return ByChance(len(k), float(shares.mean() * n_cells), low, high, p, at_least, alarms)


def _predicted(
    n_shown: float, n_cells: float, k: NDArray[np.float64], n: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Interval of the number of a new member of the group, and p of the one that was found."""
    z, sampling = _angle(k, n), 1 / (4 * n + 2)
    variance = z.var(ddof=1)
    between = max(float(variance - sampling.mean()), 0.0)
    scale = np.sqrt(between + 1 / (4 * n_cells + 2) + max(float(variance), float(sampling.mean())) / len(k))
    reach = t.ppf(1 - TAIL, len(k) - 1) * scale
    ends = np.clip([z.mean() - reach, z.mean() + reach], 0, np.pi / 2)
    low, high = np.clip((n_cells + 0.75) * np.sin(ends) ** 2 - 0.375, 0, n_cells)
    score = (_angle(np.float64(n_shown), np.float64(n_cells)) - z.mean()) / scale
    return float(low), float(high), float(t.sf(score, len(k) - 1))


def _angle(k: NDArray[np.float64] | np.float64, n: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    return np.asarray(np.arcsin(np.sqrt((k + 0.375) / (n + 0.75))))


def cells_showing(counts: ArrayLike, means: ArrayLike) -> NDArray[np.int64]:
    """Places of the cells that show a concept, those with the largest m_i[s] first; ties in the order of the cells.

    Parameters
    ----------
    counts, means
        a_i[s] and m_i[s] of the patient's cells, ``(n_cells,)``. A cell shows the concept where a patch is above tau.

    Examples
    --------
    >>> cells_showing([0, 2, 1], [0.0, 0.1, 0.3]).tolist()
    [2, 1]
    """
    shown = np.flatnonzero(np.asarray(counts) > 0)
    return shown[np.argsort(-np.asarray(means, np.float64)[shown], kind="stable")]


def expected_as_strong(
    values: ArrayLike, n_cells: int, group_values: ArrayLike, group_patients: ArrayLike
) -> NDArray[np.float64]:
    """How many of `n_cells` cells of a member of the group have as much as each listed cell.

    Parameters
    ----------
    values
        m_i[s] of the listed cells, falling, ``(n_listed,)``.
    n_cells
        Cells of the patient.
    group_values, group_patients
        m_i[s] of cells of the group, 0 for those that do not show the concept, and the patient of each, ``(n_group,)``.

    Returns
    -------
    ``(n_listed,)``, rising. Each patient of the group weighs the same. One cell of the group more that has as much is
    supposed, so that it is never 0: what no cell of few shows may still be shown by one of many.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    listed, others = np.asarray(values, np.float64), np.asarray(group_values, np.float64)
    _, patients, sizes = np.unique(np.asarray(group_patients), return_inverse=True, return_counts=True)
    weights = 1 / sizes[patients] / len(sizes)
    order = np.argsort(others, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(weights[order])])
    share = np.clip(1 - below[np.searchsorted(others[order], listed, side="left")], 0, 1)
    return np.asarray(n_cells * (share * len(others) + 1) / (len(others) + 1))


def sure_cells(expected: ArrayLike) -> int:
    """Length of the longest list of the strongest cells of which at most a tenth is expected by chance.

    Parameters
    ----------
    expected
        Of `expected_as_strong`.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    numbers = np.asarray(expected, np.float64)
    sure = np.flatnonzero(numbers <= FALSE_SHARE * np.arange(1, len(numbers) + 1))
    return int(sure[-1]) + 1 if len(sure) else 0
