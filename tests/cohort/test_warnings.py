"""Warnings: leaks are reported, innocent columns are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cytosae.cohort import association, cohort_warnings, make_barcodes, read_barcodes, variance_between
from cytosae.settings import BarcodeConfig
from cytosae.tokens import TokenStore
from support.cohorts import cohort, encoded, people


def test_leaking_columns_are_reported_and_innocent_ones_are_not() -> None:
    diagnosis = cohort().obs["diagnosis"]
    assert cohort_warnings(cohort(), "diagnosis") == []
    width = np.where(diagnosis == "healthy", "360", "400")
    warnings = cohort_warnings(cohort(image_width=pd.Categorical(width)), "diagnosis")
    assert [(f.kind, f.figures["column"]) for f in warnings] == [("leak", "image_width")]
    scanner = np.where(diagnosis == "APL", "new", "old")
    warnings = cohort_warnings(
        cohort(scanner=pd.Categorical(scanner), sex=pd.Categorical(["m", "f", "f", "m"] * 15)), "diagnosis"
    )
    assert [(f.kind, f.figures["column"]) for f in warnings] == [("confounder", "scanner")]
    age = np.where(diagnosis == "healthy", 30, 60) + np.arange(60) % 7
    assert [f.figures["column"] for f in cohort_warnings(cohort(age=age), "diagnosis")] == ["age"]
    several = cohort(conflicting_diagnoses=pd.Categorical([*["AML | APL"], *[None] * 59]))
    assert [f.kind for f in cohort_warnings(several, "diagnosis")] == ["conflict"]
    twins = cohort(patient=pd.Categorical(["P0", "P0", *[f"P{i}" for i in range(2, 60)]]))
    assert "different people" in cohort_warnings(twins, "diagnosis")[0].text


def test_what_was_not_looked_for_is_said(make_store: Callable[..., TokenStore], tmp_path: Path, capsys: Any) -> None:
    concepts = encoded(make_store, "a", **people())
    figures = make_barcodes([concepts], tmp_path / "b.h5ad", BarcodeConfig(duplicates=False))
    assert figures["shared_cells"] is None
    assert "not looked for" in capsys.readouterr().err
    (warning,) = [
        one for one in cohort_warnings(read_barcodes(tmp_path / "b.h5ad"), "diagnosis") if one.kind == "not checked"
    ]
    assert "not looked for" in warning.text
    assert make_barcodes([concepts], tmp_path / "c.h5ad")["shared_cells"] is not None
    assert not [
        one for one in cohort_warnings(read_barcodes(tmp_path / "c.h5ad"), "diagnosis") if one.kind == "not checked"
    ]


def test_association_is_large_for_copies_and_nothing_for_noise() -> None:
    rng = np.random.default_rng(0)
    target = np.arange(90) % 3
    assert association(target, target)[0] == pytest.approx(1)
    v, p = association(rng.integers(0, 3, 90), target)
    assert v < 0.2
    assert p > 0.05
    assert association(np.zeros(90), target) == (0.0, 1.0)
    ps = [association(rng.integers(0, 4, 40), rng.integers(0, 3, 40), draws=200, seed=s)[1] for s in range(60)]
    assert 0.3 < np.mean(ps) < 0.7  # under no association p is uniform


def test_many_columns_do_not_hide_one_that_predicts_the_class() -> None:
    """The bar falls with the number of columns; the number of permutations follows it."""
    rng = np.random.default_rng(0)
    diagnosis = cohort().obs["diagnosis"]
    noise = {f"marker{i}": pd.Categorical(rng.choice(["low", "high"], 60)) for i in range(80)}
    scanner = pd.Categorical(np.where(diagnosis == "APL", "new", "old"))
    warnings = cohort_warnings(cohort(scanner=scanner, **noise), "diagnosis")
    assert [(f.kind, f.figures["column"]) for f in warnings if f.kind != "variance"] == [("confounder", "scanner")]


def test_columns_that_hold_more_variance_than_the_class_are_named() -> None:
    data = cohort()
    other = (np.arange(60) // 3) % 2  # tells nothing of the class
    data.obs["stain"] = pd.Categorical(np.where(other == 1, "pale", "dark"))
    data.obs["ward"] = pd.Categorical([f"W{i % 20}" for i in range(60)])  # many groups hold much by chance
    data.X[other == 1] *= 3
    (warning,) = cohort_warnings(data, "diagnosis")
    assert (warning.kind, warning.figures["column"]) == ("variance", "stain")
    assert "of the variance of the barcodes, diagnosis" in warning.text
    codes = data.obs["stain"].cat.codes.to_numpy()
    expected = 1 - (1 - variance_between(data.X, codes)) * 59 / 58
    assert warning.figures["variance"] == pytest.approx(expected, rel=1e-5)


def test_a_patient_in_two_data_sets_is_associated_once() -> None:
    rng = np.random.default_rng(0)
    ps = []
    for seed in range(80):
        column, target = np.tile(rng.integers(0, 2, 20), 2), np.tile(rng.integers(0, 2, 20), 2)
        ps.append(association(column, target, draws=200, seed=seed, patients=np.tile(np.arange(20), 2))[1])
    assert np.mean(np.array(ps) <= 0.1) < 0.2  # row by row it is about 0.3


def test_variance_between_groups_is_that_of_a_table_by_hand() -> None:
    barcodes = np.array([[0.0, 1], [2, 1], [10, 1], [12, 1], [50, 50]])
    between = variance_between(barcodes, np.array([0, 0, 1, 1, -1]))
    assert between == pytest.approx(100 / 104)  # within: 1 + 1 + 1 + 1, between: 4 x 5^2; unknown is left out
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(60, 500))
    assert variance_between(noise, np.arange(60) % 4) == pytest.approx(3 / 59, abs=0.01)
    assert np.isnan(variance_between(np.ones((4, 3)), np.array([0, 0, 1, 1])))
