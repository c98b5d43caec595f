"""The linear classifier against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cytosae.cohort.linear import centred_products, fit, fit_path, penalty, spread, threshold_products


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_fit_is_scikit_learns(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    barcodes = rng.gamma(1, 2, (50, 300))
    target = np.arange(50) % n_classes
    barcodes[:, :5] += target[:, None]
    log_mean = rng.uniform(-7, 1, 300)
    train = np.arange(50) < 38
    targets = np.stack([target[train], rng.permutation(target[train])])
    products, kept = threshold_products(barcodes, log_mean, (-6, -3, 0))
    for t, threshold in enumerate((-6, -3, 0)):
        above = np.where(log_mean > threshold, barcodes, 0)
        assert kept[t] == (log_mean > threshold).sum()
        centred = above - above.mean(axis=0)
        np.testing.assert_allclose(products[t], centred @ centred.T, rtol=1e-9, atol=1e-9)
        found = fit(products[t][np.ix_(train, train)], targets, n_classes, 1e-8)
        said = found.probabilities(products[t][np.ix_(~train, train)])
        for place, labels in enumerate(targets):
            c = penalty(n_classes, int(train.sum()))
            model = LogisticRegression(C=c, solver="newton-cg", tol=1e-9, max_iter=10_000).fit(above[train], labels)
            np.testing.assert_allclose(said[place], model.predict_proba(above[~train]), atol=2e-6)
            weights = found.weights(above[train])[place]
            mine = weights if n_classes > 2 else weights[1:] - weights[:1]
            np.testing.assert_allclose(mine, model.coef_, atol=1e-5)


def test_a_path_of_strengths_is_scikit_learns_at_each() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(0, 0.1, (40, 100)) + 1000  # what all share is far larger than what they differ by
    target = np.arange(40) % 3
    features[:, 0] += target
    products = centred_products(features.astype(np.float32))
    strengths = (0.01, 1.0, 100.0)
    for strength, found in zip(strengths, fit_path(products, target[None], 3, strengths, 1e-8), strict=True):
        centred = features.astype(np.float32).astype(float) - 1000
        model = LogisticRegression(C=strength, solver="newton-cg", tol=1e-9, max_iter=10_000).fit(centred, target)
        np.testing.assert_allclose(found.probabilities(products)[0], model.predict_proba(centred), atol=1e-5)
    expected = ((features - features.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert spread(products) == pytest.approx(expected, rel=1e-3)
    assert spread(products + 7) == pytest.approx(spread(products))


def test_fit_of_alike_barcodes_and_of_one_class() -> None:
    alike = fit(np.ones((6, 6)), np.array([[0, 0, 0, 1, 1, 2]]), 4).probabilities(np.ones((1, 6)))
    np.testing.assert_allclose(alike[0, 0], [1 / 2, 1 / 3, 1 / 6, 0], atol=1e-12)
    one = fit(np.eye(6), np.array([[1] * 6]), 3).probabilities(np.ones((1, 6)))
    np.testing.assert_allclose(one[0, 0], [0, 1, 0], atol=1e-12)
