"""Which latents of one training are those of another, and which come back in most of several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cytosae.settings import RETURNS_ABOVE

ROWS = 1024
"""Directions that are compared together."""


def unit_rows(directions: NDArray[np.floating]) -> NDArray[np.float32]:
    """Directions ``(n, d_model)`` at length 1."""
    values = np.asarray(directions, np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def nearest(
    unit: NDArray[np.float32], candidates: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest candidate of each direction, and the cosine with it; both of unit rows."""
    places, values = [], []
    for start in range(0, len(unit), ROWS):
        cosines = unit[start : start + ROWS] @ candidates.T
        places.append(cosines.argmax(axis=1))
        values.append(cosines.max(axis=1))
    return np.concatenate(places), np.concatenate(values)


def mutual_matches(
    unit: NDArray[np.float32], others: NDArray[np.float32], above: float = RETURNS_ABOVE
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The latent of another training as which each latent comes back.

    A latent comes back if one of the others is the nearest to it, it is the nearest to that one, and their cosine is at
    least `above`. Two that have split, or gathered around one, do not both come back.

    Parameters
    ----------
    unit, others
        Rows of two decoders, of unit length, ``(n, d_model)`` and ``(m, d_model)``.

    Returns
    -------
    match
        Its row in `others`, -1 where it does not come back; ``(n,)``.
    cosine
        With the nearest of the others, ``(n,)``.
    """
    partner, cosine = nearest(unit, others)
    mutual = nearest(others, unit)[0][partner] == np.arange(len(unit))
    return np.where(mutual & (cosine >= above), partner, -1), cosine


def reproducibility(
    directions: NDArray[np.floating], others: Iterable[NDArray[np.floating]], above: float = RETURNS_ABOVE
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """How surely each latent is found again by other trainings, for example of other seeds (`mutual_matches`).

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
    unit, count = unit_rows(directions), 0
    cosines, returned = np.zeros((2, len(unit)))
    for count, other in enumerate(others, 1):  # noqa: B007 - their number is needed
        match, cosine = mutual_matches(unit, unit_rows(other), above)
        cosines += cosine
        returned += match >= 0
    return (cosines / count).astype(np.float32), returned / count


def returning(
    trainings: Sequence[NDArray[np.floating]], above: float = RETURNS_ABOVE
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The latents that most of several trainings find, each once.

    Latents that come back as one another (`mutual_matches`) are a group, and so are chains of them. A group is kept if more
    than half of the trainings have a latent in it; its first latent, of the earliest training, stands for it.

    Parameters
    ----------
    trainings
        Rows of each decoder, ``(n_latents, d_model)``.

    Returns
    -------
    training, latent
        Number of the training and of the latent that stands for each group, in their order; ``(n_kept,)``.
    found
        In how many trainings the group has a latent, ``(n_kept,)``.

    Examples
    --------
    >>> import numpy as np
    >>> training, latent, found = returning([np.eye(3), np.eye(3)[1:], np.eye(3)[2:]])
    >>> training.tolist(), latent.tolist(), found.tolist()
    ([0, 0], [1, 2], [2, 3])
    """
    units = [unit_rows(rows) for rows in trainings]
    first = np.cumsum([0, *map(len, units)])
    edges = []
    for a, unit in enumerate(units):
        for b in range(a + 1, len(units)):
            match, _ = mutual_matches(unit, units[b], above)
            own = np.flatnonzero(match >= 0)
            edges.append(np.stack([first[a] + own, first[b] + match[own]]))
    rows, columns = np.concatenate(edges, axis=1) if edges else np.zeros((2, 0), np.int64)
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(first[-1], first[-1]))
    group = connected_components(graph, directed=False)[1]
    training = np.repeat(np.arange(len(units)), np.diff(first))
    members = np.zeros((group.max() + 1, len(units)), bool)
    members[group, training] = True
    n_members = members.sum(axis=1)
    representative = np.sort(np.unique(group, return_index=True)[1])  # the first of each
    representative = representative[2 * n_members[group[representative]] > len(units)]
    return training[representative], representative - first[training[representative]], n_members[group[representative]]
