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
