"""Directions of a decoder: are they found again by another training, and do several say the same?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cytosae.sae.matching import ROWS, nearest, unit_rows


def best_cosines(directions: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float32]:
    """Largest cosine of each direction with any of some others; the mean is the MMCS of Sharkey et al. (2022).

    Parameters
    ----------
    directions, others
        ``(n, d_model)`` and ``(m, d_model)``.

    Returns
    -------
    ``(n,)``.
    """
    return nearest(unit_rows(directions), unit_rows(others))[1]


def matched_cosines(directions: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float32]:
    """Cosines under the one-to-one matching with the largest sum (Hungarian method; Paulo and Belrose, 2025).

    Unlike `best_cosines`, many directions that gather around one of the others gain nothing by it.

    Returns
    -------
    ``(min(n, m),)``.
    """
    cosines = unit_rows(directions) @ unit_rows(others).T
    return cosines[linear_sum_assignment(cosines, maximize=True)]


def redundancy_groups(directions: NDArray[np.floating], above: float = 0.9) -> NDArray[np.int64]:
    """Groups of latents whose directions are nearly the same.

    Parameters
    ----------
    directions
        Rows of the decoder, ``(n_latents, d_model)``.
    above
        Cosine from which two latents belong to one group; groups are chains of such pairs.

    Returns
    -------
    Number of each latent's group, ``(n_latents,)``; a latent without a twin has a group of its own.
    """
    unit = unit_rows(directions)
    pairs = []
    for start in range(0, len(unit), ROWS):
        rows, columns = np.nonzero(unit[start : start + ROWS] @ unit.T > above)
        pairs.append(np.stack([rows + start, columns]))
    rows, columns = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int64)
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(len(unit), len(unit)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
