"""Differences of two groups: by hand, where there are none, and between laboratories."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from cytosae.cohort import compare, make_strata, most_different


def test_comparison_by_hand() -> None:
    rng = np.random.default_rng(0)
    barcodes = rng.gamma(1, 2, (30, 50)) * (rng.random(50) < 0.9)  # some latents nobody has
    first = np.arange(30) < 12
    barcodes[:, [7, 9]] = rng.gamma(1, 2, (30, 2))
    barcodes[first, 7] += 6
    barcodes[~first, 9] += 6
    table = compare(barcodes, first, draws=300, permutations=2000)
    a, b = barcodes[first], barcodes[~first]
    np.testing.assert_allclose(table["difference"], a.mean(0) - b.mean(0), atol=1e-5)
    pooled = np.sqrt((11 * a.var(0, ddof=1) + 17 * b.var(0, ddof=1)) / 28)
    varies = pooled > 0
    np.testing.assert_allclose(
        table["effect"][varies], ((a.mean(0) - b.mean(0)) / pooled * (1 - 3 / (4 * 28 - 1)))[varies], rtol=1e-4
    )
    for s in (0, 7, 9, 20):
        assert table["auroc"][s] == pytest.approx(mannwhitneyu(a[:, s], b[:, s]).statistic / (12 * 18))
    top, bottom = most_different(table, 5)
    assert top[0] == 7
    assert bottom[0] == 9
    assert table["fdr"][[7, 9]].max() < 0.05
    assert ((table["low"] <= table["difference"]) & (table["difference"] <= table["high"])).mean() > 0.95
    assert table["low"][7] > 0 > table["high"][9]
    assert table.loc[~varies | (table["prevalence"] < 0.1), "p"].isna().all()


def test_a_mark_of_few_patches_is_first_by_its_effect() -> None:
    """A latent that is weak and nearly constant is moved a little; others are strong and vary from patient to patient."""
    rng = np.random.default_rng(0)
    first = np.arange(40) < 20
    barcodes = rng.gamma(2, 10, (40, 200))
    barcodes[:, 5] = rng.normal(1, 0.05, 40) + 0.2 * first
    barcodes[:, 6] = 0
    barcodes[0, 6] = 1  # one patient alone, not tested
    table = compare(barcodes, first, draws=20, permutations=200)
    by_effect, _ = most_different(table, 10, "effect")
    assert by_effect[0] == 5
    assert 6 not in by_effect
    assert 5 not in most_different(table, 10)[0]
    assert (np.diff(table["effect"].to_numpy()[by_effect]) <= 0).all()


def test_p_is_uniform_and_few_are_discovered_where_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    table = compare(rng.gamma(1, 2, (24, 2000)), np.arange(24) < 12, draws=20, permutations=500)
    assert abs(table["p"].mean() - 0.5) < 0.03
    assert abs((table["p"] < 0.05).mean() - 0.05) < 0.02
    assert (table["fdr"] < 0.1).sum() <= 2


def test_a_difference_between_laboratories_is_not_taken_for_one_between_groups() -> None:
    rng = np.random.default_rng(0)
    laboratory = np.arange(60) % 2
    first = rng.random(60) < np.where(laboratory == 0, 0.8, 0.2)
    barcodes = rng.normal(10, 1, (60, 40))
    barcodes[laboratory == 0, :20] += 3  # told by the laboratory
    barcodes[first, 30] += 3  # told by the group
    plain = compare(barcodes, first, draws=100, permutations=1000)
    adjusted = compare(barcodes, first, make_strata(pd.Series(laboratory), 60), draws=100, permutations=1000)
    assert (plain["fdr"][:20] < 0.05).mean() > 0.9
    assert (adjusted["fdr"][:20] < 0.05).mean() < 0.15
    assert adjusted["fdr"][30] < 0.05
    assert adjusted["auroc"][:20].mean() == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match="no stratum"):
        compare(barcodes, first, first.astype(int))


def test_numbers_are_cut_and_missing_is_a_stratum() -> None:
    ages = make_strata(pd.Series([20, 30, 40, 50, 60, 70, 80, 81, 82]), 9)
    np.testing.assert_array_equal(np.bincount(ages), [3, 3, 3])
    np.testing.assert_array_equal(make_strata(pd.Series(["a", None, "a", None]), 4), [0, 1, 0, 1])


def test_a_patient_in_two_data_sets_is_one() -> None:
    rng = np.random.default_rng(0)
    once, first = rng.gamma(1, 2, (20, 300)).astype(np.float32), np.arange(20) < 10
    people = np.tile(np.arange(20), 2)
    expected = compare(once, first, draws=50, permutations=200)
    found = compare(np.tile(once, (2, 1)), np.tile(first, 2), patients=people, draws=50, permutations=200)
    pd.testing.assert_frame_equal(found, expected)
    doubled = compare(np.tile(once, (2, 1)), np.tile(first, 2), draws=50, permutations=200)
    assert (doubled["p"] < 0.05).mean() > 2 * (found["p"] < 0.05).mean()
    apart = compare(once, first, patients=np.r_[0, 0, np.arange(2, 20)], draws=50, permutations=200)
    np.testing.assert_allclose(apart["first"], np.r_[once[:2].mean(axis=0)[None], once[2:10]].mean(axis=0), rtol=1e-5)


def test_an_infinite_number_is_in_the_outermost_stratum() -> None:
    numbers = np.arange(30.0)
    plain = make_strata(numbers, 30)
    numbers[29] = np.inf
    assert make_strata(numbers, 30).tolist() == plain.tolist()
