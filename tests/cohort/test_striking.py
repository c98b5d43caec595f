"""A classifier without some concepts, and how many concepts a prediction takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cytosae.cohort import (
    Choice,
    ClassificationTask,
    Folds,
    Products,
    candidates,
    choose,
    chosen_predictions,
    classification_task,
    only,
    refitted,
    sparsity_curve,
    sparsity_rows,
    stratified_folds,
)
from cytosae.settings import ClassifyConfig
from support.cohorts import QUICK, cohort

CONFIG = replace(QUICK, repeats=1, features="counts")


@pytest.fixture(scope="module")
def task() -> ClassificationTask:
    """Three classes, each raised in ten latents."""
    return classification_task(cohort(n_latents=300, signal=1.7), "diagnosis")


def _folds(task: ClassificationTask) -> Folds:
    return stratified_folds(task.target, task.patients, CONFIG.splits, 1, CONFIG.seed)


def _choices(task: ClassificationTask, folds: Folds, config: ClassifyConfig = CONFIG) -> list[Choice]:
    products = Products.from_barcodes(task.data, candidates(config))
    return [
        choose(task, products, folds.row_folds[0] != fold, task.target[None], config, config.seed)[0]
        for _, fold in folds.splits
    ]


def test_with_nothing_struck_out_it_is_the_classifier_as_it_was(task: ClassificationTask) -> None:
    folds = _folds(task)
    found = refitted(task, folds, _choices(task, folds), CONFIG)
    products = Products.from_barcodes(task.data, candidates(CONFIG))
    expected = chosen_predictions(task, folds, products, CONFIG).predictions
    np.testing.assert_allclose(found.predictions.probability, expected.probability, atol=1e-6)
    covered = found.sets[np.arange(len(found.rows)), task.target[found.rows]].mean()
    assert 0.75 <= covered <= 1


def test_without_the_concepts_that_carry_it_nothing_is_predicted(task: ClassificationTask) -> None:
    folds = _folds(task)
    choices = _choices(task, folds)
    keep = np.ones(300, bool)
    keep[:30] = False
    struck = replace(task, data=only(task.data, keep))
    found = refitted(struck, folds, choices, CONFIG)
    products = Products.from_barcodes(task.data[:, keep].copy(), sorted({choice.representation for choice in choices}))
    again = refitted(replace(task, data=task.data[:, keep].copy()), folds, choices, CONFIG)
    np.testing.assert_allclose(found.predictions.probability, again.predictions.probability, atol=1e-6)
    assert products.parts
    whole = refitted(task, folds, choices, CONFIG).predictions.f1(100, 0).value
    assert found.predictions.f1(100, 0).value < 0.5 < whole
    assert np.asarray(task.data.X)[:, :30].any()  # the barcodes stay as they were


def test_the_curve_grows_with_the_concepts_and_knows_nothing_of_the_patients() -> None:
    task = classification_task(cohort(n_latents=300, signal=1.15), "diagnosis")
    folds = _folds(task)
    curve = sparsity_curve(task, folds)
    rows = sparsity_rows(curve, CONFIG)
    used = [row["concepts"] for row in rows]
    assert used == sorted(used)
    assert used[0] <= 3
    assert used[-1] > used[0]
    assert rows[-1]["weighted_f1"] > max(0.5, rows[0]["weighted_f1"])
    assert all(row["low"] <= row["weighted_f1"] <= row["high"] for row in rows)
    first = folds.row_folds[0] == 0
    other = ClassificationTask(task.data, np.where(first, (task.target + 1) % 3, task.target), task.classes, ())
    for ours, theirs in zip(curve, sparsity_curve(other, folds), strict=True):
        np.testing.assert_array_equal(ours.predictions.probability[0, first], theirs.predictions.probability[0, first])
