"""The model of counts: statsmodels' figures, few false discoveries on permuted patients, exposure and strata."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.cohort import compare_rates

sm = pytest.importorskip("statsmodels.api")


def drawn(seed: int = 0, n: int = 40, latents: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of patients with very different numbers of cells, the rates of whom differ from one another."""
    rng = np.random.default_rng(seed)
    cells, first = rng.integers(8, 200, n), rng.permutation(np.arange(n) % 2 == 0)
    rate = rng.gamma(0.7, 1, latents) * rng.gamma(3, 1 / 3, (n, latents))
    return rng.poisson(rate * cells[:, None]).astype(float), cells, first


def test_the_figures_are_those_of_statsmodels() -> None:
    counts, cells, first = drawn()
    strata = np.arange(40) // 14
    table = compare_rates(counts, cells, first, strata, permutations=0)
    design = np.column_stack([*(strata == s for s in range(3)), first]).astype(float)
    for latent in range(0, 60, 7):
        model = sm.GLM(counts[:, latent], design, family=sm.families.Poisson(), exposure=cells)
        fitted = model.fit(cov_type="HC0")
        row = table.loc[latent]
        assert row["rate_ratio"] == pytest.approx(np.exp(fitted.params[-1]), rel=1e-5)
        low, high = np.exp(fitted.params[-1] + np.array([-1, 1]) * 2.028094 * np.sqrt(40 / 36) * fitted.bse[-1])
        assert [row["rate_low"], row["rate_high"]] == pytest.approx([low, high], rel=1e-4)


def test_few_discoveries_where_the_groups_are_permuted() -> None:
    counts, cells, _ = drawn(1, latents=1500)
    rejected, discovered = [], 0
    for seed in range(8):
        first = np.random.default_rng(seed).permutation(np.arange(40) % 2 == 0)
        table = compare_rates(counts, cells, first, permutations=500)
        rejected.append((table["rate_p"] < 0.05).mean())
        discovered += int((table["rate_fdr"] < 0.1).sum())
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.015)  # with one dispersion for all it is 0.08
    assert discovered <= 12  # of 12,000


def test_rates_that_differ_are_found_and_cells_are_no_difference() -> None:
    counts, cells, first = drawn(2)
    rng = np.random.default_rng(0)
    few = np.where(first, cells // 8 + 2, cells)  # the first group has fewer cells
    rates = np.full((40, 2), 0.5)
    rates[first, 1] = 2
    planted = rng.poisson(rates * few[:, None])
    table = compare_rates(np.hstack([planted, counts]), few, first)
    assert table["rate_p"][0] > 0.01
    assert table["rate_fdr"][1] < 0.01
    assert table["rate_ratio"][1] == pytest.approx(4, rel=0.2)
    assert table["rate_low"][1] < 4 < table["rate_high"][1]


def test_a_concept_of_one_group_alone_and_one_of_nobody() -> None:
    cells, first = np.full(20, 50), np.arange(20) < 10
    counts = np.zeros((20, 3))
    counts[:10, 0] = np.arange(5, 15)
    counts[0, 1] = 40
    table = compare_rates(counts, cells, first)
    assert table["rate_p"][0] < 1e-3
    assert table["rate_ratio"][0] > 1000
    assert table["rate_p"][1] > 0.05  # one patient
    assert table.loc[2].isna().all()
    assert compare_rates(counts, cells, first, tested=[False, True, True])["rate_p"].notna().tolist() == [
        False,
        True,
        False,
    ]


def test_laboratories_have_rates_of_their_own_and_a_patient_in_two_data_sets_is_one() -> None:
    rng = np.random.default_rng(3)
    laboratory = np.arange(60) % 2
    first = rng.random(60) < np.where(laboratory == 0, 0.8, 0.2)
    cells = np.full(60, 40)
    counts = rng.poisson(40 * np.where(laboratory == 0, 2.0, 0.3)[:, None] * rng.gamma(5, 0.2, (60, 40)))
    assert (compare_rates(counts, cells, first)["rate_p"] < 0.05).mean() > 0.9
    assert (compare_rates(counts, cells, first, laboratory)["rate_p"] < 0.05).mean() < 0.2
    once = compare_rates(counts, cells, first)
    doubled = compare_rates(
        np.tile(counts, (2, 1)), np.tile(cells, 2), np.tile(first, 2), patients=np.tile(np.arange(60), 2)
    )
    np.testing.assert_allclose(once["rate_ratio"], doubled["rate_ratio"], rtol=1e-5)
    np.testing.assert_allclose(once["rate_p"], doubled["rate_p"], atol=1e-5)
    with pytest.raises(ValueError, match="both groups"):
        compare_rates(counts, cells, first, first)
