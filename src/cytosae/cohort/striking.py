"""What a classifier without some concepts says, at once: folds, representation and penalty stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytosae.cohort.cross_validation import Predictions
from cytosae.cohort.folds import Folds
from cytosae.cohort.selection import Choice, Products, fitted_probabilities
from cytosae.cohort.set_coverage import left_out_p_values, left_out_sets
from cytosae.cohort.task import ClassificationTask
from cytosae.settings import ClassifyConfig


@dataclass(frozen=True)
class Refitted:
    """Predictions of patients by models of other folds, and their conformal sets."""

    predictions: Predictions
    rows: NDArray[np.int64]
    """Rows that are in a fold, ``(n,)``."""
    sets: NDArray[np.bool_]
    """Classes in the set of each of them, ``(n, n_classes)``."""


def refitted(task: ClassificationTask, folds: Folds, choices: Sequence[Choice], config: ClassifyConfig) -> Refitted:
    """Fit the models of one division anew, with representation and penalty as they were chosen before.

    Parameters
    ----------
    task
        With barcodes in which struck-out latents are 0 (`cytosae.cohort.only`).
    folds
        One division.
    choices
        Of each fold.

    Notes
    -----
    The regression of n patients needs the products of their barcodes alone (`cytosae.cohort.linear`), so this takes as long
    as the product, whatever the number of latents. What was chosen with the struck-out concepts at hand may not be what
    would be chosen without them: ``cytosae classify --without`` chooses again.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    kinds = sorted({choice.representation for choice in choices})
    products = Products.from_barcodes(task.data, kinds)
    row_folds = folds.row_folds[0]
    probability = np.full((1, len(task.target), len(task.classes)), np.nan)
    for fold, choice in enumerate(choices):
        test = row_folds == fold
        (probability[0, test],) = fitted_probabilities(
            products, [choice], ~test, test, task.target[None], len(task.classes)
        )
    rows, p = left_out_p_values(task, folds, products, config, choices=choices)
    sets = left_out_sets(p, task.target[rows], row_folds[rows], config.coverage)
    return Refitted(Predictions(probability, task.target, task.units), rows, sets)
