"""Conformal sets: the classes that a patient may have, with a stated coverage. Arrays in, numbers out.

Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World (2005), chapters 2 and 4 (classes by themselves: Mondrian);
Vovk: Cross-conformal predictors (2015); Romano, Sesia, Candes: Classification with valid and adaptive coverage (2020), whose
CV+ sets these are, with 1 - probability as the score. Their coverage is close to the nominal 1 - alpha wherever the models
of the folds are alike, and above it where they disagree; what is proven for any model is 1 - 2 alpha, less a term that
vanishes with the number of patients.
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
    """alpha = 1 - coverage, without the rounding that would make 1 - 0.9 another number than 0.1."""
    return round(1 - coverage, 12)


def least_patients(coverage: float) -> int:
    """Patients that a class needs for a calibration of its own: 1 / alpha, rounded up.

    The smallest p-value among n patients is 1 / (n + 1): with fewer the class could never be left out of a set.
    """
    return math.ceil(round(1 / error_rate(coverage), 9))


@dataclass(frozen=True)
class Calibration:
    """What models said of the true class of training patients that they had not seen."""

    scores: NDArray[np.float64]
    """1 - probability of the true class, ``(n_patients,)``."""
    folds: NDArray[np.int64]
    """The model that had not seen the patient, ``(n_patients,)``."""
    target: NDArray[np.int64]
    """True class, ``(n_patients,)``."""

    @classmethod
    def from_predictions(
        cls, probability: NDArray[np.floating], folds: NDArray[np.int64], target: NDArray[np.int64]
    ) -> Calibration:
        """From the probabilities ``(n_rows, n_classes)`` of rows by models that had not seen them.

        Rows whose fold is negative have no such prediction and are left out.
        """
        rows = np.flatnonzero(folds >= 0)
        return cls(1 - np.asarray(probability, np.float64)[rows, target[rows]], folds[rows], target[rows])

    def by_class(self, n_classes: int, coverage: float) -> NDArray[np.bool_]:
        """Which classes have the patients for a calibration of their own (`least_patients`), ``(n_classes,)``."""
        return np.bincount(self.target, minlength=n_classes) >= least_patients(coverage)

    def p_values(self, probability: NDArray[np.floating], coverage: float) -> NDArray[np.float64]:
        """How well each class fits some patients: the share of training patients whose true class fitted no better.

        Each training patient is compared with what the model that had not seen this patient says of the new one. A class
        with enough patients is compared with its own, the others with all.

        Parameters
        ----------
        probability
            Of new patients by the model of each fold, ``(n_folds, n_patients, n_classes)``.
        coverage
            Nominal coverage, which decides which classes have enough patients.

        Returns
        -------
        ``(n_patients, n_classes)``, from 1 / (n + 1) to 1.
        """
        new = 1 - np.asarray(probability, np.float64)
        n_classes = new.shape[2]
        own = self.by_class(n_classes, coverage)
        p = np.empty(new.shape[1:])
        for c in range(n_classes):
            compared = (self.target == c) | ~own[c]
            at_least = np.ones(new.shape[1])
            for fold in np.unique(self.folds[compared]):
                scores = self.scores[compared & (self.folds == fold)]
                at_least += (scores[:, None] >= new[fold, :, c]).sum(axis=0)
            p[:, c] = at_least / (1 + compared.sum())
        return p

    def sets(self, probability: NDArray[np.floating], coverage: float) -> NDArray[np.bool_]:
        """Which classes are in the set of each patient, ``(n_patients, n_classes)``: those with p above alpha.

        See `p_values`. A set may be empty: no class fits as well as it should at this coverage.
        """
        return self.p_values(probability, coverage) > error_rate(coverage)


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
        "empty": float((size == 0).mean()),
        "classes": by_class,
    }
