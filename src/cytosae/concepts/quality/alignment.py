"""How well does one latent predict what an expert sees? Chosen on some cells, tested on others.

A score that is constant gets 0.5, whatever the truth. A latent that knows the answers of the cells on which it is chosen
gains nothing by it, since it is tested on others.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights

_COLUMNS = 32  # scores that are ranked together by a thread

Scores: TypeAlias = Any
"""Dense or sparse matrix."""


def auroc(scores: Scores, truth: ArrayLike) -> NDArray[np.float64]:
    """Area under the ROC curve of every score for every truth, ties counted half (Mann and Whitney, 1947).

    Parameters
    ----------
    scores
        ``(n_samples, n_scores)``, dense or sparse.
    truth
        ``(n_samples, n_truths)``, boolean.

    Returns
    -------
    ``(n_scores, n_truths)``; NaN for a truth that all or none of the samples have.
    """
    values: Any = scores.tocsc() if sp.issparse(scores) else np.asarray(scores)
    positive = np.asarray(truth, dtype=np.float64)
    n, n_positive = len(positive), positive.sum(axis=0)
    pairs = n_positive * (n - n_positive)
    area = np.empty((values.shape[1], positive.shape[1]))

    def rank(start: int) -> None:
        block = values[:, start : start + _COLUMNS]
        ranks = rankdata(block.toarray() if sp.issparse(block) else block, axis=0)
        wins = ranks.T @ positive - n_positive * (n_positive + 1) / 2
        area[start : start + _COLUMNS] = np.divide(wins, pairs, out=np.full_like(wins, np.nan), where=pairs > 0)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(rank, range(0, values.shape[1], _COLUMNS)))
    return area


def auroc_draws(score: ArrayLike, truth: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """Area under the ROC curve of one score when samples count as often as they were drawn.

    Parameters
    ----------
    score, truth
        ``(n_samples,)``.
    weights
        ``(n_draws, n_samples)`` (`cytosae.concepts.quality.resampling.bootstrap_weights`).

    Returns
    -------
    ``(n_draws,)``; NaN for a draw that lacks one side.
    """
    values, positive, counts = np.asarray(score), np.asarray(truth, bool), np.asarray(weights, np.float64)
    order = np.argsort(values, kind="stable")
    values, positive, counts = values[order], positive[order], counts[:, order]
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1])) if len(values) else np.zeros(0, np.intp)
    ups = np.add.reduceat(np.where(positive, counts, 0), starts, axis=1)
    downs = np.add.reduceat(np.where(positive, 0, counts), starts, axis=1)
    below = np.cumsum(downs, axis=1) - downs / 2
    wins, pairs = (ups * below).sum(axis=1), ups.sum(axis=1) * downs.sum(axis=1)
    return np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)


@dataclass(frozen=True)
class Alignment:
    """The best score for each truth, chosen on some samples and tested on others."""

    best: NDArray[np.int64]
    """Index of the chosen score, ``(n_truths,)``; -1 where either side lacks the truth."""
    area: NDArray[np.float64]
    """Its AUROC on the other samples, ``(n_truths,)``."""
    draws: NDArray[np.float64]
    """The same in bootstrap draws of the other samples, ``(n_draws, n_truths)``."""

    def fraction(self, above: float = 0.9) -> float:
        """Share of the truths with an AUROC above a bar; those without a figure do not count."""
        known = np.isfinite(self.area)
        return float((self.area[known] > above).mean()) if known.any() else float("nan")

    def mean(self) -> Estimate:
        """Mean over the truths that have a figure."""
        known = np.isfinite(self.area)
        if not known.any():
            return Estimate(np.nan)
        return Estimate.from_draws(
            self.area[known].mean(), np.nanmean(self.draws[:, known], axis=1) if len(self.draws) else ()
        )


def align(
    scores: Scores,
    truth: ArrayLike,
    choosing: ArrayLike,
    codes: ArrayLike | None = None,
    draws: int = 200,
    seed: int = 0,
) -> Alignment:
    """Find the best score for each truth on the choosing samples and test it on the others, by AUROC.

    Parameters
    ----------
    scores
        ``(n_samples, n_scores)``, dense or sparse: activations of latents, or projections of a baseline.
    truth
        ``(n_samples, n_truths)``, boolean: an attribute's value of a cell, a tissue of a patch.
    choosing
        Which samples choose, ``(n_samples,)``; `halves` keeps patients on one side.
    codes
        What is drawn whole for the interval (the patient of a cell, the cell of a patch), ``(n_samples,)``.
    draws
        Bootstrap draws; 0 for none.
    """
    values = scores.tocsr() if sp.issparse(scores) else np.asarray(scores)
    positive, chosen = np.asarray(truth, bool), np.asarray(choosing, bool)
    test = ~chosen
    areas = auroc(values[chosen], positive[chosen])
    usable = np.isfinite(areas).all(axis=0) & positive[test].any(axis=0) & ~positive[test].all(axis=0)
    best = np.where(usable, np.nan_to_num(areas, nan=-1).argmax(axis=0), -1)
    units = np.arange(len(positive)) if codes is None else np.asarray(codes)
    weights = bootstrap_weights(units[test], draws, seed)
    area, drawn = np.full(positive.shape[1], np.nan), np.full((draws, positive.shape[1]), np.nan)
    test_values = values[test]
    for column in np.flatnonzero(best >= 0):
        score = test_values[:, [best[column]]]
        score = (score.toarray() if sp.issparse(score) else score)[:, 0]
        area[column] = auroc(score[:, None], positive[test][:, [column]])[0, 0]
        drawn[:, column] = auroc_draws(score, positive[test][:, column], weights)
    return Alignment(best, area, drawn)
