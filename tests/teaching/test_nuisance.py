"""What concepts shall not depend on: changes that keep the cell cost, all other directions stay as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cytosae.errors import CytosaeError
from cytosae.teaching import VIEWS, Views, mean_square_change
from cytosae.teaching.fitting import Prior, fit
from cytosae.teaching.nuisance import between_patients, penalised

RNG = np.random.default_rng(0)
RANDOM = RNG.normal(size=(3000, 12)).astype(np.float32)
ENCODER = RNG.normal(size=(40, 12)).astype(np.float32)
STAIN = np.eye(12)[0]


def test_a_penalty_makes_its_direction_dear_and_leaves_the_others_in_proportion() -> None:
    covariance = np.eye(12)
    made = penalised(np.eye(12), covariance, [(np.outer(STAIN, STAIN), 3.0)])
    prior = made @ made.T
    np.testing.assert_allclose(prior - np.diag(np.diag(prior)), 0, atol=1e-12)
    assert prior[0, 0] == pytest.approx(prior[1, 1] / (1 + 3.0 * 12))
    assert np.trace(made.T @ covariance @ made) == pytest.approx(12)
    plain = penalised(np.eye(12), covariance, [])
    np.testing.assert_allclose(plain @ plain.T, np.eye(12), atol=1e-12)


def test_it_is_the_limit_of_fitting_to_what_is_seen_in_many_ways() -> None:
    """A ridge regression on many noisy copies has the weights of one with the noise's covariance as its penalty."""
    x = RNG.normal(size=(200, 12))
    y = x @ RNG.normal(size=12)
    noise = RNG.normal(size=(200, 400, 12)) * np.linspace(0.1, 2, 12)
    copies = (x[:, None] + noise).reshape(-1, 12)
    changes = mean_square_change(np.repeat(x[:, None], 400, axis=1), [x[:, None] + noise])
    many = np.linalg.solve(copies.T @ copies / 80_000, copies.T @ np.repeat(y, 400) / 80_000)
    np.testing.assert_allclose(many, np.linalg.solve(x.T @ x / 200 + changes, x.T @ y / 200), atol=0.03)


def test_a_concept_that_goes_with_a_stain_in_the_marks_follows_it_less() -> None:
    this = RNG.normal(size=(6, 12)).astype(np.float32)
    this[:, 3] += 2.5
    this[:, 0] += 2.5  # all marks come from a laboratory with this stain
    none = np.zeros((0, 12), np.float32)
    weights = []
    for nuisances in ((), ((np.outer(STAIN, STAIN), 1.0),)):
        prior = Prior(RANDOM, ENCODER, nuisances)
        found = fit(this, none, prior.features(RANDOM), prior).weights
        weights.append(found[0] / found[3])
    assert weights[0] > 0.5
    assert weights[1] < weights[0] / 3


def test_patients_are_known_by_the_means_of_several_cells_each() -> None:
    means = RNG.normal(size=(5, 4))
    tokens = np.repeat(means, 3, axis=0)[:, None] + np.zeros((1, 9, 1))
    units = np.repeat(np.arange(5), 3)
    np.testing.assert_allclose(between_patients(tokens, units), np.cov(means.T), atol=1e-6)
    assert between_patients(tokens, np.arange(15)) is None
    assert between_patients(tokens[:6], units[:6]) is None


def test_views_are_read_as_written_for_their_tokens_alone(tmp_path: Path) -> None:
    views = Views(np.eye(3), 2 * np.eye(3), 24, "tokens")
    path = tmp_path / VIEWS
    assert Views.load(path, "tokens") is None
    views.save(path)
    read = Views.load(path, "tokens")
    assert read is not None
    assert read.cells == 24
    np.testing.assert_array_equal(read.restained, views.restained)
    assert Views.load(path, "others") is None
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CytosaeError, match="makes it again"):
        Views.load(path, "tokens")
