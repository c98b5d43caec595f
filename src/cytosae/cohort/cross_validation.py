"""Do barcodes predict the diagnosis? Every patient is predicted by a model that never saw it (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cohort.folds import Folds
from cytosae.cohort.scores import (
    SCORES,
    abstention,
    area_under_curve,
    calibration,
    class_scores,
    confusion,
    weighted_f1,
)
from cytosae.cohort.task import ClassificationTask
from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights
from cytosae.settings import ClassifyConfig

Predictor = Callable[[NDArray[np.bool_], NDArray[np.bool_], int], NDArray[np.float64]]
"""Fits on training rows and predicts test rows, with a seed: probabilities of the test rows, ``(n_test, n_classes)``."""


@dataclass(frozen=True)
class Predictions:
    """Probabilities of every row by models that had not seen its patient."""

    probability: NDArray[np.float64]
    """``(n_repeats, n_rows, n_classes)``; NaN for rows that are never predicted."""
    target: NDArray[np.int64]
    units: NDArray[np.int64]
    """Patient of each row, drawn whole for the interval."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows with a prediction."""
        return np.flatnonzero(np.isfinite(self.probability[0, :, 0]))

    def first(self) -> Predictions:
        """Those of the first division, by the models that are written."""
        return Predictions(self.probability[:1], self.target, self.units)

    def confusions(self, weights: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
        """Confusion counts of each division, ``(n_repeats, [n_draws,] n_classes, n_classes)``."""
        rows, n_classes = self.rows, self.probability.shape[2]
        predicted = self.probability[:, rows].argmax(axis=2)
        row_weights = None if weights is None else weights[:, rows]
        return np.stack([confusion(self.target[rows], p, n_classes, row_weights) for p in predicted])

    def scores(self, draws: int, seed: int) -> dict[str, Estimate]:
        """Weighted and macro F1, balanced accuracy and AUROC: means over the divisions, intervals over patients."""
        rows, weights = self.rows, bootstrap_weights(self.units, draws, seed)
        counts, drawn_counts = self.confusions(), self.confusions(weights)
        estimates = {
            name: Estimate.from_draws(score(counts).mean(), score(drawn_counts).mean(axis=0))
            for name, score in SCORES.items()
        }
        value, of_draws = (
            np.mean([area_under_curve(p, self.target[rows], drawn) for p in self.probability[:, rows]], axis=0)
            for drawn in (None, weights[:, rows])
        )
        return estimates | {"auroc": Estimate.from_draws(float(value), of_draws)}

    def f1(self, draws: int, seed: int) -> Estimate:
        """Weighted F1, mean over the divisions, with its interval over patients."""
        drawn = self.confusions(bootstrap_weights(self.units, draws, seed))
        return Estimate.from_draws(weighted_f1(self.confusions()).mean(), weighted_f1(drawn).mean(axis=0))

    def abstention(self, draws: int, seed: int) -> list[dict[str, float]]:
        """Accuracy where only the surest patients are answered, in the first division; see `cytosae.cohort.scores`."""
        rows, weights = self.rows, bootstrap_weights(self.units, draws, seed)
        return abstention(self.probability[0, rows], self.target[rows], weights[:, rows])


def cross_validate(
    predictor: Predictor,
    task: ClassificationTask,
    folds: Folds,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Predictions:
    """Predict every row in every division.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    probability = np.full((folds.n_repeats, len(task.target), len(task.classes)), np.nan)
    for done, (repeat, fold) in enumerate(folds.splits, 1):
        test = folds.row_folds[repeat] == fold
        probability[repeat, test] = predictor(~test, test, seed + repeat)
        progress(done)
    return Predictions(probability, task.target, task.units)


def f1_per_labels(targets: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int) -> NDArray[np.float64]:
    """Weighted F1 of the predictions of each label vector, both ``(n_targets, n_rows)``; ``(n_targets,)``."""
    if not len(targets):
        return np.zeros(0)
    return weighted_f1(np.stack([confusion(t, p, n_classes) for t, p in zip(targets, predicted, strict=True)]))


def figures(predictions: Predictions, folds: Folds, classes: Sequence[str], config: ClassifyConfig) -> dict[str, Any]:
    """All scores with their intervals, figures of each class, confusion counts, and the calibration of the first division,
    whose models are written.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    counts = predictions.confusions()
    scores = {name: values.mean(axis=0) for name, values in class_scores(counts).items()}
    rows, predicted = predictions.rows, predictions.probability.argmax(axis=2)
    tests = [(repeat, folds.row_folds[repeat] == fold) for repeat, fold in folds.splits]
    fold_scores = [
        weighted_f1(confusion(predictions.target[test], predicted[repeat, test], len(classes)))
        for repeat, test in tests
    ]
    return {
        **_score_columns(predictions.scores(config.bootstrap, config.seed)),
        "fold_deviation": float(np.std(fold_scores)),
        "accuracy": float(np.trace(counts.mean(axis=0)) / len(rows)),
        "classes": {name: {k: float(v[c]) for k, v in scores.items()} for c, name in enumerate(classes)},
        "confusion": counts.mean(axis=0).tolist(),
        "calibration": calibration(predictions.probability[0, rows], predictions.target[rows]),
    }


def _score_columns(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Each score and the ends of its interval; those of the first, weighted F1, are ``low`` and ``high``."""
    columns: dict[str, float] = {}
    for name, estimate in estimates.items():
        prefix = "" if name == "weighted_f1" else f"{name}_"
        columns |= {name: estimate.value, f"{prefix}low": estimate.low, f"{prefix}high": estimate.high}
    return columns


def method_table(methods: Mapping[str, Predictions], reference: str, config: ClassifyConfig) -> pd.DataFrame:
    """The scores of each method with their intervals, and by how much the reference is ahead in weighted F1 in paired draws.

    ``value`` is the weighted F1.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    scores = {name: predictions.scores(config.bootstrap, config.seed) for name, predictions in methods.items()}
    ours = scores[reference]["weighted_f1"]
    rows = []
    for name, estimates in scores.items():
        gain = Estimate(np.nan) if name == reference else ours.gain_over(estimates["weighted_f1"])
        ahead = {"ahead": gain.value, "ahead_low": gain.low, "ahead_high": gain.high}
        columns = _score_columns(estimates)
        rows.append({"method": name, "value": columns.pop("weighted_f1"), **columns, **ahead})
    return pd.DataFrame(rows).set_index("method")
