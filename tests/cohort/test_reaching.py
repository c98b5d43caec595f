"""Patients who reach a level: against a plain loop, where nothing differs, and where one cell in sixty is marked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cytosae.cohort import compare, compare_reach, most_different


def by_hand(values: NDArray[np.float32], first: NDArray[np.bool_], strata: NDArray[np.int64]) -> tuple[float, float]:
    """The largest z over all levels, and its level."""
    best, at = 0.0, np.nan
    for level in np.unique(values)[1:]:
        excess = variance = 0.0
        for stratum in np.unique(strata):
            own = strata == stratum
            n, k, reached = own.sum(), first[own].sum(), (values[own] >= level).sum()
            excess += (first & own & (values >= level)).sum() - reached * k / n
            variance += reached * (n - reached) * k * (n - k) / (n**2 * (n - 1))
        z = excess / np.sqrt(variance) if variance > 0 else 0
        if abs(z) > abs(best) + 1e-9:
            best, at = z, level
    return best, at


def test_levels_and_shares_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    values = rng.poisson(2, (40, 25)).astype(np.float32)  # with ties
    values[:, 3], first, strata = 1, rng.random(40) < 0.4, np.arange(40) % 3
    values[first, 7] += 3
    values[~first, 9] += 3
    for codes in (np.zeros(40, int), strata):
        table = compare_reach(values, first, codes, permutations=500)
        for s in range(25):
            z, level = by_hand(values[:, s], first, codes)
            assert table["reach_z"][s] == pytest.approx(z)
            if s != 3:
                assert abs(table["reach_z"][s]) == pytest.approx(abs(z))
                reached = values[:, s] >= table["reach_level"][s]
                if not codes.any():
                    assert table["reach_first"][s] == pytest.approx(reached[first].mean())
                    assert table["reach_second"][s] == pytest.approx(reached[~first].mean())
                    assert table["reach_level"][s] == level
        assert table["reach_z"].idxmax() == 7
        assert table["reach_z"].idxmin() == 9
        assert table["reach_fdr"][[7, 9]].max() < 0.05
        assert np.isnan(table["reach_p"][3])
        top, bottom = most_different(compare(values, first, codes, permutations=0).join(table), 3, "reach_z")
        assert (top[0], bottom[0]) == (7, 9)


def test_p_values_are_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    values = rng.poisson(1.5, (50, 400)).astype(np.float32)
    strata = np.arange(50) % 2
    table = compare_reach(
        values, (rng.random(50) < 0.3) | (strata == 1) & (rng.random(50) < 0.3), strata, permutations=400
    )
    assert (table["reach_p"] <= 0.05).mean() == pytest.approx(0.05, abs=0.03)
    assert (table["reach_p"] <= 0.5).mean() == pytest.approx(0.5, abs=0.1)
    assert (table["reach_fdr"] <= 0.1).sum() == 0


def test_one_marked_cell_in_sixty_comes_before_what_varies_more() -> None:
    rng = np.random.default_rng(2)
    cells = rng.poisson(rng.gamma(0.5, 1, (60, 1, 300)), (60, 60, 300))  # patients differ
    first = np.arange(60) % 2 == 0
    cells[first, 0, 5] = rng.poisson(9, 30)
    top = np.sort(cells, axis=1)[:, -5:].mean(axis=1).astype(np.float32)
    reach = compare_reach(top, first, permutations=200)
    difference = compare(cells.mean(axis=1), first, permutations=0)["difference"]
    assert (reach["reach_z"] > reach["reach_z"][5]).sum() < 10 < (difference > difference[5]).sum()
    assert reach["reach_first"][5] > reach["reach_second"][5] + 0.3


def test_rows_of_one_patient_count_once() -> None:
    values = np.random.default_rng(3).normal(size=(20, 6)).astype(np.float32)
    first = np.arange(20) < 9
    twice = compare_reach(
        np.repeat(values, 2, axis=0), np.repeat(first, 2), patients=np.arange(20).repeat(2), permutations=50
    )
    pd.testing.assert_frame_equal(twice, compare_reach(values, first, permutations=50))
