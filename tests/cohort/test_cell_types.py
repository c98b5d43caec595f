"""The probe of cell types: it is right as often as it says where it answers, and abstains elsewhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cytosae.cohort import answering_threshold, fit_probe, predicted_fractions


def cells(seed: int, n: int = 400, noise: float = 1.0) -> tuple[sp.csr_matrix, list[str], np.ndarray]:
    """Counts of cells of three types, two of which are alike, of twenty patients."""
    rng = np.random.default_rng(seed)
    types = rng.integers(0, 3, n)
    rate = np.full((3, 30), 0.5)
    rate[0, :5], rate[1, 5:10], rate[2, 5:10] = 4, 4, 3
    counts = rng.poisson(rate[types] * rng.gamma(1 / noise, noise, (n, 30)))
    return sp.csr_matrix(counts), [("blast", "lymphocyte", "monocyte")[t] for t in types], rng.integers(0, 20, n)


def test_answers_are_as_accurate_as_asked_for_on_new_patients() -> None:
    probe = fit_probe(*cells(0), accuracy=0.9)
    assert probe.classes == ("blast", "lymphocyte", "monocyte")
    assert 0.2 < probe.figures["answered"] < 0.95
    assert probe.figures["answered_accuracy"] >= 0.9 > probe.figures["accuracy"]
    assert probe.figures["low"] < probe.figures["accuracy"] < probe.figures["high"]
    counts, labels, _ = cells(1, n=3000)
    found = probe.labels(probe.probabilities(counts))
    answered = [(one, label) for one, label in zip(found, labels, strict=True) if one is not None]
    assert np.mean([one == label for one, label in answered]) == pytest.approx(0.9, abs=0.05)
    assert len(answered) / 3000 == pytest.approx(probe.figures["answered"], abs=0.1)


def test_a_probe_without_skill_abstains() -> None:
    counts, labels, patients = cells(2)
    labels = list(np.random.default_rng(0).permutation(labels))
    probe = fit_probe(counts, labels, patients, accuracy=0.99)
    assert probe.figures["answered"] < 0.05
    assert probe.labels(probe.probabilities(counts)).count(None) > 350


def test_patients_are_whole_in_the_folds() -> None:
    """A type that one patient alone has cannot be recognised by knowing the patient."""
    counts, labels, patients = cells(3)
    own = sp.csr_matrix(np.eye(20)[patients] * 9)  # each patient has a latent of its own
    together = sp.hstack([counts, own], format="csr")
    alone = [f"of {p}" if p < 10 else "others" for p in patients]
    assert fit_probe(together, alone, patients, 0.9).figures["macro_f1"] < 0.3
    assert fit_probe(together, alone, None, 0.9).figures["macro_f1"] > 0.8
    with pytest.raises(ValueError, match="two patients"):
        fit_probe(counts, labels, np.zeros(400, int), 0.9)
    with pytest.raises(ValueError, match="two types"):
        fit_probe(counts, ["blast"] * 400, patients, 0.9)


def test_threshold_by_hand() -> None:
    p = np.array([0.9, 0.8, 0.8, 0.7, 0.6])
    probability, right = np.stack([p, 1 - p], axis=1), np.array([1, 1, 0, 1, 0], bool)
    target = np.where(right, 0, 1)
    assert answering_threshold(probability, target, 1.0) == 0.9
    assert answering_threshold(probability, target, 0.75) == 0.7
    assert answering_threshold(probability, target, 0.5) == 0.6
    assert answering_threshold(probability[2:3], target[2:3], 0.5) > 1


def test_fractions_are_means_of_probabilities() -> None:
    table = pd.DataFrame({"p blast": [1, 0.5, 0.2, 0.4], "p other": [0, 0.5, 0.8, 0.6], "predicted": "x"})
    fractions, types = predicted_fractions(table, np.array([1, 1, -1, 0]), 3)
    assert types == ("blast", "other")
    np.testing.assert_allclose(fractions, [[0.4, 0.6], [0.75, 0.25], [0, 0]])
