"""Cells of one patient that resemble none of other patients. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from cytosae.cohort.retrieval import ByChance, number_by_chance

ALARMS = 0.01
"""Share of the cells of other patients above the threshold: false alarms, if these have no cells of their own kind."""
_BLOCK = 512  # rows of distances that are in memory together


@dataclass(frozen=True)
class Unfamiliar:
    """Distances of a patient's cells to the nearest cells of others, and from where a cell is unfamiliar."""

    distances: NDArray[np.float64]
    """Of each cell, 0 to sqrt(2), ``(n_cells,)``."""
    nearest: NDArray[np.int64]
    """Place of that cell among the cells compared with, ``(n_cells,)``."""
    threshold: float
    """Exceeded by `ALARMS` of the cells of the other patients, each of whom is left out and weighs the same."""
    chance: ByChance
    """How many of the patient's cells are above it by chance."""
    highest: float
    """Largest share of cells above the threshold of one of the other patients, each with the threshold of the rest."""

    @property
    def cells(self) -> NDArray[np.int64]:
        """Places of the unfamiliar cells, the farthest first."""
        order = np.argsort(-self.distances, kind="stable")
        return order[self.distances[order] > self.threshold]


def unfamiliar_cells(
    means: sp.csr_matrix, others: sp.csr_matrix, people: ArrayLike, usable: ArrayLike | None = None
) -> Unfamiliar:
    """Which cells of a patient lie farther from all cells of others than cells of others do.

    The distance of two cells is that of the vectors sqrt(m_i) over the concepts, each of norm 1: it compares what share of
    a cell's activation each concept has, and the weak concepts count (Hellinger's distance). Cells of other patients have
    theirs to the cells of everybody but themselves, so both kinds are compared with as many people.

    Parameters
    ----------
    means
        m_i[s] of the patient's cells, ``(n_cells, n_latents)``.
    others
        Of cells of other patients, about as many of each, ``(n_others, n_latents)``.
    people
        Person of each of these, ``(n_others,)``; four at least.
    usable
        Latents to compare by, such as discovered concepts that not every cell has, ``(n_latents,)``; all if None.

    Raises
    ------
    ValueError
        Fewer than four other people.

    References
    ----------
    Leave-one-out distances as a reference: Ramaswamy et al. (2000), Efficient algorithms for mining outliers.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    _, person = np.unique(np.asarray(people), return_inverse=True)
    n_people = int(person.max(initial=-1)) + 1
    if n_people < 4:
        raise ValueError(f"cells of {n_people} other people; 4 at least are needed to say what is unfamiliar")
    chosen = np.ones(means.shape[1], bool) if usable is None else np.asarray(usable, bool)
    own, known = (_profiles(matrix, chosen) for matrix in (means, others))
    distances, nearest = _nearest(own, known, np.full(own.shape[0], -1), person)
    reference, _ = _nearest(known, known, person, person)
    sizes = np.bincount(person)
    weights = 1 / sizes[person]
    order = np.argsort(reference, kind="stable")
    above = np.zeros(n_people, np.int64)
    for one in range(n_people):
        limit = _threshold(reference[order], np.where(person[order] == one, 0.0, weights[order]))
        above[one] = int((reference[person == one] > limit).sum())
    threshold = _threshold(reference[order], weights[order])
    chance = number_by_chance(int((distances > threshold).sum()), len(distances), above, sizes)
    return Unfamiliar(distances, nearest, threshold, chance, float((above / sizes).max()))


def _profiles(means: sp.csr_matrix, usable: NDArray[np.bool_]) -> sp.csr_matrix:
    """sqrt(m_i) of the usable latents with norm 1, ``(n_cells, n_usable)``."""
    roots = sp.csr_matrix(means)[:, np.flatnonzero(usable)].astype(np.float32)
    roots.data = np.sqrt(np.maximum(roots.data, 0))
    norms = np.sqrt(np.asarray(roots.multiply(roots).sum(axis=1)).ravel())
    return sp.csr_matrix(sp.diags(1 / np.where(norms > 0, norms, 1)) @ roots)


def _nearest(
    cells: sp.csr_matrix, known: sp.csr_matrix, own: NDArray[np.int64], person: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance of each cell to the nearest of other people, and its place."""
    distances, nearest = np.empty(cells.shape[0]), np.empty(cells.shape[0], np.int64)
    dense = known.T.toarray()
    for start in range(0, cells.shape[0], _BLOCK):
        rows = slice(start, start + _BLOCK)
        likeness = np.asarray(cells[rows] @ dense)
        likeness[own[rows, None] == person] = -1
        nearest[rows] = likeness.argmax(axis=1)
        best = likeness.max(axis=1)
        distances[rows] = np.sqrt(np.maximum(2 - 2 * best.astype(np.float64), 0))
    return distances, nearest


def _threshold(distances: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The smallest of some rising distances that at most `ALARMS` of the weights exceed."""
    exceeding = 1 - np.cumsum(weights) / weights.sum()
    return float(distances[int(np.argmax(exceeding <= ALARMS + 1e-12))])
