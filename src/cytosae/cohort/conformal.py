"""Conformal sets: the classes that a patient may have, with a stated coverage. Arrays in, numbers out.

Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World (2005), chapters 2 and 4 (classes by themselves: Mondrian);
Vovk: Cross-conformal predictors (2015); Romano, Sesia, Candes: Classification with valid and adaptive coverage (2020), whose
CV+ sets these are, with 1 - probability as the score. What is proven for them and any model is 1 - 2 alpha, less a term that
vanishes with the number of patients; in practice they cover more than 1 - alpha, the more the models of the folds disagree.
Two things bring the coverage back. A score is the mean over the models of several divisions that had not seen the patient,
as in the jackknife+ after the bootstrap (Kim, Xu, Barber 2020), so that it hardly depends on the division. And p-values are
compared once more with those that the training patients' true classes get when their folds are left out of everything
(calibrating aggregated predictors: Linusson, Norinder, Bostrom, Johansson, Lofstrom 2017), which is conformal prediction
with the p-value as the score. A p-value of n patients has steps of 1 / (n + 1), which would widen the sets of small
classes: it is interpolated between them (Carlsson, Ahlberg, Bostrom, Johansson, Linusson 2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights


def error_rate(coverage: float) -> float:
    """alpha = 1 - coverage, without the rounding that would make 1 - 0.9 another number than 0.1.

    Examples
    --------
    >>> round(error_rate(0.9), 6)
    0.1
    """
    return round(1 - coverage, 12)


def least_patients(coverage: float) -> int:
    """Patients that a class needs for a calibration of its own: 1 / alpha, rounded up.

    The smallest p-value among n patients is 1 / (n + 1): with fewer the class could never be left out of a set.

    Examples
    --------
    >>> least_patients(0.9)
    10
    """
    return math.ceil(round(1 / error_rate(coverage), 9))


def classes_alone(target: NDArray[np.integer], n_classes: int, coverage: float) -> NDArray[np.bool_]:
    """Which classes have the patients for a calibration of their own (`least_patients`), ``(n_classes,)``."""
    return np.bincount(target, minlength=n_classes) >= least_patients(coverage)


@dataclass(frozen=True)
class Calibration:
    """What models said of the true class of training patients that they had not seen."""

    scores: NDArray[np.float64]
    """1 - probability of the true class, mean over the models that had not seen the patient; ``(n_patients,)``."""
    models: NDArray[np.int64]
    """These models, one of each division of the patients, ``(n_patients, n_divisions)``."""
    target: NDArray[np.int64]
    """True class, ``(n_patients,)``."""
    left_out_p: NDArray[np.float64]
    """`fold_p_values` of the true class, by models and scores made without the patient's fold, ``(n_patients,)``."""

    @classmethod
    def from_predictions(
        cls,
        probability: NDArray[np.floating],
        models: NDArray[np.int64],
        target: NDArray[np.int64],
        left_out_p: NDArray[np.float64] | None = None,
    ) -> Calibration:
        """From the probabilities of rows by models that had not seen them.

        Parameters
        ----------
        probability
            In each division, ``(n_divisions, n_rows, n_classes)``.
        models
            Number of the model that made them, ``(n_divisions, n_rows)``; rows with a negative number have no prediction
            and are left out (`cytosae.cohort.Folds.row_models`).
        target
            True class of each row, ``(n_rows,)``.
        left_out_p
            Of each row that is left, ``(n_patients,)``; without them there are no `sets`.
        """
        rows = np.flatnonzero((models >= 0).all(axis=0))
        mean = np.asarray(probability, np.float64)[:, rows].mean(axis=0)
        return cls(
            1 - mean[np.arange(len(rows)), target[rows]],
            models[:, rows].T,
            target[rows],
            np.empty(0) if left_out_p is None else left_out_p,
        )

    def by_class(self, n_classes: int, coverage: float) -> NDArray[np.bool_]:
        """Which classes have the patients for a calibration of their own, ``(n_classes,)``; see `classes_alone`."""
        return classes_alone(self.target, n_classes, coverage)

    def fold_p_values(
        self, probability: NDArray[np.floating], coverage: float, alone: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """How well each class fits some patients: the share of training patients whose true class fitted no better.

        Each training patient is compared with what the models that had not seen this patient say of the new one, on
        average. A class with enough patients is compared with its own, the others with all.

        Parameters
        ----------
        probability
            Of new patients by every model, ``(n_models, n_patients, n_classes)``.
        coverage
            Nominal coverage, which decides which classes have enough patients.
        alone
            These classes, where they are decided by more patients than these, ``(n_classes,)``.

        Returns
        -------
        ``(n_patients, n_classes)``, from 0 to 1: `interpolated_p`.
        """
        new = 1 - np.asarray(probability, np.float64)
        own = self.by_class(new.shape[2], coverage) if alone is None else alone
        p = np.ones(new.shape[1:])
        if not len(self.scores):
            return p
        of_patient = np.mean([new[models] for models in self.models.T], axis=0)
        for c in range(new.shape[2]):
            compared = (self.target == c) | ~own[c]
            if not compared.any():  # nothing is known of this class
                continue
            p[:, c] = interpolated_p(self.scores[compared], of_patient[compared, :, c])
        return p

    def p_values(self, probability: NDArray[np.floating], coverage: float) -> NDArray[np.float64]:
        """`fold_p_values`, compared with those of the training patients who were left out; ``(n_patients, n_classes)``."""
        return calibrated_p(self.fold_p_values(probability, coverage), self.left_out_p)

    def sets(self, probability: NDArray[np.floating], coverage: float) -> NDArray[np.bool_]:
        """Which classes are in the set of each patient, ``(n_patients, n_classes)``: those with p above alpha.

        See `p_values`. A set may be empty: no class fits as well as it should at this coverage.
        """
        return self.p_values(probability, coverage) > error_rate(coverage)


def interpolated_p(scores: NDArray[np.floating], new: NDArray[np.floating]) -> NDArray[np.float64]:
    """Conformal p-values without steps: ``(g + u) / (n + 1)`` where g of n scores are at least the new one.

    u is where the new score lies between the next smaller and the next larger of the others, from 1 just above the smaller
    to 0 at the larger; beyond the last of them lie 0 and 1, the ends of a probability.

    Parameters
    ----------
    scores
        Of n training patients, from 0 to 1, ``(n,)``.
    new
        Of new patients, beside each training patient, ``(n, n_patients)``.

    Returns
    -------
    ``(n_patients,)``.
    """
    above = scores[:, None] - new
    larger = np.where(above >= 0, above, np.inf).min(axis=0)
    smaller = np.where(above < 0, -above, np.inf).min(axis=0)
    middle = new.mean(axis=0)
    larger, smaller = np.where(np.isinf(larger), 1 - middle, larger), np.where(np.isinf(smaller), middle, smaller)
    gap = larger + smaller
    u = np.divide(larger, gap, out=np.ones_like(gap), where=gap > 0)
    return np.asarray(((above >= 0).sum(axis=0) + u) / (len(scores) + 1))


def calibrated_p(p: NDArray[np.float64], left_out_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values that are uniform for the true class of left-out patients, whatever those that they are made of were.

    All classes are compared with the same patients: p-values of different classes are on one scale.

    Parameters
    ----------
    p
        Of some patients, ``(n_patients, n_classes)``.
    left_out_p
        Of the true class of other patients, ``(n,)``.
    """
    if not len(left_out_p):
        return np.ones_like(p)
    flat = 1 - p.ravel()
    return interpolated_p(1 - left_out_p, np.broadcast_to(flat, (len(left_out_p), len(flat)))).reshape(p.shape)


def set_figures(
    sets: NDArray[np.bool_],
    target: NDArray[np.integer],
    units: NDArray[np.integer],
    classes: Sequence[str],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Coverage and size of the sets of some patients whose class is known, over all and by class.

    Parameters
    ----------
    sets
        ``(n_patients, n_classes)``.
    target
        True class, ``(n_patients,)``.
    units
        People, who are drawn whole for the interval of the coverage, ``(n_patients,)``.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    covered, size = sets[np.arange(len(target)), target].astype(float), sets.sum(axis=1)
    weights = bootstrap_weights(units, draws, seed)
    coverage = Estimate.from_draws(covered.mean(), (weights @ covered) / np.maximum(weights.sum(axis=1), 1))
    by_class = {
        name: {"patients": int(own.sum()), "coverage": float(covered[own].mean()), "size": float(size[own].mean())}
        for c, name in enumerate(classes)
        if (own := target == c).any()
    }
    return {
        "coverage": coverage.value,
        "low": coverage.low,
        "high": coverage.high,
        "size": float(size.mean()),
        "one_class": float((size == 1).mean()),
        "one_class_correct": float(covered[size == 1].mean()) if (size == 1).any() else None,
        "empty": float((size == 0).mean()),
        "classes": by_class,
    }
