"""What goes with a concept over cells: types, expert attributes, measurements. Chosen on one half, tested on the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy import stats

from cytosae.concepts.quality import auroc

_BLOCK = 512
_LEAST = 5  # cells on either side


@dataclass(frozen=True)
class Associated:
    """The strongest of several candidates for each concept; arrays ``(n_concepts,)``."""

    best: NDArray[np.int64]
    """Number of the candidate, chosen on one half of the cells; -1 where there is none."""
    value: NDArray[np.float64]
    """AUROC or rank correlation on the other half."""
    q: NDArray[np.float64]
    """Its p-value there, two-sided, after Benjamini and Hochberg over the concepts."""


def classes(
    means: sp.csr_matrix, truth: NDArray[np.bool_], known: NDArray[np.bool_], choosing: NDArray[np.bool_]
) -> Associated:
    """The class that each concept's activation tells best from all others, by AUROC.

    Parameters
    ----------
    means
        m_i[s], ``(n_cells, n_concepts)``.
    truth
        ``(n_cells, n_classes)``.
    known
        Where the truth is known, ``(n_cells, n_classes)``: other values of the same attribute count as "no".
    choosing
        The half that chooses, ``(n_cells,)``; the other tests.
    """
    n_concepts, n_classes = means.shape[1], truth.shape[1]
    areas = np.full((2, n_concepts, n_classes), np.nan)
    sizes = np.zeros((2, n_classes))
    _, attribute = np.unique(known, axis=1, return_inverse=True)  # values of one attribute are known of the same cells
    for side, rows in enumerate((choosing, ~choosing)):
        for group in range(attribute.max(initial=-1) + 1):
            columns = np.flatnonzero(attribute == group)
            used = rows & known[:, columns[0]]
            positive = truth[np.ix_(used, columns)]
            sizes[side, columns] = np.minimum(positive.sum(axis=0), (~positive).sum(axis=0))
            enough = columns[sizes[side, columns] >= _LEAST]
            if len(enough):
                areas[side][:, enough] = auroc(means[used], truth[np.ix_(used, enough)])
    usable = np.isfinite(areas).all(axis=(0, 1))
    if not usable.any():
        return none_associated(n_concepts)
    best = np.where(usable, areas[0], -1).argmax(axis=1)
    value = areas[1][np.arange(n_concepts), best]
    test = ~choosing
    positives = np.array([(truth[:, c] & known[:, c] & test).sum() for c in range(n_classes)])[best]
    negatives = np.array([(~truth[:, c] & known[:, c] & test).sum() for c in range(n_classes)])[best]
    error = np.sqrt((positives + negatives + 1) / (12.0 * np.maximum(positives * negatives, 1)))
    return Associated(best, value, _adjusted(2 * stats.norm.sf(np.abs(value - 0.5) / error)))


def ratio_to_others(active: sp.csr_matrix, truth: NDArray[np.bool_], best: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many times as often cells of the best class show each concept as other cells do, ``(n_concepts,)``.

    Parameters
    ----------
    active
        Whether a cell has an active patch, ``(n_cells, n_concepts)``.
    truth, best
        See `classes`. Half a cell is added on either side, so that nothing is divided by 0.
    """
    member = truth.astype(np.float64)
    shown = np.asarray(active.T @ member)
    every = np.asarray(active.sum(axis=0)).ravel()
    column = np.maximum(best, 0)
    rows = np.arange(len(best))
    n_class = member.sum(axis=0)[column]
    inside = (shown[rows, column] + 0.5) / (n_class + 1)
    outside = (every - shown[rows, column] + 0.5) / (len(member) - n_class + 1)
    return np.asarray(np.where(best >= 0, inside / outside, np.nan))


def correlations(
    means: sp.csr_matrix, measured: NDArray[np.float64], choosing: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rank correlation of every concept with every measurement on both halves, and q on the second.

    Spearman's, over the largest that the concept's ties allow: a concept that one cell in twenty shows is 0 in all others,
    and Spearman's cannot be above 0.38. Without ties it is Spearman's; of a concept that is there or not it is the
    rank-biserial correlation, 2 AUROC - 1.

    Parameters
    ----------
    means
        m_i[s], ``(n_cells, n_concepts)``.
    measured
        ``(n_cells, n_measurements)``; NaN where it was not measured, which counts as the middle rank.
    choosing
        The half that chooses.

    Returns
    -------
    ``(n_concepts, n_measurements)`` each; q is corrected for all concepts and measurements together.
    """
    sides = []
    for rows in (choosing, ~choosing):
        targets, n = _standard_ranks(measured[rows])
        values = means[rows].tocsc()
        blocks, largest = [], []
        for start in range(0, values.shape[1], _BLOCK):
            block = values[:, start : start + _BLOCK].toarray()
            blocks.append(_standard_ranks(block)[0].T @ targets / np.maximum(n, 1))
            largest.append(_largest_correlation(block))
        sides.append((np.concatenate(blocks), n, np.concatenate(largest)[:, None]))
    (first, _, first_largest), (tested, n, largest_tested) = sides
    t = np.abs(tested) * np.sqrt(np.maximum(n - 2, 1) / np.maximum(1 - tested**2, 1e-12))
    p = 2 * stats.t.sf(t, np.maximum(n - 2, 1))
    chosen, tested = (np.clip(r / most, -1, 1) for r, most in ((first, first_largest), (tested, largest_tested)))
    return chosen, tested, _adjusted(p.ravel()).reshape(p.shape)


def _largest_correlation(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The largest Spearman correlation that columns can have with one without ties, ``(n_columns,)``; 1 for a constant."""
    n = len(values)
    spread = stats.rankdata(values, axis=0).std(axis=0) / np.sqrt(max(n**2 - 1, 1) / 12)
    return np.where(spread > 0, spread, 1.0)


def _standard_ranks(values: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Ranks with mean 0 and variance 1 over what is known, 0 elsewhere; and how many are known, by column."""
    known = np.isfinite(values)
    ranks = stats.rankdata(np.where(known, values, np.inf), axis=0)
    n = known.sum(axis=0)
    ranks = np.where(known, ranks, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, ranks, 0).sum(axis=0) / np.maximum(n, 1)
        centred = np.where(known, ranks - mean, 0)
        spread = np.sqrt((centred**2).sum(axis=0) / np.maximum(n, 1))
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0), n


def _adjusted(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Benjamini and Hochberg (1995); NaN stays."""
    known = np.isfinite(p)
    q = np.full(p.shape, np.nan)
    if known.any():
        q[known] = stats.false_discovery_control(np.clip(p[known], 0, 1))
    return q


def none_associated(n: int) -> Associated:
    """Of `n` concepts for which there is no candidate."""
    return Associated(np.full(n, -1), np.full(n, np.nan), np.full(n, np.nan))
