"""Directions of a decoder: are they found again by another training, and do several say the same?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

_ROWS = 1024  # directions that are compared together


def _unit(directions: NDArray[np.floating]) -> NDArray[np.float32]:
    values = np.asarray(directions, np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


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
    return _nearest(_unit(directions), _unit(others))[1]


def matched_cosines(directions: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float32]:
    """Cosines under the one-to-one matching with the largest sum (Hungarian method; Paulo and Belrose, 2025).

    Unlike `best_cosines`, many directions that gather around one of the others gain nothing by it.

    Returns
    -------
    ``(min(n, m),)``.
    """
    cosines = _unit(directions) @ _unit(others).T
    return cosines[linear_sum_assignment(cosines, maximize=True)]


def reproducibility(
    directions: NDArray[np.floating], others: Iterable[NDArray[np.floating]], above: float = 0.7
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """How surely each latent is found again by other trainings, for example of other seeds.

    A latent comes back in another training if one of its latents is the nearest to it, it is the nearest to that one, and
    their cosine is at least `above`. Two that have split, or gathered around one, do not both come back.

    Parameters
    ----------
    directions
        Rows of the decoder, ``(n, d_model)``.
    others
        Rows of the decoders of the other trainings, each ``(m, d_model)``.

    Returns
    -------
    cosine
        Mean over the others of the cosine with the nearest, ``(n,)``.
    share
        Share of the others in which it comes back, ``(n,)``.

    Examples
    --------
    >>> import numpy as np
    >>> cosine, share = reproducibility(np.eye(3), [np.eye(3)[:2], np.eye(3)[1:]])
    >>> share.tolist()
    [0.5, 1.0, 0.5]
    """
    unit, count = _unit(directions), 0
    cosines, returned = np.zeros((2, len(unit)))
    for count, other in enumerate(others, 1):  # noqa: B007 - their number is needed
        candidates = _unit(other)
        nearest, cosine = _nearest(unit, candidates)
        mutual = _nearest(candidates, unit)[0][nearest] == np.arange(len(unit))
        cosines += cosine
        returned += mutual & (cosine >= above)
    return (cosines / count).astype(np.float32), returned / count


def _nearest(
    unit: NDArray[np.float32], candidates: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest candidate of each direction, and the cosine with it."""
    places, values = [], []
    for start in range(0, len(unit), _ROWS):
        cosines = unit[start : start + _ROWS] @ candidates.T
        places.append(cosines.argmax(axis=1))
        values.append(cosines.max(axis=1))
    return np.concatenate(places), np.concatenate(values)


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
    unit = _unit(directions)
    pairs = []
    for start in range(0, len(unit), _ROWS):
        rows, columns = np.nonzero(unit[start : start + _ROWS] @ unit.T > above)
        pairs.append(np.stack([rows + start, columns]))
    rows, columns = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int64)
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(len(unit), len(unit)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
