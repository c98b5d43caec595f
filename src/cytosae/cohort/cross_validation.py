"""Do barcodes predict the diagnosis? Every patient is predicted by a model that never saw it (section 3.3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cytosae.cohort.folds import Folds, stratified_folds
from cytosae.cohort.linear import fit, threshold_products
from cytosae.cohort.scores import calibration, class_scores, confusion, weighted_f1
from cytosae.cohort.task import ClassificationTask
from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights, group_codes
from cytosae.settings import ClassifyConfig

PAPER_THRESHOLD = -3.0

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

    def confusions(self, weights: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
        """Confusion counts of each division, ``(n_repeats, [n_draws,] n_classes, n_classes)``."""
        rows, n_classes = self.rows, self.probability.shape[2]
        predicted = self.probability[:, rows].argmax(axis=2)
        row_weights = None if weights is None else weights[:, rows]
        return np.stack([confusion(self.target[rows], p, n_classes, row_weights) for p in predicted])

    def f1(self, draws: int, seed: int) -> Estimate:
        """Weighted F1, mean over the divisions, with its interval over patients."""
        weights = bootstrap_weights(self.units, draws, seed)
        return Estimate.from_draws(
            weighted_f1(self.confusions()).mean(), weighted_f1(self.confusions(weights)).mean(axis=0) if draws else ()
        )


@dataclass(frozen=True)
class Sweep:
    """Classification of barcodes at every threshold."""

    at: tuple[Predictions, ...]
    """With all latents above each threshold."""
    chosen: Predictions
    """With the threshold chosen inside the training patients."""
    choice: NDArray[np.float64]
    """That threshold, ``(n_repeats, n_folds)``."""
    n_latents: NDArray[np.float64]
    """Latents above each threshold, mean over the folds, ``(n_thresholds,)``."""
    null: NDArray[np.float64]
    """Weighted F1 of each permutation, everything repeated, the choice of the threshold too; ``(n_permutations,)``."""
    null_at: NDArray[np.float64]
    """The same at each threshold, ``(n_permutations, n_thresholds)``."""


def patient_numbers(patients: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of the patients; rows of one patient have one number."""
    return group_codes(len(patients), pd.factorize(pd.Series(patients))[0])


def cross_validate(predictor: Predictor, task: ClassificationTask, folds: Folds, seed: int = 0) -> Predictions:
    """Predict every row in every division."""
    probability = np.full((folds.n_repeats, len(task.target), len(task.classes)), np.nan)
    for repeat, fold in folds.splits:
        test = folds.row_folds[repeat] == fold
        probability[repeat, test] = predictor(~test, test, seed + repeat)
    return Predictions(probability, task.target, patient_numbers(task.patients))


def linear_predictor(features: NDArray[np.floating], task: ClassificationTask) -> Predictor:
    """Logistic regression with the same penalty on other features of the patients, ``(n_rows, n_features)``."""
    x = np.asarray(features, np.float64)
    products = x @ x.T

    def predict(train: NDArray[np.bool_], test: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
        return _probabilities(products, train, test, task.target[None], len(task.classes))[0]

    return predict


def _probabilities(
    products: NDArray[np.float64],
    train: NDArray[Any],
    test: NDArray[Any],
    targets: NDArray[np.integer],
    n_classes: int,
) -> NDArray[np.float64]:
    """Probabilities of the test rows for every vector of labels, ``(n_targets, n_test, n_classes)``."""
    model = fit(products[np.ix_(train, train)], targets[:, train], n_classes)
    return model.probabilities(products[np.ix_(test, train)])


def sweep(
    task: ClassificationTask, folds: Folds, config: ClassifyConfig, progress: Callable[[int], None] = lambda done: None
) -> Sweep:
    """Predict every row at every threshold, and with the threshold that does best inside the training patients.

    Which latents are above a threshold is decided by the training patients' images. Permutations shuffle the labels
    within the folds of the first division, so that every fold keeps its classes, and repeat everything.
    """
    n, n_classes, thresholds = len(task.target), len(task.classes), config.thresholds
    units = patient_numbers(task.patients)
    probability = np.full((len(thresholds), folds.n_repeats, n, n_classes), np.nan)
    chosen = np.full((folds.n_repeats, n, n_classes), np.nan)
    choice = np.full((folds.n_repeats, len(folds.names)), np.nan)
    counts = []
    shuffled = shuffled_within(folds.row_folds[0], task.target, config.permutations, config.seed)
    null = np.zeros((config.permutations, n), np.int64)
    null_at = np.zeros((len(thresholds), config.permutations, n), np.int64)

    def predict(split: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.float64]]]:
        """Latents above each threshold, thresholds chosen, and the fold's probabilities at each, for every label vector."""
        repeat, fold = split
        row_folds = folds.row_folds[repeat]
        test = row_folds == fold
        targets = np.vstack([task.target, shuffled]) if repeat == 0 else task.target[None]
        products, count = threshold_products(task.barcodes, task.log_mean(~test), thresholds)
        inner = row_folds if folds.from_column else None
        best = _choose(task, products, ~test, targets, config, config.seed + repeat, inner)
        return count, best, _each(products, lambda product: _probabilities(product, ~test, test, targets, n_classes))

    # A fold a thread: products this small take three times as long where threads have to meet for each.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, ((repeat, fold), (count, best, by_threshold)) in enumerate(
            zip(folds.splits, pool.map(predict, folds.splits), strict=True), 1
        ):
            test = folds.row_folds[repeat] == fold
            counts.append(count)
            choice[repeat, fold] = thresholds[best[0]]
            chosen[repeat, test] = by_threshold[best[0]][0]
            for t in range(len(thresholds)):
                probability[t, repeat, test] = by_threshold[t][0]
                if repeat == 0 and config.permutations:
                    predicted = by_threshold[t][1:].argmax(axis=2)
                    null_at[t][:, test] = predicted
                    choosing = np.flatnonzero(best[1:] == t)
                    null[np.ix_(choosing, test)] = predicted[choosing]
            progress(done)
    rows = folds.row_folds[0] >= 0
    return Sweep(
        tuple(Predictions(p, task.target, units) for p in probability),
        Predictions(chosen, task.target, units),
        choice,
        np.mean(counts, axis=0),
        _f1_per_labels(shuffled[:, rows], null[:, rows], n_classes),
        np.stack([_f1_per_labels(shuffled[:, rows], predicted[:, rows], n_classes) for predicted in null_at], axis=1),
    )


def _each(
    products: NDArray[np.float64], function: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """A function of the products at each threshold, computed once where the latents between two are silent everywhere."""
    values: list[NDArray[np.float64]] = []
    for t, product in enumerate(products):
        values.append(values[-1] if t and np.array_equal(product, products[t - 1]) else function(product))
    return values


def shuffled_within(
    row_folds: NDArray[np.integer], target: NDArray[np.integer], draws: int, seed: int
) -> NDArray[np.int64]:
    """Labels shuffled among the rows of the same fold, ``(n_draws, n_rows)``."""
    rng = np.random.default_rng([seed, 7])
    shuffled = np.repeat(np.asarray(target, np.int64)[None], draws, axis=0)
    for fold in np.unique(row_folds):
        rows = np.flatnonzero(row_folds == fold)
        shuffled[:, rows] = rng.permuted(shuffled[:, rows], axis=1)
    return shuffled


def _choose(
    task: ClassificationTask,
    products: NDArray[np.float64],
    train: NDArray[np.bool_],
    targets: NDArray[np.integer],
    config: ClassifyConfig,
    seed: int,
    row_folds: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The threshold with the best weighted F1 in folds of the training rows; of equals, that with the fewest latents.

    The folds are drawn, or, where `row_folds` has more than one of the training rows, these: a threshold that shall
    serve in an unseen laboratory is chosen by leaving laboratories out.
    """
    rows = np.flatnonzero(train)
    n_classes = len(task.classes)
    patients = np.asarray(task.patients)[rows]
    sizes = pd.Series(patients).groupby(task.target[rows]).nunique()
    if row_folds is not None and len(np.unique(row_folds[rows])) > 1:
        inner = row_folds[rows]
    elif sizes.max() < 2:  # no two patients, to fit and to test: the paper's threshold, or the nearest
        nearest = int(np.abs(np.array(config.thresholds) - PAPER_THRESHOLD).argmin())
        return np.full(len(targets), nearest)
    else:
        splits = max(2, min(config.inner, int(sizes.min())))
        inner = stratified_folds(task.target[rows], list(patients), splits, 1, seed).row_folds[0]

    def score(product: NDArray[np.float64]) -> NDArray[np.float64]:
        predicted = np.zeros((len(targets), len(rows)), np.int64)
        for fold in np.unique(inner):
            fitted, test = rows[inner != fold], rows[inner == fold]
            predicted[:, inner == fold] = _probabilities(product, fitted, test, targets, n_classes).argmax(axis=2)
        return _f1_per_labels(targets[:, rows], predicted, n_classes)

    return len(products) - 1 - np.stack(_each(products, score))[::-1].argmax(axis=0)


def _f1_per_labels(targets: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int) -> NDArray[np.float64]:
    if not len(targets):
        return np.zeros(0)
    return weighted_f1(np.stack([confusion(t, p, n_classes) for t, p in zip(targets, predicted, strict=True)]))


def choose_threshold(task: ClassificationTask, config: ClassifyConfig) -> float:
    """The threshold for the classifier of all patients, chosen in folds of them."""
    everyone = np.ones(len(task.target), bool)
    products, _ = threshold_products(task.barcodes, task.log_mean(everyone), config.thresholds)
    return config.thresholds[int(_choose(task, products, everyone, task.target[None], config, config.seed)[0])]


def figures(predictions: Predictions, folds: Folds, classes: Sequence[str], config: ClassifyConfig) -> dict[str, Any]:
    """Weighted F1 with its interval, figures of each class, confusion counts, calibration."""
    counts = predictions.confusions()
    f1 = predictions.f1(config.bootstrap, config.seed)
    scores = {name: values.mean(axis=0) for name, values in class_scores(counts).items()}
    rows, predicted = predictions.rows, predictions.probability.argmax(axis=2)
    tests = [(repeat, folds.row_folds[repeat] == fold) for repeat, fold in folds.splits]
    fold_scores = [
        weighted_f1(confusion(predictions.target[test], predicted[repeat, test], len(classes)))
        for repeat, test in tests
    ]
    return {
        "weighted_f1": f1.value,
        "low": f1.low,
        "high": f1.high,
        "fold_deviation": float(np.std(fold_scores)),
        "accuracy": float(np.trace(counts.mean(axis=0)) / len(rows)),
        "classes": {name: {k: float(v[c]) for k, v in scores.items()} for c, name in enumerate(classes)},
        "confusion": counts.mean(axis=0).tolist(),
        "calibration": calibration(predictions.probability[:, rows].mean(axis=0), predictions.target[rows]),
    }


def method_table(methods: Mapping[str, Predictions], reference: str, config: ClassifyConfig) -> pd.DataFrame:
    """Weighted F1 of each method with its interval, and by how much the reference is ahead in paired draws."""
    estimates = {name: predictions.f1(config.bootstrap, config.seed) for name, predictions in methods.items()}
    rows = []
    for name, estimate in estimates.items():
        gain = Estimate(np.nan) if name == reference else estimates[reference].gain_over(estimate)
        ahead = {"ahead": gain.value, "ahead_low": gain.low, "ahead_high": gain.high}
        rows.append({"method": name, "value": estimate.value, "low": estimate.low, "high": estimate.high, **ahead})
    return pd.DataFrame(rows).set_index("method")
