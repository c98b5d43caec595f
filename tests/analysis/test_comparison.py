"""Which block of the barcodes is compared, and of how many people."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from cytosae.analysis.comparison import compare_patients
from cytosae.errors import CytosaeError
from cytosae.settings import CompareConfig
from support.cohorts import cohort

QUICK = {"bootstrap": 20, "permutations": 50}


def test_another_block_and_a_transform_are_compared() -> None:
    data = cohort()
    found = compare_patients(data, "AML", "healthy", CompareConfig(features="top", transform="log1p", **QUICK)).table
    sick = (data.obs["diagnosis"] == "AML").to_numpy()
    np.testing.assert_allclose(found["first"], np.log1p(data.layers["top"][sick]).mean(axis=0), rtol=1e-5)
    plain = compare_patients(data, "AML", "healthy", CompareConfig(**QUICK)).table
    np.testing.assert_allclose(plain["first"], data.X[sick].mean(axis=0), rtol=1e-5)
    for side in ("first", "second"):  # the paper's form stands beside it
        np.testing.assert_allclose(found[f"count_{side}"], plain[side], rtol=1e-6)
    del data.layers["top"]
    with pytest.raises(CytosaeError, match="no block 'top'"):
        compare_patients(data, "AML", "healthy", CompareConfig(features="top", **QUICK))


def test_a_patient_in_two_data_sets_is_one() -> None:
    data = cohort()
    both = ad.concat([data, data], index_unique="-", keys=["a", "b"], uns_merge="first")
    once, twice = (compare_patients(one, "AML", "healthy", CompareConfig(**QUICK)).table for one in (data, both))
    np.testing.assert_array_equal(once["p"], twice["p"])
    np.testing.assert_array_equal(once[["low", "high"]], twice[["low", "high"]])


def test_latents_by_the_patients_who_reach_a_level() -> None:
    data = cohort()
    config = CompareConfig(features="strongest", order="reach", **QUICK)
    found = compare_patients(data, "AML", "healthy", config)
    table, (first, _) = found.table, found.favour
    assert table["reach_z"][first].is_monotonic_decreasing
    reached = data.layers["strongest"][data.obs["diagnosis"] == "AML"] >= table["reach_level"].to_numpy()
    np.testing.assert_allclose(table["reach_first"], reached.mean(axis=0), atol=1e-6)
    tested = table["reach_p"].notna()
    assert tested.any()
    assert (table["reach_p"][tested] > 0).all()
    assert "reach_z" not in compare_patients(data, "AML", "healthy", CompareConfig(**QUICK)).table


def test_a_mark_behind_the_mix_of_the_cells() -> None:
    rng = np.random.default_rng(0)
    data = cohort(n_latents=200)
    mix = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 200))  # of all patients, of no group
    sick = (data.obs["diagnosis"] == "AML").to_numpy()
    values = 10 + 3 * mix + rng.normal(size=(60, 200))
    values[sick, 50] += 2
    data.X = values.astype(np.float32)
    plain, found = (
        compare_patients(data, "AML", config=CompareConfig(order="effect", components=n, **QUICK)) for n in (0, 3)
    )
    assert plain.favour[0][0] != found.favour[0][0] == 50
    row = found.table.loc[50]
    assert row["difference"] == pytest.approx(2, abs=0.6)
    assert row["count_first"] == pytest.approx(values[sick, 50].mean(), rel=1e-5)
    assert found.table["prevalence"].equals(plain.table["prevalence"])
    assert np.mean(found.table["p"] <= 0.05) < 0.1


def test_permutations_stay_valid_after_components_are_taken_out() -> None:
    rng = np.random.default_rng(1)
    p = []
    for seed in range(8):
        data = cohort(n_latents=100)
        data.X = (10 + rng.normal(size=(60, 5)) @ rng.normal(size=(5, 100)) + rng.normal(size=(60, 100))).astype(
            np.float32
        )
        config = CompareConfig(components=5, bootstrap=20, permutations=200, seed=seed)
        p.append(compare_patients(data, "AML", "APL", config).table["p"])
    assert np.mean(np.concatenate(p) <= 0.05) == pytest.approx(0.05, abs=0.025)
