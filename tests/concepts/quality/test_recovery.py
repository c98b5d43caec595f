"""The recovery measure: known answers, and what must not score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cytosae.concepts.quality import auroc, recovery
from cytosae.concepts.quality.baselines import (
    cluster_closeness,
    nonnegative_factors,
    principal_directions,
    random_directions,
    strongest,
    token_directions,
)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([2, 5, 1000]))
def test_auroc_equals_scikit_learn(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(0, levels, (60, 3)), rng.random((60, 2)) < 0.4
    truth[0], truth[1] = True, False
    expected = [[roc_auc_score(truth[:, t], scores[:, s]) for t in range(2)] for s in range(3)]
    np.testing.assert_allclose(auroc(scores, truth), expected)


def test_auroc_of_what_all_or_none_have_is_not_a_number() -> None:
    found = auroc(np.arange(4)[:, None], np.array([[1, 0], [1, 0], [1, 0], [1, 0]]))
    assert np.isnan(found).all()


def planted(n_images: int = 80, patches: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(n_images), patches)
    truth = rng.random((len(images), 4)) < 0.2
    return rng.standard_normal((len(images), 30)), truth, images


def test_planted_scores_are_found_and_noise_is_not() -> None:
    scores, truth, images = planted()
    scores[:, 17] += 5 * truth[:, 0]
    scores[:, 3] -= 5 * truth[:, 1]  # a score that is low where the concept is does not count
    found = recovery(scores, truth, images)
    assert found.best[0] == 17
    assert found.area[0] > 0.98
    assert (found.area[1:] < 0.65).all()
    assert found.fraction(0.9) == 0.25


def test_choosing_among_many_noisy_scores_does_not_pay() -> None:
    """Chosen and judged on the same images, the best of 3,000 noises would look good for a rare concept."""
    rng = np.random.default_rng(1)
    images = np.repeat(np.arange(40), 4)
    truth = np.zeros((160, 1), dtype=bool)
    truth[rng.permutation(160)[:12]] = True
    scores = rng.standard_normal((160, 3000))
    assert auroc(scores, truth).max() > 0.75
    assert recovery(scores, truth, images).area[0] < 0.7


def test_a_constant_score_is_worth_nothing() -> None:
    _, truth, images = planted()
    assert recovery(np.ones((len(images), 3)), truth, images).area == pytest.approx(0.5)


def test_a_concept_missing_from_a_half_has_no_figure() -> None:
    scores, truth, images = planted()
    truth[:, 2] = False
    truth[0, 2] = True
    found = recovery(scores, truth, images)
    assert np.isnan(found.area[2])


@pytest.mark.parametrize("offset", [-100.0, 0.0, 5.0])
def test_the_strongest_scores_keep_their_order_and_the_others_say_nothing(offset: float) -> None:
    scores = np.random.default_rng(0).standard_normal((50, 9)).astype(np.float32) + np.float32(offset)
    kept = strongest(scores, 3)
    assert ((kept > 0).sum(axis=1) == 3).all()
    np.testing.assert_array_equal(kept > 0, scores >= np.sort(scores, axis=1)[:, [-3]])
    np.testing.assert_array_equal(np.argsort(kept[kept > 0]), np.argsort(scores[kept > 0]))
    every = strongest(scores, 20)
    assert (every > 0).all()
    np.testing.assert_array_equal(np.argsort(every.ravel()), np.argsort(scores.ravel()))


def test_baselines_have_their_shapes_and_seeds() -> None:
    tokens = np.random.default_rng(0).standard_normal((500, 12)).astype(np.float32)
    assert random_directions(12, 7).shape == (12, 7)
    principal = principal_directions(tokens)
    assert principal.shape == (12, 24)
    spread = ((tokens - tokens.mean(axis=0)) @ principal).var(axis=0)
    np.testing.assert_allclose(spread[:12], np.linalg.eigvalsh(np.cov(tokens.T, bias=True))[::-1], rtol=1e-4)
    np.testing.assert_array_equal(principal[:, 12:], -principal[:, :12])
    examples = token_directions(tokens, 9)
    np.testing.assert_allclose(np.linalg.norm(examples, axis=0), 1, rtol=1e-5)
    away = tokens - tokens.mean(axis=0)
    assert (np.abs((away / np.linalg.norm(away, axis=1, keepdims=True)) @ examples - 1) < 1e-5).any(axis=0).all()
    assert nonnegative_factors(tokens, 5).shape == (500, 5)
    assert cluster_closeness(tokens, 6).shape == (500, 6)
    assert np.array_equal(random_directions(12, 7, 3), random_directions(12, 7, 3))
