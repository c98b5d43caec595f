"""Cross-validation: planted classes are told, and nothing is known of the patients that are predicted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cytosae.cohort import classification_task, given_folds, stratified_folds, sweep
from cytosae.cohort.cross_validation import cross_validate, figures, linear_predictor
from support.cohorts import QUICK, cohort


def test_planted_classes_are_told_and_permuted_ones_are_not() -> None:
    task = classification_task(cohort(), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 2)
    found = sweep(task, folds, QUICK)
    told = figures(found.chosen, folds, task.classes, QUICK)
    assert told["weighted_f1"] > 0.9
    assert told["low"] < told["weighted_f1"] < told["high"] or told["high"] == told["weighted_f1"] == 1
    assert (found.null < 0.65).all()
    assert abs(found.null.mean() - 1 / 3) < 0.1
    wrong = task.target[np.random.default_rng(5).permutation(len(task.target))]
    permuted = sweep(replace(task, target=wrong), stratified_folds(wrong, task.patients, 4, 2), QUICK)
    low, high = np.quantile(permuted.null, (0.0, 1.0))
    assert low <= figures(permuted.chosen, folds, task.classes, QUICK)["weighted_f1"] <= high + 0.1
    # the sweep: what is above 10 has no latent left and tells nothing
    assert found.n_latents[0] == 400
    assert (np.diff(found.n_latents) <= 0).all()


def test_threshold_and_concepts_know_only_the_training_patients() -> None:
    """The images of test patients decide neither which latents are kept nor the threshold."""
    task = classification_task(cohort(signal=1.5), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 1)
    config = replace(QUICK, permutations=0)
    before = sweep(task, folds, config)
    inside = folds.row_folds[0] == 0
    other = task.data.copy()
    other.layers["mean_activation"][inside] *= np.random.default_rng(0).uniform(0, 1000, 400).astype(np.float32)
    other.obs.loc[inside, "n_cells"] = 5
    after = sweep(replace(task, data=other), folds, config)
    np.testing.assert_array_equal(before.chosen.probability[0, inside], after.chosen.probability[0, inside])
    assert before.choice[0, 0] == after.choice[0, 0]
    assert not np.array_equal(before.chosen.probability[0, ~inside], after.chosen.probability[0, ~inside])


def test_every_fold_is_predicted_by_a_model_that_does_not_know_its_labels() -> None:
    task = classification_task(cohort(), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 1)
    config = replace(QUICK, permutations=0)
    before = sweep(task, folds, config).chosen.probability[0]
    inside = np.flatnonzero(folds.row_folds[0] == 2)
    changed = task.target.copy()
    changed[inside] = np.roll(changed[inside], 1)
    after = sweep(replace(task, target=changed), folds, config).chosen.probability[0]
    np.testing.assert_array_equal(before[inside], after[inside])


def test_other_features_are_predicted_in_the_same_folds() -> None:
    task = classification_task(cohort(), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 2)
    answers = np.eye(3)[task.target] * 10
    assert cross_validate(linear_predictor(answers, task), task, folds).f1(50, 0).value == 1
    noise = np.random.default_rng(0).random((60, 8))
    assert cross_validate(linear_predictor(noise, task), task, folds).f1(50, 0).value < 0.6


def test_a_threshold_for_unseen_laboratories_is_chosen_by_leaving_laboratories_out() -> None:
    """Weak latents are a shortcut that holds inside each laboratory and turns round in the next."""
    data = cohort(n=90, n_latents=60, signal=1.0)
    target = data.obs["diagnosis"].cat.codes.to_numpy()
    laboratory = (np.arange(90) // 3) % 3
    rng = np.random.default_rng(0)
    data.X[:] = rng.gamma(2, 1, data.X.shape)
    data.X[:, :6] += 30 * ((target + laboratory) % 3 == np.arange(6)[:, None] % 3).T
    data.X[:, 6:12] += 3 * (target == np.arange(6)[:, None] % 3).T
    data.layers["active_cells"][:] = 50
    data.layers["mean_activation"][:] = 10.0 ** np.where(np.arange(60) < 6, -3.5, 0.5)
    task = classification_task(data, "diagnosis")
    left_out = given_folds(task.data.obs["laboratory"].astype(str), task.target, task.patients, "laboratory")
    found = sweep(task, left_out, replace(QUICK, permutations=0))
    assert (found.choice > -3.5).all()
    assert figures(found.chosen, left_out, task.classes, QUICK)["weighted_f1"] > 0.7
    assert found.at[0].f1(0, 0).value < 0.3  # with the shortcut
