"""Scores and calibration, against scikit-learn and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from cytosae.cohort.scores import calibration, class_scores, confusion, weighted_f1


def test_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 4, 80), rng.integers(0, 3, 80)  # the last class is never said
    counts = confusion(truth, said, 4)
    np.testing.assert_array_equal(counts, confusion_matrix(truth, said, labels=range(4)))
    assert weighted_f1(counts) == pytest.approx(f1_score(truth, said, average="weighted"))
    p, r, f, n = precision_recall_fscore_support(truth, said, labels=range(4), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), (p, r, f, n), strict=True):
        np.testing.assert_allclose(class_scores(counts)[name], values)
    weights = rng.integers(0, 3, (7, 80))
    for draw, found in zip(weights, confusion(truth, said, 4, weights), strict=True):
        np.testing.assert_array_equal(
            found, confusion_matrix(np.repeat(truth, draw), np.repeat(said, draw), labels=range(4))
        )


def test_calibration_of_honest_and_of_boastful_models() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 4000)
    truth = np.array([rng.choice(3, p=row) for row in p])
    honest = calibration(p, truth)
    assert honest["ece"] < 0.03
    sure = np.where(p == p.max(axis=1, keepdims=True), 0.98, 0.01)
    boastful = calibration(sure, truth)
    assert boastful["ece"] > 0.25
    assert boastful["log_loss"] > honest["log_loss"]
    assert boastful["brier"] > honest["brier"]
    assert sum(b["n"] for b in honest["bins"]) == 4000
