"""Do conformal sets cover the true class? The p-values of each patient are made without the patient's fold."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cytosae.cohort.conformal import Calibration, calibrated_p, classes_alone, error_rate, set_figures
from cytosae.cohort.cross_validation import Predictions
from cytosae.cohort.folds import Folds, stratified_folds
from cytosae.cohort.selection import Choice, Products, choose, fitted_probabilities
from cytosae.cohort.task import ClassificationTask
from cytosae.settings import ClassifyConfig


def conformal_figures(
    task: ClassificationTask,
    folds: Folds,
    products: Products,
    predictions: Predictions,
    config: ClassifyConfig,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """How the conformal sets do on unseen patients, and the scores by which those of new patients are made.

    Parameters
    ----------
    products
        Of these barcodes, with every representation that the settings leave open.
    predictions
        Of the patients, by the models of the folds.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    rows, p = left_out_p_values(task, folds, products, config, progress)
    target = task.target[rows]
    true = p[np.arange(len(rows)), target]
    calibration = Calibration.from_predictions(predictions.probability, folds.row_models, task.target, true)
    own = calibration.by_class(len(task.classes), config.coverage)
    sets = left_out_sets(p, target, folds.row_folds[0][rows], config.coverage)
    columns = task.data.obs_names[rows], calibration.target.tolist(), calibration.models.tolist()
    return {
        "nominal": config.coverage,
        "by_class": [name for name, alone in zip(task.classes, own, strict=True) if alone],
        **set_figures(sets, target, task.units[rows], task.classes, config.bootstrap, config.seed),
        "calibration": [
            {"patient": name, "class": task.classes[c], "models": models, "score": score, "left_out_p": own_p}
            for name, c, models, score, own_p in zip(*columns, calibration.scores.tolist(), true.tolist(), strict=True)
        ],
    }


def left_out_sets(
    p: NDArray[np.float64], target: NDArray[np.integer], row_folds: NDArray[np.integer], coverage: float
) -> NDArray[np.bool_]:
    """The classes in the set of each patient, ``(n, n_classes)``, calibrated on the patients of the other folds.

    Parameters
    ----------
    p
        Of `left_out_p_values`, ``(n, n_classes)``.
    target, row_folds
        True class and fold of each patient, ``(n,)``.
    """
    true = p[np.arange(len(target)), target]
    sets = np.zeros(p.shape, bool)
    for fold in np.unique(row_folds):
        test = row_folds == fold
        sets[test] = calibrated_p(p[test], true[~test]) > error_rate(coverage)
    return sets


def left_out_p_values(
    task: ClassificationTask,
    folds: Folds,
    products: Products,
    config: ClassifyConfig,
    progress: Callable[[int], None] = lambda done: None,
    choices: Sequence[Choice] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """P-values of the patients of each fold of the first division, calibrated on the other folds alone.

    The patients of the other folds are divided in their turn, as often as all were; models, choices and scores are those of
    these inner folds, as a study that had never had the patients would have them.

    Parameters
    ----------
    choices
        Representation and penalty of each fold; chosen in the inner folds if None.

    Returns
    -------
    Rows that are in a fold, ``(n,)``, and `Calibration.fold_p_values` of every class, ``(n, n_classes)``.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    row_folds = folds.row_folds[0]
    p = np.zeros((len(row_folds), len(task.classes)))
    # A class that has just enough patients has too few without a fold; p-values would be those of another procedure.
    alone = classes_alone(task.target[row_folds >= 0], len(task.classes), config.coverage)

    def of_fold(fold: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        test = row_folds == fold
        inner = _inner_folds(task, folds, ~test, config)
        everyone = np.ones(len(test), bool)
        probability = np.empty((len(inner.splits), len(test), len(task.classes)))
        for model, (repeat, number) in enumerate(inner.splits):
            divided = inner.row_folds[repeat]
            fitted = ~test & (divided != number)
            given = divided if folds.from_column else None
            if choices is not None:
                choice = [choices[fold]]
            else:
                choice = choose(task, products, fitted, task.target[None], config, config.seed + repeat, given)
            (probability[model],) = fitted_probabilities(
                products, choice, fitted, everyone, task.target[None], len(task.classes)
            )
        models = inner.row_models
        own = probability[models, np.arange(len(test))] if len(probability) else np.empty((*models.shape, 0))
        calibration = Calibration.from_predictions(own, models, task.target)
        return test, calibration.fold_p_values(probability[:, test], config.coverage, alone)

    # Ignored here too: the filters of warnings are those of all threads, and each restores what it found.
    with warnings.catch_warnings(), threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore", UserWarning)  # a class with one patient is in one fold
        for done, (test, p_values) in enumerate(pool.map(of_fold, np.unique(row_folds[row_folds >= 0]).tolist()), 1):
            p[test] = p_values
            progress(done)
    rows = np.flatnonzero(row_folds >= 0)
    return rows, p[rows]


def _inner_folds(task: ClassificationTask, folds: Folds, train: NDArray[np.bool_], config: ClassifyConfig) -> Folds:
    """Folds of the training rows, drawn as often as those of all, or those of the column; other rows have none."""
    rows = np.flatnonzero(train)
    patients = np.asarray(task.patients)[rows]
    given = folds.row_folds[0][rows]
    inner = np.full((folds.n_repeats, len(train)), -1)
    if folds.from_column and len(np.unique(given[given >= 0])) > 1:
        inner[:, rows] = given
    elif pd.Series(patients).groupby(task.target[rows]).nunique().max() > 1:  # otherwise nothing to fit and to test
        drawn = stratified_folds(task.target[rows], list(patients), config.splits, folds.n_repeats, config.seed)
        inner[:, rows] = drawn.row_folds
    return Folds(inner, folds.names, "inside the training patients")
