"""Unusual concepts of a patient are found, flukes are not."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cytosae.cohort import CountSums, Representation, cell_scores, selected, transformed, transformed_error, unusual
from cytosae.settings.patients import BLOCK_TRANSFORMS


def test_unusual_concepts_are_found_and_flukes_are_not() -> None:
    rng = np.random.default_rng(0)
    n_cells, n_latents = 50, 300
    level = rng.gamma(1, 4, n_latents)

    def person(shift: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        own = np.maximum(level + rng.normal(0, 0.3, n_latents) * level + shift, 0)
        counts = rng.poisson(own, (n_cells, n_latents))
        return counts.mean(axis=0), counts.std(axis=0, ddof=1) / np.sqrt(n_cells)

    group, errors = (np.stack(part) for part in zip(*(person() for _ in range(12)), strict=True))
    found = [len(selected(unusual(*person(), group, errors), 300)) > 0 for _ in range(40)]
    assert np.mean(found) <= 0.2  # FDR 0.1
    shift = np.zeros(n_latents)
    shift[[3, 100, 250]] = 12 + 3 * level[[3, 100, 250]]
    table = unusual(*person(shift), group, errors)
    assert set(selected(table)) >= {3, 100, 250}
    assert (table["above"][[3, 100, 250]] == 0).all()
    # a concept that nobody in the group has, strong in one cell of the patient
    group[:, 5] = errors[:, 5] = 0
    counts = rng.poisson(level, (n_cells, n_latents))
    counts[:, 5] = 0
    counts[0, 5] = 80
    table = unusual(counts.mean(axis=0), counts.std(axis=0, ddof=1) / np.sqrt(n_cells), group, errors)
    assert table["patient"][5] > 1
    assert 5 not in selected(table)
    with pytest.raises(ValueError, match="2 patients"):
        unusual(table["patient"], table["scale"], group[:2], errors[:2])


@pytest.mark.parametrize(
    "kind", [Representation(f, t) for f in ("counts", "share", "top", "strongest") for t in BLOCK_TRANSFORMS]
)
def test_scores_of_cells_average_to_t_in_every_block(kind: Representation) -> None:
    rng = np.random.default_rng(0)
    counts = [sp.csr_matrix(rng.poisson(rng.gamma(1, 1, 15), (12, 15))) for _ in range(9)]
    sums = CountSums.empty(9, 15)
    sums.add(sp.csr_matrix(sp.vstack(counts)), np.repeat(np.arange(9), 12))
    data = ad.AnnData(sums.barcodes(), pd.DataFrame(index=[f"P{i}" for i in range(9)]), layers=sums.layers())
    (block,) = kind.blocks
    values, errors = (change(data, block, kind.transform) for change in (transformed, transformed_error))
    table = unusual(values[0], errors[0], values[1:], errors[1:])
    latents = [2, 7, 11]
    scores = cell_scores(counts[0], table, latents, kind)
    np.testing.assert_allclose(scores.mean(axis=0), table["t"][latents], atol=1e-5)


def test_the_error_of_a_transform_is_finite_and_for_small_errors_its_slope() -> None:
    errors = {"standard_error": np.array([[0.001, 0.5]], np.float32)}
    data = ad.AnnData(np.array([[4.0, 0.0]], np.float32), layers=errors)
    small, at_zero = transformed_error(data, "count", "sqrt")[0]
    assert small == pytest.approx(0.001 / (2 * np.sqrt(4)), rel=1e-2)
    assert at_zero == pytest.approx(np.sqrt(0.5) / 2, rel=1e-5)
    assert transformed_error(data, "count", "log1p")[0, 0] == pytest.approx(0.001 / 5, rel=1e-2)
    np.testing.assert_array_equal(transformed_error(data, "count", "none"), errors["standard_error"])
