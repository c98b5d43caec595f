"""Count, mean and covariance of the rows of each laboratory, summed up in a stream: memory does not grow with the cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 20
"""Rows (cells) of a laboratory, at least: with fewer, its moments say more of these cells than of the laboratory."""


@dataclass(frozen=True)
class Moments:
    """Of some rows of one laboratory."""

    n: int
    """Rows."""
    mean: NDArray[np.float64]
    """``(d,)``."""
    spread: NDArray[np.float64]
    """Their covariance ``(d, d)``, or the variances alone ``(d,)``; divided by `n`."""

    @property
    def variance(self) -> NDArray[np.float64]:
        """Of each dimension, ``(d,)``."""
        return self.spread if self.spread.ndim == 1 else np.diagonal(self.spread).copy()


class MomentSums:
    """Sums over the rows of each group, from which their moments follow.

    Parameters
    ----------
    n_groups
        Laboratories.
    width
        Dimensions d of a row.
    full
        Keep the covariances, and not the variances alone.
    """

    def __init__(self, n_groups: int, width: int, *, full: bool = False) -> None:
        self.n = np.zeros(n_groups, np.int64)
        self._total = np.zeros((n_groups, width))
        self._products = np.zeros((n_groups, width, width) if full else (n_groups, width))
        self._origin: NDArray[np.float64] | None = None

    def add(self, values: NDArray[np.floating], groups: NDArray[np.integer]) -> None:
        """Take in rows ``(n, d)`` and the group of each, negative where it is to count for none, ``(n,)``."""
        if not len(values):
            return
        rows = np.asarray(values, np.float64)
        if self._origin is None:
            self._origin = rows.mean(axis=0)  # near the mean of all, so that no digits are lost
        rows = rows - self._origin
        for group in np.unique(groups[groups >= 0]):
            own = rows[groups == group]
            self.n[group] += len(own)
            self._total[group] += own.sum(axis=0)
            self._products[group] += own.T @ own if self._products.ndim == 3 else (own**2).sum(axis=0)

    def moments(self, group: int) -> Moments:
        """Of one group; zeros where it has no row."""
        n = max(int(self.n[group]), 1)
        mean = self._total[group] / n
        spread = self._products[group] / n - (np.outer(mean, mean) if self._products.ndim == 3 else mean**2)
        if spread.ndim == 1:
            spread = np.maximum(spread, 0)
        return Moments(int(self.n[group]), mean + (0 if self._origin is None else self._origin), spread)


def group_moments(
    values: NDArray[np.floating], groups: NDArray[np.integer], n_groups: int, *, full: bool = False
) -> list[Moments]:
    """The moments of each group of rows ``(n, d)``; see `MomentSums`.

    Examples
    --------
    >>> import numpy as np
    >>> first, second = group_moments(np.array([[0.0], [2.0], [7.0]]), np.array([0, 0, 1]), 2)
    >>> first.n, float(first.mean[0]), float(first.spread[0]), float(second.mean[0])
    (2, 1.0, 1.0, 7.0)
    """
    sums = MomentSums(n_groups, values.shape[1], full=full)
    sums.add(values, groups)
    return [sums.moments(group) for group in range(n_groups)]


def mean_moments(moments: list[Moments]) -> Moments:
    """The mean laboratory: the mean of the means, and of the covariances within; each laboratory counts once.

    Raises
    ------
    ValueError
        No laboratory.
    """
    if not moments:
        raise ValueError("no laboratory")
    mean = np.mean([own.mean for own in moments], axis=0)
    return Moments(sum(own.n for own in moments), mean, np.mean([own.spread for own in moments], axis=0))
