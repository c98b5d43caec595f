"""How sure is a taught concept? Every mark is judged by a fit that has seen no mark of its patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FOLDS = 5
_MOST_ABOVE, _CANDIDATES = 0.6, 60  # largest share of random patches above a threshold, and thresholds that are tried
_LEAST_FOUND = 0.3  # of the marks, above any of them
_OWN = 3  # marks that half of the spread of random patches counts for, where few have a spread of their own
_BROAD, _WORTHLESS = 1 / 3, 2.0
RANDOM_A_MARK = 10
"""Random patches a mark, for the average precision: as if one patch in eleven showed the concept."""


@dataclass(frozen=True)
class Figure:
    """A mean over marks, with an interval over what stays together (patients or cells)."""

    value: float
    low: float
    high: float
    chance: float
    """What a score that knows nothing has."""
    marks: int
    units: int

    def as_dict(self) -> dict[str, float]:
        """As JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "chance": self.chance, "units": self.units}


def mean_over_units(values: NDArray[np.floating], units: NDArray[np.integer], chance: float) -> Figure:
    """Mean of values from 0 to 1, and a 95 % t interval that stays wide where few units agree by chance.

    Units weigh equally. To theirs one more is added for the interval alone, with the value of chance: five units with 0.99
    each have no spread, and yet do not show that the next has 0.99.

    Parameters
    ----------
    values, units
        Value and unit of each mark, ``(n_marks,)``.

    Examples
    --------
    >>> figure = mean_over_units(np.full(5, 0.99), np.arange(5), chance=0.5)
    >>> round(figure.low, 2), round(figure.high, 2)
    (0.7, 1.0)
    """
    if not len(values):
        return Figure(float("nan"), float("nan"), float("nan"), chance, 0, 0)
    codes = np.unique(units, return_inverse=True)[1]
    means = np.bincount(codes, values) / np.bincount(codes)
    more = np.append(means, chance)
    half = stats.t.ppf(0.975, len(means)) * more.std(ddof=1) / np.sqrt(len(more))
    low, high = max(0.0, more.mean() - half), min(1.0, more.mean() + half)
    value = float(means.mean())
    return Figure(value, min(value, float(low)), max(value, float(high)), chance, len(values), len(means))


def placements(scores: NDArray[np.floating], random: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of random scores below each score, ties half; their mean is the AUROC."""
    ordered = np.sort(random)
    below, upto = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return np.asarray((below + upto) / (2 * max(1, len(ordered))))


def precisions(scores: NDArray[np.floating], random: NDArray[np.floating]) -> NDArray[np.float64]:
    """Precision at each mark's score, with `RANDOM_A_MARK` random patches a mark; their mean is the average precision."""
    recall = (scores[None] >= scores[:, None]).mean(axis=1)
    ordered = np.sort(random)
    wrong = 1 - np.searchsorted(ordered, scores, "left") / max(1, len(ordered))
    return np.asarray(recall / (recall + RANDOM_A_MARK * wrong))


@dataclass(frozen=True)
class Marked:
    """What is judged: scores come from fits that have seen neither the unit of a mark nor that of a random patch."""

    units: NDArray[np.int64]
    """Unit of each positive mark, ``(n_marks,)``."""
    random_units: NDArray[np.int64]
    """Unit of each random patch or cell, ``(n_random,)``."""


@dataclass(frozen=True)
class HeldOut:
    """Scores of held-out marks, and of random ones by the same fits."""

    scores: NDArray[np.float64]
    """Of positive marks, ``(n_marks,)``; NaN where no fit was without their unit."""
    placed: NDArray[np.float64]
    """Share of held-out random scores below each."""
    precise: NDArray[np.float64]
    """Precision at each."""


def held_out(
    marked: Marked,
    score: Callable[[NDArray[np.bool_], NDArray[np.bool_]], tuple[NDArray[np.float64], NDArray[np.float64]]],
    seed: int,
) -> HeldOut:
    """Deal the units into folds, and score each fold's marks and random patches by a fit to the others.

    Parameters
    ----------
    score
        From which marks and which random ones are held out, both boolean, to the scores of these.
    """
    n = len(marked.units)
    scores, placed, precise = (np.full(n, np.nan) for _ in range(3))
    own = np.unique(marked.units)
    rng = np.random.default_rng([seed, 12])
    n_folds = min(FOLDS, len(own))
    if n_folds < 2:
        return HeldOut(scores, placed, precise)
    fold_of = dict(zip(rng.permutation(own).tolist(), np.arange(len(own)) % n_folds, strict=True))
    others = np.setdiff1d(marked.random_units, own)
    fold_of |= dict(zip(rng.permutation(others).tolist(), np.arange(len(others)) % n_folds, strict=True))
    folds, random_folds = (np.array([fold_of[unit] for unit in units]) for units in (marked.units, marked.random_units))
    for fold in range(n_folds):
        test, random_test = folds == fold, random_folds == fold
        if not random_test.any() or random_test.all():
            continue
        scores[test], random_scores = score(test, random_test)
        placed[test] = placements(scores[test], random_scores)
        precise[test] = precisions(scores[test], random_scores)
    return HeldOut(scores, placed, precise)


@dataclass(frozen=True)
class Threshold:
    """Score above which a patch shows the concept."""

    score: float
    recall: float
    """Share of held-out marks above it."""
    random: float
    """Share of random patches above it."""
    shown: float
    """Estimate of the share of random patches that show the concept."""

    @property
    def useless(self) -> bool:
        """Whether over a third of random patches pass it, or marks pass it less than twice as often as random patches."""
        return self.random > _BROAD or self.recall < _WORTHLESS * self.random

    @property
    def warning(self) -> str:
        """That it is useless, in words; empty where it is not.

        Examples
        --------
        >>> Threshold(0.0, recall=0.9, random=0.05, shown=0.02).warning
        ''
        >>> Threshold(0.0, recall=0.9, random=0.5, shown=0.4).warning.partition(".")[0]
        'The threshold is useless: 50 % of random patches pass it, and 90 % of the marked ones'
        """
        if not self.useless:
            return ""
        return (
            f"The threshold is useless: {100 * self.random:.0f} % of random patches pass it, and {100 * self.recall:.0f} % "
            "of the marked ones. Counts of this concept say little, unless that many patches really show it. Mark more "
            "patches 'this', and 'not this' where its map is wrong; or raise --precision."
        )


def calibrate(marks: NDArray[np.floating], random: NDArray[np.floating], precision: float) -> Threshold:
    """The lowest score above which a stated share of the patches show the concept, by an estimate.

    Of the patches above a score, ``shown * recall / random`` show the concept: `shown` is the share of all patches that do,
    `recall` the share of these above the score, `random` that of all. What share shows it at all is not known; it is at most
    ``random / recall`` at every score (Blanchard, Lee and Scott 2010), and the least of these is taken. For a structure that
    is rarer than the false alarms this is too much, and the precision less than stated.

    Parameters
    ----------
    marks
        Scores of held-out marks, ``(n_marks,)``, taken as normal.
    random
        Scores of random patches, ``(n_random,)``.
    precision
        The share.
    """
    ordered = np.sort(random)
    candidates = np.quantile(ordered, 1 - np.geomspace(_MOST_ABOVE, 1.5 / len(ordered), _CANDIDATES))
    above = 1 - (np.searchsorted(ordered, candidates, "left") - 0.5) / len(ordered)
    spread = np.sqrt((len(marks) * marks.var() + _OWN * (random.std() / 2) ** 2) / (len(marks) + _OWN))
    recall = stats.norm.sf(candidates, marks.mean(), spread)
    usable = np.flatnonzero(recall >= min(_LEAST_FOUND, recall.max()))
    shown = float((above / recall)[usable].min())
    precise = usable[(shown * recall / above)[usable] >= precision]
    best = int(precise[0]) if len(precise) else int(usable[np.argmin((above / recall)[usable])])
    return Threshold(float(candidates[best]), float(recall[best]), float(above[best]), shown)
