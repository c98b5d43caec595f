"""The steps of the segmentation on pictures whose truth is planted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cytosae.segmentation import contour, find_red_cells, measure_optics
from cytosae.segmentation.contour import ANGLES, RADII, enclosing_contour, inside_contour
from cytosae.segmentation.evidence import inside_evidence
from cytosae.segmentation.nuclei import guess_nucleus, nucleus_within

Y, X = np.mgrid[:80, :80]


def disc(row: float, column: float, radius: float) -> np.ndarray:
    return np.asarray(np.hypot(Y - row, X - column) < radius)


def test_density_follows_beers_law_under_uneven_light() -> None:
    light = 200 + 40 * (X / 80)[..., None] * np.ones(3)
    stain = 0.3 * disc(40, 40, 15)[..., None] * np.array([0.8, 1.0, 0.2])
    optics = measure_optics(((light + 4) * 10**-stain - 4).round().astype(np.uint8))
    inside = optics.density[disc(40, 40, 13)]
    np.testing.assert_allclose(inside.mean(axis=0), [0.24, 0.3, 0.06], atol=0.01)
    assert abs(optics.density[~disc(40, 40, 16)]).max() < 0.02
    assert optics.background == pytest.approx(1 - disc(40, 40, 15).mean(), abs=0.03)


def test_the_contour_is_the_best_of_all_closed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    gain = rng.normal(size=(6, 4))

    def worth(path: tuple[int, ...]) -> float:
        steps = [path[k] - path[k - 1] for k in range(6)]
        if max(map(abs, steps)) > 2:
            return -np.inf
        return float(sum(gain[k, r] for k, r in enumerate(path)) - 0.1 * sum(d * d for d in steps))

    best = max(itertools.product(range(4), repeat=6), key=worth)
    found = tuple(contour._best_radii(gain, 2, 0.1).tolist())
    assert worth(found) >= worth(best) - 0.5  # the walk over two rounds may end a little beside the best closed one
    assert found == best


def test_a_disc_is_enclosed_whatever_lies_beside_it() -> None:
    evidence = np.where(disc(40, 36, 18), 1.0, -1.0)
    evidence[disc(40, 70, 9)] = 1.0  # like the cell, but apart
    radii = enclosing_contour(evidence, (38, 38), 40)
    assert radii.shape == (ANGLES,)
    inside = inside_contour((80, 80), (38, 38), radii)
    both = (inside & disc(40, 36, 18)).sum()
    assert 2 * both / (inside.sum() + disc(40, 36, 18).sum()) > 0.96
    assert RADII > 40


def test_colours_near_the_nucleus_count_and_those_elsewhere_do_not() -> None:
    stain = np.zeros((80, 80, 3))
    cytoplasm, red = disc(40, 40, 20), disc(12, 12, 11) | disc(68, 64, 10) | disc(40, 68, 9)
    stain[cytoplasm], stain[red & ~cytoplasm] = (0.2, 0.2, 0.02), (0.05, 0.2, 0.2)
    nucleus = disc(40, 40, 10)
    stain[nucleus] = (0.5, 0.9, 0.3)
    evidence = inside_evidence(stain, nucleus, np.zeros_like(nucleus), ~(cytoplasm | red))
    assert evidence[cytoplasm].mean() > 1
    assert evidence[red & ~disc(40, 40, 23)].mean() < -0.5
    assert evidence[~(cytoplasm | red)].max() < 0.6


def test_lobes_are_joined_but_not_over_background() -> None:
    stain = np.zeros((80, 80, 3))
    cell = disc(40, 40, 26)
    stain[cell] = (0.05, 0.1, 0.03)
    lobes = disc(40, 30, 8) | disc(40, 49, 8)
    neighbour = disc(8, 70, 7)
    stain[lobes | neighbour] = (0.5, 0.9, 0.3)
    guess = guess_nucleus(stain, ~(cell | neighbour), (40, 40))
    assert guess is not None
    assert (guess.nucleus & disc(40, 30, 6)).any()
    assert (guess.nucleus & disc(40, 49, 6)).any()
    assert not (guess.nucleus & neighbour).any()
    assert guess_nucleus(np.zeros((80, 80, 3)), np.ones((80, 80), bool), (40, 40)) is None
    found = nucleus_within(stain, cell)
    nucleus, eta, agreement = found.mask, found.eta, found.agreement
    assert (nucleus ^ lobes).sum() < 0.15 * lobes.sum()
    assert eta > 0.8
    assert agreement > 0.9


def test_whole_red_cells_give_the_scale() -> None:
    red = disc(20, 20, 9) | disc(20, 60, 10) | disc(60, 22, 9.5) | disc(60, 60, 9.5) | disc(40, 80, 9)
    found = find_red_cells(~red, np.zeros_like(red), scale=3)
    assert found.count == 4  # the fifth is cut by the border
    assert found.diameter == pytest.approx(3 * 19, rel=0.05)
    assert found.mpp == pytest.approx(7.2 / found.diameter)
    assert found.low < found.diameter < found.high
    none = find_red_cells(np.ones_like(red), np.zeros_like(red))
    assert none.count == 0
    assert np.isnan(none.diameter)
