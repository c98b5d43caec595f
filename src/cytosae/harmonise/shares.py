"""How much of the variance is the laboratory's, and how much the diagnosis's? Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCKS = 20


@dataclass(frozen=True)
class VarianceShare:
    """Share of the variance of some rows that lies between groups of them."""

    value: float
    """Epsilon squared (Kelley 1935): eta squared less what as many groups hold by chance; 0 without any difference."""
    low: float
    high: float
    """Ends of the 95 % interval, from a jackknife over blocks of units."""
    null: float
    """95th percentile of the share when the groups are permuted among the units."""
    p: float
    """Share of the permutations that hold as much."""


def variance_share(
    values: NDArray[np.floating],
    groups: NDArray[np.integer],
    units: NDArray[np.integer] | None = None,
    *,
    permutations: int = 200,
    seed: int = 0,
) -> VarianceShare:
    """Share of the variance of rows ``(n_rows, d)``, over all dimensions, between groups.

    Parameters
    ----------
    groups
        Laboratory or diagnosis of each row, negative where unknown: left out; ``(n_rows,)``.
    units
        The patient of each row: permuted and left out whole where all rows of a patient are of one group; a row each if
        None.

    Returns
    -------
    NaN where fewer than two groups are known, or as many as rows.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat([0, 1], 50)
    >>> values = rng.normal(size=(100, 4)) + 2 * groups[:, None]
    >>> share = variance_share(values, groups)
    >>> 0.4 < share.value < 0.6 and share.p < 0.01 and abs(share.null) < 0.1
    True
    """
    known = groups >= 0
    rows = np.asarray(values, np.float64)[known]
    _, codes = np.unique(groups[known], return_inverse=True)
    n_groups = int(codes.max(initial=-1)) + 1
    if not 1 < n_groups < len(rows):
        return VarianceShare(*[float("nan")] * 5)
    rows = rows - rows.mean(axis=0)
    own = np.arange(len(rows)) if units is None else np.unique(units[known], return_inverse=True)[1]
    n_units = int(own.max()) + 1
    of_unit = np.full(n_units, -1)
    of_unit[own] = codes
    if not (of_unit[own] == codes).all():  # groups within a patient, such as cell types
        own, of_unit, n_units = np.arange(len(rows)), codes, len(rows)
    sums = np.zeros((n_units, rows.shape[1]))
    np.add.at(sums, own, rows)
    squares = np.bincount(own, (rows**2).sum(axis=1), n_units).astype(np.float64)
    sizes = np.bincount(own, minlength=n_units).astype(np.float64)
    value = _share(sums, squares, sizes, of_unit, n_groups)
    rng = np.random.default_rng([seed, 11])
    drawn = np.array([_share(sums, squares, sizes, rng.permutation(of_unit), n_groups) for _ in range(permutations)])
    blocks = rng.permutation(n_units) % min(_BLOCKS, n_units)
    left = [blocks != block for block in range(int(blocks.max()) + 1)]
    without = np.array([_share(sums[b], squares[b], sizes[b], of_unit[b], n_groups) for b in left])
    without = without[np.isfinite(without)]
    error = float(np.sqrt((len(without) - 1) * without.var())) if len(without) > 1 else float("nan")
    null = float(np.quantile(drawn, 0.95)) if permutations else float("nan")
    p = float((1 + (drawn >= value).sum()) / (1 + permutations)) if permutations else float("nan")
    return VarianceShare(value, max(value - 1.96 * error, -1.0), min(value + 1.96 * error, 1.0), null, p)


def _share(
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
    sizes: NDArray[np.float64],
    groups: NDArray[np.integer],
    n_groups: int,
) -> float:
    """Epsilon squared from the sums, sums of squares and rows of every unit."""
    members = np.zeros((n_groups, len(groups)))
    members[groups, np.arange(len(groups))] = 1
    n = members @ sizes
    occur = n > 0
    n_rows, k = float(n.sum()), int(occur.sum())
    total = float(squares.sum() - (sums.sum(axis=0) ** 2).sum() / n_rows)
    if total <= 1e-12 * squares.sum() or not 1 < k < n_rows:
        return float("nan")
    of_groups = members[occur] @ sums
    between = float(((of_groups**2).sum(axis=1) / n[occur]).sum() - (sums.sum(axis=0) ** 2).sum() / n_rows)
    return 1 - (1 - between / total) * (n_rows - 1) / (n_rows - k)
