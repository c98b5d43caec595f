"""Is a latent the cell's or the stain's? On planted variance."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.concepts.response import MIXED, MORPHOLOGY, STAIN, ResponseSums

KINDS = {"stain": 4, "optics": 5}


def _planted(n: int, cell: list[float], stain: list[float], optics: list[float], seed: int = 0) -> ResponseSums:
    """Cells, and pictures of them, whose latents vary with these standard deviations."""
    rng = np.random.default_rng(seed)
    sums, width = ResponseSums(len(cell), KINDS), len(cell)
    for _ in range(n // 10):
        truth = 20 + rng.normal(size=(10, width)) * cell
        changed = {
            kind: truth + rng.normal(size=(count, 10, width)) * spread
            for (kind, count), spread in zip(KINDS.items(), (stain, optics), strict=True)
        }
        sums.add(truth, changed)
    return sums


def test_planted_components_are_found() -> None:
    found = _planted(4000, [3, 2, 1], [0.5, 2, 4], [1, 0, 1]).response()
    # the picture as it is has no noise, so of k + 1 pictures the variance is k / (k + 1) of the noise's
    assert found.stain == pytest.approx(np.array([0.25, 4, 16]) * 4 / 5, rel=0.05)
    assert found.optics == pytest.approx(np.array([1, 0, 1]) * 5 / 6, rel=0.05)
    assert found.cell == pytest.approx([9, 4, 1], rel=0.12, abs=0.1)
    assert found.words() == [MORPHOLOGY, MIXED, STAIN]
    assert found.share("cell") + found.share("stain") + found.share("optics") == pytest.approx(np.ones(3))


def test_a_latent_of_noise_alone_is_the_stains() -> None:
    found = _planted(200, [0, 0], [1, 3], [0, 0]).response()
    assert (found.response > 0.9).all()


def test_silent_latents_have_no_word_and_cells_must_be_two() -> None:
    sums = ResponseSums(1, KINDS)
    nothing = {kind: np.zeros((count, 2, 1)) for kind, count in KINDS.items()}
    with pytest.raises(ValueError, match="0 cells"):
        sums.response()
    sums.add(np.zeros((2, 1)), nothing)
    assert sums.response().words() == [None]


def test_batches_add_up() -> None:
    rng = np.random.default_rng(2)
    own = rng.normal(size=(12, 3))
    changed = {kind: rng.normal(size=(count, 12, 3)) for kind, count in KINDS.items()}
    whole, parts = ResponseSums(3, KINDS), ResponseSums(3, KINDS)
    whole.add(own, changed)
    for rows in (slice(0, 5), slice(5, 12)):
        parts.add(own[rows], {kind: values[:, rows] for kind, values in changed.items()})
    assert parts.response().response == pytest.approx(whole.response().response)
