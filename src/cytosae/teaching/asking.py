"""Which cells are worth marking next, and whether there are marks enough. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytosae.sae.matching import unit_rows
from cytosae.sae.taught import THRESHOLD
from cytosae.teaching.judging import Figure, Threshold

NARROW = 0.1
"""Width of the interval of the AUROC at which there are marks enough."""
_STEEPNESS = 3.0  # of the probability around the threshold; typical marks lie 1 above it
_LEAST = 0.2  # what a cell keeps that is certain, or is like one that is marked
_NEW = 1.5  # factor of a patient, or a laboratory, that has no mark


@dataclass(frozen=True)
class Candidates:
    """Cells that have no mark, each with its strongest patch."""

    scores: NDArray[np.floating]
    """``w x + b`` of a learned concept on that patch, ``(n_cells,)``."""
    vectors: NDArray[np.floating]
    """Its token less the mean of random ones, ``(n_cells, d_model)``."""
    units: NDArray[np.integer]
    """Number of each cell's patient, ``(n_cells,)``."""
    groups: NDArray[np.integer]
    """Number of its laboratory (data set), ``(n_cells,)``."""


@dataclass(frozen=True)
class Suggestion:
    """A cell worth marking."""

    index: int
    """Among the candidates."""
    uncertainty: float
    """1 at the threshold, 0 far from it."""
    new_unit: bool
    """Whether nothing of its patient is marked."""
    new_group: bool
    """Whether nothing of its laboratory is marked."""


def worth_marking(candidates: Candidates, marked: Candidates, count: int) -> list[Suggestion]:
    """Choose cells one after the other: uncertain, unlike what is marked or chosen, of patients and laboratories not seen.

    The value of a cell is the product of ``0.2 + u``, where ``u = 4 p (1 - p)`` and ``p = 1 / (1 + exp(-3 (z - 0.2)))``;
    of ``0.2 + 1 - c`` with the largest cosine c, at least 0, to a marked or chosen patch; and of 1.5 for a patient and 1.5
    for a laboratory without a mark. The weights are plain choices, not tuned.

    Parameters
    ----------
    candidates
        Cells without a mark.
    marked
        Those that have marks; their scores are not used.
    count
        How many are chosen, at most.

    Examples
    --------
    >>> two = Candidates(np.array([0.2, 5.0]), np.eye(2), np.array([0, 1]), np.array([0, 0]))
    >>> none = Candidates(np.zeros(0), np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int))
    >>> [one.index for one in worth_marking(two, none, 2)]
    [0, 1]
    """
    p = 1 / (1 + np.exp(-np.clip(_STEEPNESS * (np.asarray(candidates.scores, float) - THRESHOLD), -50, 50)))
    uncertainty = 4 * p * (1 - p)
    vectors, seen = unit_rows(candidates.vectors), unit_rows(marked.vectors)
    nearest = (vectors @ seen.T).max(axis=1, initial=0.0)
    units, groups = set(marked.units.tolist()), set(marked.groups.tolist())
    left, chosen = np.ones(len(p), bool), list[Suggestion]()
    while len(chosen) < count and left.any():
        new_unit = ~np.isin(candidates.units, list(units))
        new_group = ~np.isin(candidates.groups, list(groups))
        value = (_LEAST + uncertainty) * (_LEAST + 1 - nearest) * _NEW**new_unit * _NEW**new_group
        best = int(np.argmax(np.where(left, value, -np.inf)))
        chosen.append(Suggestion(best, float(uncertainty[best]), bool(new_unit[best]), bool(new_group[best])))
        left[best] = False
        units.add(int(candidates.units[best]))
        groups.add(int(candidates.groups[best]))
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return chosen


def how_sure(auroc: Figure, threshold: Threshold) -> tuple[bool, str]:
    """Whether the interval is narrow enough, and the threshold of use, to stop marking, and a sentence that says so.

    No example: needs marks and the cells of a study; the tutorial *Judge and teach with a colleague* runs it.
    """
    if not np.isfinite(auroc.value):
        return (
            False,
            "Mark the concept in at least two cells, if possible of different patients, to see how good it is.",
        )
    width = auroc.high - auroc.low
    span = f"AUROC {auroc.value:.2f}, 95 % interval {auroc.low:.2f} to {auroc.high:.2f}"
    if width <= NARROW and threshold.useless:
        return False, f"Its order is sure ({span}), its threshold is useless: marks of 'not this' help most."
    if width <= NARROW:
        return True, f"You can stop here: {span}. More marks would change little."
    return False, f"More marks help: {span}. Go on until it is {NARROW} wide or less; new patients help most."
