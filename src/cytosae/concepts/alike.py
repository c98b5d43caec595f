"""Which concepts say nearly the same of the cells: by their counts, not by the directions of the dictionary."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

ALIKE = 0.9
"""Correlation of the counts over cells from which two concepts are near-duplicates."""
CELLS = 4096
"""Cells over which counts are correlated, at most."""
_RUN = 16  # consecutive cells that are read together
_SHOWN = 5  # cells that have to show a concept for a correlation
_BLOCK, _TILE = 1024, 2048  # concepts that are compared with all others together, and with how many at a time


def spread_rows(n_cells: int) -> NDArray[np.int64]:
    """Rows of at most `CELLS` cells that are spread evenly over a data set, in short runs.

    Examples
    --------
    >>> spread_rows(3).tolist()
    [0, 1, 2]
    """
    if n_cells <= CELLS:
        return np.arange(n_cells)
    starts = np.linspace(0, n_cells - _RUN, CELLS // _RUN).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(_RUN))


def count_correlations(counts: sp.csc_matrix, latents: ArrayLike) -> NDArray[np.float32]:
    """Pearson correlation of the counts of some latents with those of all, over cells.

    Parameters
    ----------
    counts
        ``(n_cells, n_latents)``.
    latents
        Numbers of the latents, ``(n_chosen,)``.

    Returns
    -------
    ``(n_chosen, n_latents)``; 0 where a latent is shown by fewer than five of the cells.

    Examples
    --------
    >>> a = np.arange(8) % 4
    >>> counts = sp.csc_matrix(np.stack([a, 2 * a, a[::-1], 0 * a], axis=1))
    >>> count_correlations(counts, [0]).round(1).tolist()
    [[1.0, 1.0, -1.0, 0.0]]
    """
    return _correlations(counts, np.asarray(latents, np.int64), *_moments(counts))


def _moments(counts: sp.csc_matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of each latent, and its deviation, infinite where there is no correlation."""
    mean = np.asarray(counts.mean(axis=0), np.float64).ravel()
    square = np.asarray(counts.multiply(counts).mean(axis=0), np.float64).ravel()
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    known = (np.diff(counts.indptr) >= _SHOWN) & (deviation > 0)
    return mean, np.where(known, deviation, np.inf)


def _correlations(
    counts: sp.csc_matrix, chosen: NDArray[np.int64], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float32]:
    """See `count_correlations`. Counts are small whole numbers, of which float32 products are exact far beyond need."""
    own = counts[:, chosen].toarray().astype(np.float32).T
    correlations = np.empty((len(chosen), counts.shape[1]), np.float32)
    for first in range(0, counts.shape[1], _TILE):
        tile = slice(first, first + _TILE)
        products = own @ counts[:, tile].toarray().astype(np.float32, copy=False)
        covariance = products.astype(np.float64) / counts.shape[0] - np.outer(mean[chosen], mean[tile])
        correlations[:, tile] = covariance / np.outer(scale[chosen], scale[tile])
    return correlations


def alike_leaders(
    counts: sp.csc_matrix, interest: NDArray[np.floating], concepts: NDArray[np.bool_], least: float = ALIKE
) -> NDArray[np.int64]:
    """The concept in whose place each is shown: the most interesting of its near-duplicates.

    By falling interest every concept that has no place yet takes all others without one whose counts correlate with its own
    by `least` or more. All members are alike to the one that is shown, not to one another.

    Parameters
    ----------
    counts
        ``(n_cells, n_latents)``, of cells such as `spread_rows` gives.
    interest
        See `cytosae.concepts.interest_scores`, ``(n_latents,)``.
    concepts
        Latents that are concepts, ``(n_latents,)``; others stand for themselves.
    least
        The correlation.

    Returns
    -------
    Number of a latent for each, its own where it is shown itself; ``(n_latents,)``.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    leaders = np.arange(counts.shape[1])
    candidates = np.flatnonzero(concepts)
    order = candidates[np.argsort(-interest[candidates], kind="stable")]
    own, left = sp.csc_matrix(counts[:, order]), np.ones(len(order), bool)
    mean, scale = _moments(own)
    for start in range(0, len(order), _BLOCK):  # those before have their place
        rest, block = slice(start, None), np.flatnonzero(left[start : start + _BLOCK])
        for index, row in zip(block, _correlations(own[:, rest], block, mean[rest], scale[rest]), strict=True):
            if left[start + index]:
                left[start + index] = False
                members = start + np.flatnonzero(left[rest] & (row >= least))
                leaders[order[members]] = order[start + index]
                left[members] = False
    return leaders
