"""Detection and intruder find sentences that say what is shown, and give chance to those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.concepts.quality import auroc, detection, intruder


def planted(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Six concepts that a tenth of 400 cells show; scores that know the first three, the others are noise."""
    shown = rng.random((400, 6)) < 0.1
    scores = rng.random((400, 6))
    scores[:, :3] += 0.8 * shown[:, :3]
    return scores, shown


def test_detection_is_the_auroc_of_each_sentence_for_its_own_concept() -> None:
    scores, shown = planted(np.random.default_rng(0))
    found = detection(scores, shown)
    np.testing.assert_allclose(found, np.diag(auroc(scores, shown)))
    assert found[:3].min() > 0.9
    np.testing.assert_allclose(found[3:], 0.5, atol=0.12)
    shown[:, 5] = False
    assert np.isnan(detection(scores, shown)[5])


def test_the_intruder_is_found_by_sentences_that_know_and_by_chance_otherwise() -> None:
    scores, shown = planted(np.random.default_rng(1))
    found = intruder(scores, shown, ~shown, seed=0, trials=200)
    assert found[:3].min() > 0.7
    np.testing.assert_allclose(found[3:], 0.2, atol=0.1)
    equal = intruder(np.zeros_like(scores), shown, ~shown, seed=0)
    np.testing.assert_allclose(equal, 0.2)
    shown[:, 0] = np.arange(400) < 3
    assert np.isnan(intruder(scores, shown, ~shown, seed=0)[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_draws_the_same_cells(seed: int) -> None:
    scores, shown = planted(np.random.default_rng(2))
    np.testing.assert_array_equal(intruder(scores, shown, ~shown, seed), intruder(scores, shown, ~shown, seed))
