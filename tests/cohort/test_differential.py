"""Differential counts: corrected shares are nearer the truth than answered ones, intervals hold it as often as stated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from PIL import Image

from cytosae.cohort import differential_count, fit_probe

TRUE = np.array([[80, 4, 1, 15], [12, 60, 3, 25], [2, 8, 40, 50]]) / 100
"""Of each type the shares of the answers, the last of them none."""


def drawn(rng: np.random.Generator, shares: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers of new cells, and a confusion matrix from 150 known cells of each type."""
    types = rng.choice(3, cells, p=shares)
    answers = np.array([rng.choice(4, p=TRUE[k]) for k in types])
    return answers, np.stack([rng.multinomial(150, row) for row in TRUE])


def test_intervals_hold_the_truth_and_the_correction_is_nearer_to_it() -> None:
    rng, shares = np.random.default_rng(0), np.array([0.2, 0.3, 0.5])
    held, errors = [], []
    for k in range(60):
        answers, confusion = drawn(rng, shares, 300)
        found = differential_count(answers, confusion, draws=200, seed=k)
        held.append((found.low <= shares) & (shares <= found.high))
        errors.append((np.abs(found.share - shares).mean(), np.abs(found.answered - shares).mean()))
        assert abs(found.share.sum() - 1) < 1e-9
        assert ((found.low <= found.share + 1e-3) & (found.share <= found.high + 1e-3)).all()
    assert 0.88 <= np.mean(held) <= 0.995  # of 180; 0.95 is stated
    corrected, answered = np.mean(errors, axis=0)
    assert corrected < 0.6 * answered


def test_a_perfect_probe_is_not_corrected_and_no_answer_says_little() -> None:
    perfect = np.array([[10_000, 0, 0], [0, 10_000, 0]])
    found = differential_count(np.repeat([0, 1], [70, 30]), perfect)
    assert np.allclose(found.share, [0.7, 0.3], atol=1e-3)
    assert np.allclose(found.answered, [0.7, 0.3])
    assert 0.58 < found.low[0] < 0.63 < 0.77 < found.high[0] < 0.80
    silent = differential_count(np.full(50, 2), np.array([[0, 0, 100], [0, 0, 100]]))
    assert np.isnan(silent.answered).all()
    assert np.isfinite(silent.share).all()


def test_real_cells_in_other_proportions_than_the_probe_learnt_from(real_cells: Path) -> None:
    """pbc, its cells in groups of artificial patients: a probe on colours, and a smear with three quarters eosinophils."""
    table = pd.read_csv(real_cells / "cells.csv").query("dataset == 'pbc'")
    types = ["eosinophil", "lymphocyte", "monocyte"]
    own = pd.concat([table[table["label"] == name].iloc[:150] for name in types])
    counts = np.stack([colours(real_cells / path) for path in own["path"]])
    number = own.groupby("label").cumcount().to_numpy()
    learnt = number < 90
    probe = fit_probe(
        sp.csr_matrix(counts[learnt]), own["label"][learnt].tolist(), number[learnt] % 9, accuracy=0.95, draws=50
    )
    rest = np.flatnonzero(~learnt)
    labels = own["label"].to_numpy()[rest]
    few = {"lymphocyte": 10, "monocyte": 10, "eosinophil": 60}
    chosen = np.concatenate([rest[labels == name][: few[name]] for name in types])
    answers = [
        3 if one is None else types.index(one)
        for one in probe.labels(probe.probabilities(sp.csr_matrix(counts[chosen])))
    ]
    found = differential_count(np.array(answers), probe.confusion)
    truth = np.array([60, 10, 10]) / 80
    assert probe.confusion.sum(axis=1).tolist() == [90, 90, 90]
    assert np.abs(found.share - truth).max() < 0.1
    assert ((found.low - 0.02 <= truth) & (truth <= found.high + 0.02)).all()


def colours(path: Path) -> np.ndarray:
    """How often each of 64 colours occurs in the middle of an image."""
    with Image.open(path) as image:
        small = np.asarray(image.convert("RGB").resize((56, 56)))[12:44, 12:44] // 64
    return np.bincount((small[..., 0] * 4 + small[..., 1]).ravel() * 4 + small[..., 2].ravel(), minlength=64)
