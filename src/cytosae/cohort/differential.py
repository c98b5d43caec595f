"""Differential counts: shares of cell types among cells whose types were predicted. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STEPS = 300
"""Steps of expectation and maximisation."""
_RARE = 0.5
"""Added to every entry of a confusion matrix: an answer that was not seen is not impossible."""


@dataclass(frozen=True)
class Differential:
    """Shares of cell types, each ``(n_classes,)``."""

    answered: NDArray[np.float64]
    """Of the answered cells, as predicted; NaN if none is."""
    answered_low: NDArray[np.float64]
    answered_high: NDArray[np.float64]
    share: NDArray[np.float64]
    """Of all cells, corrected for wrong and missing answers."""
    low: NDArray[np.float64]
    """Lower end of the 95 % interval."""
    high: NDArray[np.float64]


def differential_count(
    answers: NDArray[np.integer], confusion: NDArray[np.integer], *, draws: int = 1000, seed: int = 0
) -> Differential:
    r"""Shares of cell types from predicted ones, as predicted and corrected.

    With :math:`C_{ij}` the share of type i that is answered j (the last column: not at all) among cells of unseen patients,
    the corrected shares p maximise the likelihood of the answers :math:`n_j`:

    .. math:: \sum_j n_j \log \sum_i p_i C_{ij}

    (adjusted counting; by expectation and maximisation, Saerens et al., Neural Comput 2002). This takes for granted that the
    probe errs on these cells as it did on those: one laboratory, the same types. Intervals are percentiles of draws in which
    cells are drawn anew, and for the corrected shares each row of C too, from its Dirichlet posterior.

    Parameters
    ----------
    answers
        Type of each cell, ``(n_cells,)``; ``n_classes`` where the probe abstains.
    confusion
        Cells of unseen patients by type and answer, ``(n_classes, n_classes + 1)``.

    Examples
    --------
    >>> found = differential_count(np.repeat([0, 1, 2], [60, 20, 20]), np.array([[80, 0, 20], [10, 70, 20]]))
    >>> found.answered, found.share.round(2)
    (array([0.75, 0.25]), array([0.72, 0.28]))
    """
    rng, classes = np.random.default_rng(seed), len(confusion)
    counts = np.bincount(answers, minlength=classes + 1).astype(np.float64)
    cells = counts.sum()
    drawn = rng.multinomial(int(cells), counts / cells, size=draws).astype(np.float64)
    smoothed = confusion + _RARE
    matrices = np.stack([rng.dirichlet(row, size=draws) for row in smoothed], axis=1)
    share = _corrected(counts[None], (smoothed / smoothed.sum(axis=1, keepdims=True))[None])[0]
    low, high = np.percentile(_corrected(drawn, matrices), [2.5, 97.5], axis=0)
    with np.errstate(invalid="ignore"):
        answered = counts[:classes] / counts[:classes].sum()
        parts = drawn[:, :classes] / drawn[:, :classes].sum(axis=1, keepdims=True)
    known = np.isfinite(parts).all(axis=1)
    ends = np.percentile(parts[known], [2.5, 97.5], axis=0) if known.any() else np.full((2, classes), np.nan)
    return Differential(answered, ends[0], ends[1], share, low, high)


def _corrected(counts: NDArray[np.float64], matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """The most likely shares, ``(n_draws, n_classes)``, of answers ``(n_draws, n_classes + 1)``."""
    share = np.full(matrices.shape[:2], 1 / matrices.shape[1])
    for _ in range(_STEPS):
        expected = np.einsum("di,dij->dj", share, matrices)
        share = share * np.einsum("dij,dj->di", matrices, counts / expected)
        share /= share.sum(axis=1, keepdims=True)
    return share
