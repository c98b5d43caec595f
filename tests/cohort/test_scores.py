"""Scores and calibration, against scikit-learn and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from cytosae.cohort.scores import (
    area_under_curve,
    balanced_accuracy,
    calibration,
    class_scores,
    confusion,
    macro_f1,
    weighted_f1,
)


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


def test_areas_and_balanced_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.arange(60) % 3)
    p = rng.dirichlet([1, 1, 1], 60).round(2) + np.eye(3)[truth] * 0.2  # with ties
    assert area_under_curve(p, truth) == pytest.approx(np.mean([roc_auc_score(truth == c, p[:, c]) for c in range(3)]))
    weights = rng.integers(0, 3, (5, 60))
    for draw, found in zip(weights, area_under_curve(p, truth, weights), strict=True):
        areas = [roc_auc_score(truth == c, p[:, c], sample_weight=draw) for c in range(3)]
        assert found == pytest.approx(np.mean(areas))
    counts = confusion(truth, p.argmax(axis=1), 3, weights)
    for draw, one in zip(weights, counts, strict=True):
        drawn, said = np.repeat(truth, draw), np.repeat(p.argmax(axis=1), draw)
        assert macro_f1(one) == pytest.approx(f1_score(drawn, said, average="macro"))
        assert balanced_accuracy(one) == pytest.approx(balanced_accuracy_score(drawn, said))
    alone = area_under_curve(p, truth, (truth == 0)[None].astype(float))
    assert np.isnan(alone).all()
    assert macro_f1(confusion(truth[truth < 2], truth[truth < 2], 3)) == 1  # a class that does not occur is left out


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
