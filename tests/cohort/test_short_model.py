"""The short model: few concepts, near-duplicates once, nothing known of the patients that are predicted."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cytosae.cohort import (
    classification_task,
    cross_validate,
    fit_short,
    predict_short,
    short_table,
    stratified_folds,
)
from cytosae.cohort.task import ClassificationTask
from support.cohorts import cohort


@pytest.fixture(scope="module")
def task() -> ClassificationTask:
    """Three classes; latents 400 to 404 are copies of the first, with a little noise."""
    data = cohort(n_latents=405, signal=1.8)
    rng = np.random.default_rng(0)
    level = np.log10(data.layers["mean_activation"].sum(axis=0))
    first = int(np.argmax(level[:10]))
    data.X[:, 400:] = data.X[:, [first]] * rng.uniform(0.97, 1.03, (60, 5))
    return classification_task(data, "diagnosis")


def test_few_concepts_predict_and_duplicates_are_named(task: ClassificationTask) -> None:
    model = fit_short(task)
    assert 1 <= len(model.latents) <= 60
    copies = {*range(400, 405)}
    standing = [copies & {int(latent), *twins} for latent, twins in zip(model.latents, model.twins, strict=True)]
    assert max(map(len, standing)) == 5  # one of them stands for all
    assert sum(map(bool, standing)) == 1
    table = short_table(model, task)
    assert list(table) == [*task.classes, "stands_for"]
    strongest = table[list(task.classes)].abs().max(axis=1)
    assert (strongest.diff().dropna() <= 0).all()
    folds = stratified_folds(task.target, task.patients, 4, 1)
    found = cross_validate(lambda train, test, seed: predict_short(task, train, test, seed), task, folds)
    assert found.f1(100, 0).value > 0.6
    np.testing.assert_allclose(found.probability.sum(axis=2), 1)


def test_labels_of_the_patients_that_are_predicted_change_nothing(task: ClassificationTask) -> None:
    train = np.arange(60) < 45
    before = predict_short(task, train, ~train)
    other = ClassificationTask(task.data, np.where(train, task.target, (task.target + 1) % 3), task.classes, ())
    np.testing.assert_array_equal(before, predict_short(other, train, ~train))


def test_noise_gives_a_short_model_and_no_skill() -> None:
    data = cohort(signal=1.0)
    data.X[:] = np.random.default_rng(0).gamma(1, 1, data.shape)
    task = classification_task(data, "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 1)
    found = cross_validate(lambda train, test, seed: predict_short(task, train, test, seed), task, folds)
    assert found.f1(100, 0).value < 0.55
    assert len(fit_short(task).latents) < 45  # the one-standard-error rule keeps it short
    assert (
        LogisticRegression().fit(np.log1p(task.barcodes), task.target).score(np.log1p(task.barcodes), task.target) == 1
    )


def test_two_classes_have_opposite_weights() -> None:
    data = cohort(signal=1.8)
    data = data[data.obs["diagnosis"] != "healthy"].copy()
    model = fit_short(classification_task(data, "diagnosis"))
    np.testing.assert_allclose(model.weights[0], -model.weights[1])
