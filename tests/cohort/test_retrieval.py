"""How many cells show a concept by chance, and which cells are like none of other patients."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from cytosae.cohort import (
    cells_showing,
    expected_as_strong,
    number_by_chance,
    sure_cells,
    unfamiliar_cells,
)


@pytest.mark.parametrize(("share", "spread"), [(0.0, 0.0), (0.03, 0.01), (0.2, 0.08)])
def test_the_interval_holds_the_number_of_one_more_member_of_the_group(share: float, spread: float) -> None:
    rng = np.random.default_rng(1)
    held, p, n = [], [], 400
    for _ in range(n):
        cells = rng.integers(40, 200, 9)
        rates = np.clip(rng.normal(share, spread, 9), 0, 1)
        shown = rng.binomial(cells, rates)
        chance = number_by_chance(int(shown[0]), int(cells[0]), shown[1:], cells[1:])
        held.append(chance.low <= shown[0] <= chance.high)
        p.append(chance.p)
    assert np.mean(held) >= 0.92
    assert np.mean(np.array(p) < 0.025) <= 0.05


def test_more_than_by_chance_is_told_from_chance() -> None:
    few = [2, 0, 3, 1, 4, 2, 1, 0]
    chance = number_by_chance(25, 100, few, [100] * 8)
    assert chance.expected == pytest.approx(np.mean(few))
    assert chance.high < 12
    assert (chance.p < 1e-3, chance.at_least, chance.patients) == (True, 0, 8)
    assert number_by_chance(2, 100, few, [100] * 8).p > 0.2
    # one member of the group has as many: that is said, and its own interval did not hold it
    odd = number_by_chance(25, 100, [*few, 30], [100] * 9)
    assert (odd.at_least, odd.false_alarms) == (1, pytest.approx(1 / 9))
    assert odd.p > 0.01
    with pytest.raises(ValueError, match="2 patients"):
        number_by_chance(1, 10, [1, 2], [10, 10])


def test_cells_are_listed_by_activation_with_the_number_expected_beside_them() -> None:
    counts, means = np.array([0, 3, 1, 0, 2]), np.array([0.5, 0.1, 0.4, 0.0, 0.1])
    assert cells_showing(counts, means).tolist() == [2, 1, 4]
    group = np.array([0.3, 0.0, 0.0, 0.0, 0.2, 0.1])
    patients = np.array([0, 0, 1, 1, 1, 1])
    # shares of the two patients with as much as 0.4, 0.25 and 0.1: 0 and 0, 1/2 and 0, 1/2 and 2/4
    expected = expected_as_strong([0.4, 0.25, 0.1], 10, group, patients)
    np.testing.assert_allclose(expected, 10 * (np.array([0, 0.25, 0.5]) * 6 + 1) / 7)
    assert sure_cells([0.05, 0.1, 0.4, 0.5, 2.0]) == 2
    assert sure_cells([0.2, 0.3, 0.3, 0.39]) == 4  # a strong cell of the group does not hide those after it
    assert sure_cells([0.5, 0.9]) == 0


def _cells(rng: np.random.Generator, kinds: np.ndarray, likely: np.ndarray) -> sp.csr_matrix:
    return sp.csr_matrix(rng.gamma(2, 1, (len(likely), kinds.shape[1])) * kinds[likely], dtype=np.float32)


def test_cells_that_no_other_patient_has_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(3)
    kinds = (rng.random((5, 60)) < 0.3).astype(float)
    people = np.repeat(np.arange(12), 60)
    others = _cells(rng, kinds[:4], rng.integers(0, 4, len(people)))
    mine = rng.integers(0, 4, 100)
    mine[[7, 50]] = 4
    found = unfamiliar_cells(_cells(rng, kinds, mine), others, people)
    assert {7, 50} == set(found.cells[:2].tolist())
    assert len(found.cells) <= 5
    assert found.chance.expected == pytest.approx(1, abs=0.7)
    assert found.chance.high < 6
    alarms = [
        len(unfamiliar_cells(_cells(rng, kinds, rng.integers(0, 4, 100)), others, people).cells) for _ in range(20)
    ]
    assert np.mean(alarms) <= 2
    # the same cells are familiar to one who has seen their kind in another
    known = others.tolil()
    known[:3] = _cells(rng, kinds, np.full(3, 4))
    kept = np.zeros(60, bool)
    kept[:20] = True
    assert {7, 50} != set(unfamiliar_cells(_cells(rng, kinds, mine), known.tocsr(), people).cells[:2].tolist())
    assert unfamiliar_cells(_cells(rng, kinds, mine), others, people, kept).distances.shape == (100,)
    with pytest.raises(ValueError, match="3 other people"):
        unfamiliar_cells(others[:5], others, people % 3)
