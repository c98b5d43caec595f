"""Laboratories of a table, and the variance that is theirs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cytosae.errors import CytosaeError
from cytosae.harmonise import inseparable, laboratories, single_class, variance_share


def test_laboratories_of_a_column() -> None:
    table = pd.DataFrame({"site": ["b", None, "a", "b"], "dataset": "x"})
    own = laboratories(table, "site")
    assert own.names == ("a", "b")
    assert own.codes.tolist() == [1, -1, 0, 1]
    assert own.sizes.tolist() == [1, 2]
    assert own.few(2) == ["site a: 1 rows, fewer than 2; they stay as they are"]
    with pytest.raises(CytosaeError, match="--laboratory place: no such column; there are site, dataset"):
        laboratories(table, "place")
    with pytest.raises(CytosaeError, match="two laboratories are needed, and all rows are of 'x'"):
        laboratories(table, "dataset")
    with pytest.raises(CytosaeError, match="it is empty"):
        laboratories(pd.DataFrame({"site": [None, None]}), "site")
    assert laboratories(table, "dataset", several=False).names == ("x",)


def test_diagnosis_and_laboratory_that_cannot_be_told_apart() -> None:
    codes, classes = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1])
    assert inseparable(codes, classes)
    assert not inseparable(codes, np.array([0, 1, 1, 1, 1]))
    assert not inseparable(codes, np.zeros(5, int))
    assert single_class(codes, np.array([0, 1, 1, 1, -1]), ("a", "b", "c")) == ["b"]


def test_share_of_the_variance_is_the_planted_one_and_none_by_chance() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, 400)
    effect = rng.normal(size=(4, 30))
    effect -= effect.mean(axis=0)
    noise = rng.normal(size=(400, 30))
    planted = (effect[groups] ** 2).sum() / ((effect[groups] ** 2).sum() + 400 * 30)
    share = variance_share(noise + effect[groups], groups)
    assert abs(share.value - planted) < 0.03
    assert share.low < planted < share.high
    assert share.p < 0.01
    assert share.null < 0.02
    none = [variance_share(rng.normal(size=(60, 30)), rng.integers(0, 4, 60), permutations=39) for _ in range(20)]
    assert abs(np.mean([one.value for one in none])) < 0.005
    assert np.mean([one.p <= 0.05 for one in none]) <= 0.2


def test_cells_of_a_patient_are_permuted_together() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(12), 50)
    groups = (np.arange(12) % 2)[patients]
    values = rng.normal(size=(12, 5))[patients] + 0.1 * rng.normal(size=(600, 5))  # patients differ, groups do not
    assert variance_share(values, groups, patients).p > 0.05
    assert variance_share(values, groups).p < 0.01


def test_no_share_without_two_groups() -> None:
    values = np.random.default_rng(0).normal(size=(10, 3))
    for groups in (np.zeros(10, int), np.arange(10), np.full(10, -1)):
        assert np.isnan(variance_share(values, groups).value)
    assert np.isnan(variance_share(np.ones((10, 3)), np.arange(10) % 2).value)
