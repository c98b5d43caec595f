"""How many concepts does a prediction take? The weighted F1 of short models that may use more and more of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytosae.cohort.cross_validation import Predictions
from cytosae.cohort.folds import Folds
from cytosae.cohort.short_model import ShortPath
from cytosae.cohort.task import ClassificationTask
from cytosae.settings import ClassifyConfig

_EXPONENTS = (0.004, 0.01, 0.02, 0.04, 0.07, 0.12, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 2.5)
_STRENGTHS = tuple(10.0**exponent for exponent in _EXPONENTS)
"""Multiples of the C at which the first concept gets a weight."""
SIZES = (1, 2, 3, 5, 8, 12, 20, 30, 60)
"""Concepts that a model may use on average over the inner folds."""


@dataclass(frozen=True)
class SizedModels:
    """Short models of a limited size."""

    size: int
    """Concepts that the models of the inner folds have on average, at most."""
    used: float
    """Concepts that the models of the folds have, on average."""
    predictions: Predictions


def sparsity_curve(
    task: ClassificationTask, folds: Folds, seed: int = 0, progress: Callable[[int], None] = lambda done: None
) -> list[SizedModels]:
    """Predictions of the first division by elastic nets of limited size (`cytosae.cohort.short_model`).

    Inside the training patients of each fold the penalty is chosen that has the smallest log loss in inner folds, among
    those whose models have so many concepts at most. So the size and the penalty of a model know nothing of the patients
    whom it predicts.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    shape = (1, len(task.target), len(task.classes))
    probability = {size: np.full(shape, np.nan) for size in SIZES}
    used: dict[int, list[int]] = {size: [] for size in SIZES}
    row_folds: NDArray[np.int64] = folds.row_folds[0]
    for done, fold in enumerate(np.unique(row_folds[row_folds >= 0]).tolist(), 1):
        test = row_folds == fold
        path = ShortPath(task, ~test, seed, _STRENGTHS, from_first=True)
        places = {size: path.best(size) for size in SIZES}
        fitted = {index: path.predict(index, test) for index in set(places.values())}
        for size, index in places.items():
            predicted, count = fitted[index]
            probability[size][0, test] = predicted
            used[size].append(count)
        progress(done)
    return [
        SizedModels(size, float(np.mean(used[size])), Predictions(probability[size], task.target, task.units))
        for size in SIZES
    ]


def sparsity_rows(curve: list[SizedModels], config: ClassifyConfig) -> list[dict[str, float]]:
    """The curve as a table: size, concepts used, weighted F1 with its interval over people.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    rows = []
    for sized in curve:
        f1 = sized.predictions.f1(config.bootstrap, config.seed)
        row = {"size": sized.size, "concepts": sized.used, "weighted_f1": f1.value, "low": f1.low, "high": f1.high}
        rows.append(row)
    return rows
