"""Regressions of many label vectors at once, against scikit-learn's of one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cytosae.cohort.many_fits import fit_softmax


@pytest.mark.parametrize("strength", [0.01, 0.3, 10.0])
def test_each_label_vector_is_fitted_as_by_itself(strength: float) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, 300)
    x = np.eye(4)[y] @ rng.normal(size=(4, 20)) + rng.normal(0, 2, (300, 20)) * np.geomspace(0.1, 3, 20) + 5
    targets = np.stack([y, rng.permutation(y), y[::-1]])
    models = fit_softmax(x, targets, np.full(3, strength), 4)
    for target, found in zip(targets, models.probabilities(x), strict=True):
        exact = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(x, target).predict_proba(x)
        assert np.abs(found - exact).mean() < 0.01
        assert (found.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.97


def test_a_class_that_a_label_vector_lacks_gets_no_probability() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 60)
    models = fit_softmax(rng.normal(size=(60, 3)) + y[:, None], np.stack([y, y * 0]), np.ones(2), 3)
    found = models.probabilities(rng.normal(size=(5, 3)))
    assert (found[0, :, 2] == 0).all()
    assert (found[1, :, 0] == 1).all()
