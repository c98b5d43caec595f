"""Folds: patients stay whole, and folds that cannot be are refused."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from cytosae.cohort import (
    Products,
    candidates,
    chosen_predictions,
    classification_task,
    figures,
    given_folds,
    stratified_folds,
)
from cytosae.cohort.folds import shuffled_within
from cytosae.errors import CytosaeError
from support.cohorts import QUICK, cohort


def test_rows_of_a_patient_stay_together() -> None:
    target = np.repeat(np.arange(20) % 2, 2)
    patients = [f"P{i // 2}" for i in range(40)]
    folds = stratified_folds(target, patients, 5, 3, seed=1)
    for of in folds.row_folds:
        assert (of[::2] == of[1::2]).all()
        assert np.bincount(of).min() >= 6
    assert not np.array_equal(folds.row_folds[0], folds.row_folds[1])
    np.testing.assert_array_equal(folds.row_folds, stratified_folds(target, patients, 5, 3, seed=1).row_folds)


@pytest.mark.parametrize("n_classes", [2, 5, 11])
def test_folds_are_scikit_learns(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    for seed in range(6):
        n, splits = int(rng.integers(4 * n_classes, 120)), int(rng.integers(2, 5))
        target = np.sort(np.concatenate([np.arange(n_classes).repeat(4), rng.integers(0, n_classes, n)]))
        patients = rng.integers(0, len(target), len(target)) if seed % 2 else np.arange(len(target))
        groups = [str(patient) for patient in patients]
        found = stratified_folds(target, groups, splits, 1, seed)
        theirs = StratifiedGroupKFold(len(found.names), shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            expected = np.empty(len(target), np.int64)
            for fold, (_, test) in enumerate(theirs.split(target, target, groups)):
                expected[test] = fold
        np.testing.assert_array_equal(found.row_folds[0], expected)


def test_folds_that_cannot_be() -> None:
    target = np.array([0, 0, 0, 1, 1, 1, 1])
    few = stratified_folds(target, list("abcdefg"), 5, 1)
    assert few.row_folds.max() == 2
    assert "3 patients" in few.caveats[0]
    column = pd.Series(["x", "x", "y", "y", "x", "y", None])
    with pytest.raises(CytosaeError, match="'a'"):
        given_folds(column, target, ["a", "b", "a", "d", "e", "f", "g"], "fold")
    with pytest.raises(CytosaeError, match="1 different"):
        given_folds(pd.Series(["x"] * 7), target, list("abcdefg"), "fold")
    given = given_folds(pd.Series(["x", "x", "x", "y", "y", "y", None]), target, list("abcdefg"), "site")
    np.testing.assert_array_equal(given.row_folds[0], [0, 0, 0, 1, 1, 1, -1])
    assert any("occur nowhere else" in caveat for caveat in given.caveats)
    assert any("not predicted" in caveat for caveat in given.caveats)


def test_permutations_keep_the_classes_of_every_fold() -> None:
    target, of = np.arange(30) % 3, np.arange(30) // 10
    drawn = shuffled_within(of, target, np.arange(30), 50, 0)
    assert not np.array_equal(drawn[0], target)
    for row in drawn:
        for fold in range(3):
            np.testing.assert_array_equal(np.sort(row[of == fold]), np.sort(target[of == fold]))


def test_rows_of_a_patient_are_shuffled_together() -> None:
    units = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6])  # five patients in two data sets, two in one
    target = np.array([0, 1, 0, 1, 2, 0, 1, 0, 1, 2, 0, 1])
    drawn = shuffled_within(np.zeros(12, np.int64), target, units, 50, 0)
    np.testing.assert_array_equal(drawn[:, :5], drawn[:, 5:10])
    assert len(np.unique(drawn, axis=0)) > 20
    for row in drawn:
        np.testing.assert_array_equal(np.sort(row), np.sort(target))


@pytest.mark.parametrize("labels", [["A"] * 2 + ["B"] * 40, ["A"] * 2 + ["B"] * 2 + ["C"] * 2, ["A"] * 3 + ["B"] * 2])
def test_two_patients_of_a_class_are_enough_for_a_figure_with_its_caveat(labels: list[str]) -> None:
    task = classification_task(cohort(n=len(labels), diagnosis=pd.Categorical(labels)), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 5, 2)
    assert folds.row_folds.max() == 1
    assert "smallest class has 2 patients: 2 folds" in folds.caveats[0]
    found = chosen_predictions(task, folds, Products.from_barcodes(task.data, candidates(QUICK)), QUICK)
    told = figures(found.predictions, folds, task.classes, QUICK)
    assert 0 <= told["weighted_f1"] <= 1


def test_every_row_has_the_models_that_had_not_seen_it() -> None:
    folds = stratified_folds(np.arange(24) % 2, [f"P{i}" for i in range(24)], 3, 2)
    for place, (repeat, fold) in enumerate(folds.splits):
        np.testing.assert_array_equal(folds.row_models[repeat] == place, folds.row_folds[repeat] == fold)
    given = given_folds(pd.Series(["a", "b", None, "a"]), np.array([0, 1, 0, 1]), list("wxyz"), "fold")
    assert given.row_models.tolist() == [[0, 1, -1, 0]]
