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
    abstention,
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


def test_accuracy_where_the_surest_are_answered_as_counted_by_hand() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.permutation(np.linspace(0.52, 0.98, 25))
    correct = rng.random(25) < confidence
    said = rng.integers(0, 2, 25)
    probability = np.where(np.arange(2) == said[:, None], confidence[:, None], 1 - confidence[:, None])
    truth = np.where(correct, said, 1 - said)
    draws = rng.multinomial(25, np.full(25, 1 / 25), 400)
    found = abstention(probability, truth, draws)
    assert [row["share"] for row in found] == [round(0.1 * i, 1) for i in range(1, 11)]
    order = np.argsort(-confidence)
    for row, n in ((found[3], 10), (found[7], 20), (found[9], 25)):
        assert row["accuracy"] == pytest.approx(correct[order[:n]].mean())
        assert row["threshold"] == pytest.approx(confidence[order[n - 1]])
        assert row["low"] <= row["accuracy"] <= row["high"]
    assert found[0]["accuracy"] == pytest.approx((correct[order[:2]].sum() + correct[order[2]] / 2) / 2.5)
    twice = abstention(np.tile(probability, (2, 1)), np.tile(truth, 2), np.tile(draws, (1, 2)))
    assert [row["accuracy"] for row in twice] == pytest.approx([row["accuracy"] for row in found])


def test_a_model_that_knows_when_it_is_wrong_is_better_where_it_abstains() -> None:
    confidence = np.linspace(0.51, 0.99, 60)
    correct = np.arange(60) >= 30
    probability = np.stack([confidence, 1 - confidence], axis=1)
    found = abstention(probability, np.where(correct, 0, 1), np.ones((20, 60)))
    assert [row["accuracy"] for row in found] == pytest.approx([1, 1, 1, 1, 1, 5 / 6, 5 / 7, 5 / 8, 5 / 9, 0.5])
