"""Cells drawn apart and drawn again: halves to choose on and to test on, and intervals. Patients stay whole."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Estimate:
    """A figure with its bootstrap interval."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    """Ends of the 95 % percentile interval; NaN where there was nothing to draw."""
    draws: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    """The figure in every bootstrap draw, ``(n_draws,)``."""

    @classmethod
    def from_draws(cls, value: float, draws: ArrayLike) -> Estimate:
        """From the figure and its bootstrap draws, ``(n_draws,)``."""
        drawn = np.asarray(draws, float)
        known = drawn[np.isfinite(drawn)]
        low, high = np.quantile(known, (0.025, 0.975)) if len(known) else (np.nan, np.nan)
        return cls(float(value), float(low), float(high), drawn)

    def gain_over(self, other: Estimate) -> Estimate:
        """By how much this is larger than another figure of the same cells, with the interval of paired draws."""
        paired = self.draws - other.draws if self.draws.shape == other.draws.shape else ()
        return Estimate.from_draws(self.value - other.value, paired)

    @classmethod
    def mean(cls, values: ArrayLike, draws: int = 200, seed: int = 0) -> Estimate:
        """The mean of some values and its interval when the values are drawn again; NaN values are left out."""
        known = np.asarray(values, float)
        known = known[np.isfinite(known)]
        if not len(known):
            return cls(np.nan)
        weights = bootstrap_weights(np.arange(len(known)), draws, seed)
        return cls.from_draws(known.mean(), weights @ known / weights.sum(axis=1))


def group_codes(n: int, groups: ArrayLike | None) -> NDArray[np.int64]:
    """Numbers of the units that stay together, ``(n,)``: the groups (patients); a cell in group -1 is one by itself."""
    codes = np.full(n, -1) if groups is None else np.asarray(groups, dtype=np.int64)
    alone = codes < 0
    codes = np.where(alone, codes.max(initial=-1) + 1 + np.cumsum(alone), codes)
    return np.unique(codes, return_inverse=True)[1]


def halves(n: int, groups: ArrayLike | None = None, seed: int = 0) -> NDArray[np.bool_]:
    """A seeded half of the cells, True where a cell is in the first; cells of a group are all on one side.

    Parameters
    ----------
    n
        Cells.
    groups
        Number of each cell's patient, -1 where unknown, ``(n,)``; None if no patient is known.
    """
    codes = group_codes(n, groups)
    order = np.random.default_rng(seed).permutation(codes.max(initial=-1) + 1)
    sizes = np.bincount(codes, minlength=len(order))[order]
    first = np.cumsum(sizes) - sizes / 2 <= n / 2
    side = np.empty(len(order), bool)
    side[order] = first
    return side[codes]


def bootstrap_weights(codes: NDArray[np.integer], draws: int = 200, seed: int = 0) -> NDArray[np.float32]:
    """How often each cell is in each bootstrap draw, ``(n_draws, n)``: groups are drawn whole, with replacement.

    Parameters
    ----------
    codes
        Group of each cell, from 0 (`group_codes`), ``(n,)``.
    """
    _, units = np.unique(codes, return_inverse=True)
    count = units.max(initial=-1) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / max(count, 1)), size=draws) if count else np.zeros((draws, 0))
    return drawn[:, units].astype(np.float32)
