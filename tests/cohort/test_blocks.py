"""The blocks of a barcode: against numpy on the cells themselves, errors against leaving out and drawing again."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from cytosae.cohort.blocks import LARGEST, TOP, CountSums


def summed(counts: np.ndarray, patients: np.ndarray | None = None, n_patients: int = 1) -> CountSums:
    sums = CountSums.empty(n_patients, counts.shape[1])
    sums.add(sp.csr_matrix(counts), np.zeros(len(counts), np.int64) if patients is None else patients)
    return sums


def top(counts: np.ndarray) -> np.ndarray:
    return np.sort(counts, axis=0)[::-1][:TOP].mean(axis=0)


@pytest.mark.parametrize("n", [2, 4, 5, 6, 7, 40])
def test_blocks_are_those_of_the_cells(n: int) -> None:
    rng = np.random.default_rng(n)
    counts = rng.poisson(rng.choice([0, 0, 3, 90], (n, 12)))
    counts[:, 0], counts[:, 1] = 0, 7
    sums = summed(counts)
    found = {name: values[0] for name, values in sums.layers().items()}
    np.testing.assert_allclose(sums.barcodes()[0], counts.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["share"], (counts > 0).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["top"], top(counts), rtol=1e-6)
    np.testing.assert_allclose(found["dispersion"], counts.std(axis=0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(found["standard_error"], counts.std(axis=0, ddof=1) / np.sqrt(n), rtol=1e-5)
    without = np.stack([top(np.delete(counts, i, axis=0)) for i in range(n)])  # the jackknife, plainly
    jackknife = np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(found["top_error"], jackknife, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["strongest"], counts.max(axis=0))
    left = np.stack([np.delete(counts, i, axis=0).max(axis=0) for i in range(n)])
    jackknife = np.sqrt((n - 1) / n * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(found["strongest_error"], jackknife, rtol=1e-5, atol=1e-6)
    assert (found["share_error"] > 0).all()
    assert found["dispersion_error"][0] == found["dispersion_error"][1] == 0


def test_one_cell_says_nothing_of_a_spread() -> None:
    found = summed(np.array([[0, 3]])).layers()
    for name in ("standard_error", "top_error", "strongest_error", "dispersion_error", "top", "strongest"):
        assert found[name].tolist() == [[0, 3]], name
    assert found["dispersion"].tolist() == [[0, 0]]
    assert all(np.isfinite(values).all() for values in CountSums.empty(2, 3).layers().values())


def test_errors_are_how_far_blocks_of_other_cells_lie_apart() -> None:
    rng = np.random.default_rng(0)
    shape = (2000, 80, 3)  # cohorts x cells x latents: few cells, many cells, all cells
    counts = (1 + rng.poisson(rng.gamma(2, 4, shape))) * (rng.random(shape) < [0.1, 0.6, 1])
    layers = summed(counts.reshape(-1, 3), np.repeat(np.arange(2000), 80), 2000).layers()
    for block in ("share", "top", "strongest", "dispersion"):
        error = f"{block}_error"
        spread, said = layers[block].std(axis=0), np.sqrt((layers[error].astype(float) ** 2).mean(axis=0))
        varies = spread > 0  # the share of a concept that all cells have does not vary, and its error is not 0
        np.testing.assert_allclose(said[varies], spread[varies], rtol=0.3, err_msg=block)
    assert 0 < layers["share_error"][:, 2].max() < 0.01


@given(st.integers(0, 10**6), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_cell_types_pool_to_the_patient(seed: int, types: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.choice([0, 1, 200], (30, 5)))
    whole, typed = summed(counts), summed(counts, rng.integers(0, types, 30), types)
    layers = {**typed.layers(), **typed.for_pooling()}
    again = CountSums.from_barcodes(typed.n_cells, typed.barcodes(), layers, typed.largest)
    for name in ("n_cells", "shown", "largest"):
        np.testing.assert_array_equal(getattr(again, name), getattr(typed, name))
        np.testing.assert_array_equal(getattr(again.pooled(), name), getattr(whole, name))
    np.testing.assert_array_equal(again.powers[0], typed.powers[0])
    np.testing.assert_allclose(again.powers, typed.powers, rtol=1e-5, atol=1)
    for name, values in whole.layers().items():
        np.testing.assert_allclose(again.pooled().layers()[name], values, rtol=1e-3, atol=1e-3, err_msg=name)


def test_the_largest_are_kept_in_order_and_whole() -> None:
    counts = np.arange(1, 300)[np.random.default_rng(0).permutation(299)][:, None]
    assert summed(counts).largest[0, 0].tolist() == list(range(299, 299 - LARGEST, -1))
    with pytest.raises(ValueError, match="65,535"):
        summed(np.array([[70_000]]))
