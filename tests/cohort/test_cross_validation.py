"""Cross-validation: the sweep of thresholds, and the scores of predictions with their intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cytosae.cohort import (
    Predictions,
    classification_task,
    cross_validate,
    figures,
    method_table,
    stratified_folds,
    sweep,
)
from support.cohorts import QUICK, cohort


def test_the_sweep_is_of_fewer_and_fewer_latents() -> None:
    task = classification_task(cohort(), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 2)
    found = sweep(task, folds, QUICK)
    assert [QUICK.thresholds[0], QUICK.thresholds[-1]] == [-6, 0]
    assert found.n_latents[0] == 400
    assert (np.diff(found.n_latents) <= 0).all()
    assert found.at[0].f1(100, 0).value > 0.9
    assert -3 in replace(QUICK, step=0.7).thresholds


def test_latents_above_a_threshold_are_those_of_the_training_patients() -> None:
    """The images of test patients do not decide which latents are kept."""
    task = classification_task(cohort(signal=1.5), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 1)
    before = sweep(task, folds, QUICK)
    inside = folds.row_folds[0] == 0
    other = task.data.copy()
    other.layers["mean_activation"][inside] *= np.random.default_rng(0).uniform(0, 1000, 400).astype(np.float32)
    other.obs.loc[inside, "n_cells"] = 5
    after = sweep(replace(task, data=other), folds, QUICK)
    for one, another in zip(before.at, after.at, strict=True):
        np.testing.assert_array_equal(one.probability[0, inside], another.probability[0, inside])
    assert not np.array_equal(before.at[-1].probability[0, ~inside], after.at[-1].probability[0, ~inside])


def test_scores_of_predictions_have_intervals_over_people() -> None:
    """With every patient twice the intervals are as wide as with every patient once."""
    rng = np.random.default_rng(0)
    target = np.arange(60) % 3
    probability = rng.dirichlet(np.ones(3), (2, 60)) + np.eye(3)[target] * 0.4
    once = Predictions(probability, target, np.arange(60))
    twice = Predictions(np.tile(probability, (1, 2, 1)), np.tile(target, 2), np.tile(np.arange(60), 2))
    for name, estimate in once.scores(400, 0).items():
        same = twice.scores(400, 0)[name]
        assert estimate.low < estimate.value < estimate.high
        np.testing.assert_allclose([same.value, same.low, same.high], [estimate.value, estimate.low, estimate.high])
    table = method_table({"a": once, "b": twice}, "a", QUICK)
    assert table.loc["b", "ahead"] == 0
    assert {"value", "macro_f1", "balanced_accuracy_low", "auroc", "auroc_high"} <= set(table)


def test_calibration_is_that_of_the_models_that_are_written() -> None:
    task = classification_task(cohort(), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 2)
    sure, unsure = np.eye(3)[task.target] * 0.9 + 0.1 / 3, np.full((60, 3), 1 / 3)
    found = [
        figures(Predictions(np.stack(both), task.target, task.units), folds, task.classes, QUICK)["calibration"]
        for both in ((sure, unsure), (sure, sure))
    ]
    assert found[0] == found[1]


def test_other_models_are_predicted_in_the_same_folds() -> None:
    task = classification_task(cohort(), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 2)
    answers = np.eye(3)[task.target] * 10
    seen = []

    def predict(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        seen.append(seed)
        return answers[test]

    assert cross_validate(predict, task, folds, 7).f1(50, 0).value == 1
    assert seen == [7] * 4 + [8] * 4
