"""How good are predicted numbers and hazards? Arrays in, numbers out; draws count rows several times."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata


def r_squared(predicted: ArrayLike, values: ArrayLike, weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 - sum of squared errors over that of the mean, for each draw; below 0 where the mean does better.

    Parameters
    ----------
    predicted, values
        ``(n_rows,)``.
    weights
        How often each row counts, ``(n_draws, n_rows)``.
    """
    y = np.asarray(values, float)
    error = weights @ (y - np.asarray(predicted, float)) ** 2
    total = weights.sum(axis=1)
    spread = weights @ y**2 - (weights @ y) ** 2 / np.maximum(total, 1e-12)
    return np.asarray(1 - np.divide(error, spread, out=np.full(len(error), np.nan), where=spread > 0))


def rank_correlation(predicted: ArrayLike, values: ArrayLike, weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """Spearman's correlation for each draw, with the ranks among all rows; see `r_squared`."""
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    share = weights / total
    ranks = np.stack([rankdata(predicted), rankdata(values)], axis=1)
    mean = share @ ranks
    centred = np.einsum("dr,rk,rl->dkl", share, ranks, ranks, optimize=True) - mean[:, :, None] * mean[:, None]
    spread = np.sqrt(centred[:, 0, 0] * centred[:, 1, 1])
    return np.divide(centred[:, 0, 1], spread, out=np.full(len(spread), np.nan), where=spread > 1e-9)


def absolute_error(predicted: ArrayLike, values: ArrayLike, weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean absolute error for each draw; see `r_squared`."""
    error = np.abs(np.asarray(values, float) - np.asarray(predicted, float))
    return np.asarray(weights @ error / np.maximum(weights.sum(axis=1), 1e-12))


def concordance(
    hazard: ArrayLike, times: ArrayLike, events: ArrayLike, weights: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Of pairs of patients of whom one is known to have had the event first, the share in which that one has the larger
    hazard (Harrell, 1982); equal hazards count half. For each draw.

    Parameters
    ----------
    hazard, times, events
        ``(n_rows,)``.
    weights
        How often each row counts, ``(n_draws, n_rows)``.
    """
    risk, time, seen = np.asarray(hazard, float), np.asarray(times, float), np.asarray(events, bool)
    first = seen[:, None] & ((time[:, None] < time) | ((time[:, None] == time) & ~seen))
    right = np.where(first, (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk), 0)
    pairs = ((weights @ first) * weights).sum(axis=1)
    won = ((weights @ right) * weights).sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
