"""Where patients stand in the report's correlation matrix and map."""

from __future__ import annotations

import numpy as np

from cytosae.cohort import barcode_correlation
from cytosae.report.barcodes import _alike_together, positions


def test_alike_patients_of_a_group_stand_beside_each_other() -> None:
    rng = np.random.default_rng(0)
    stains = rng.normal(size=(2, 200))
    stain = np.array([0, 1, 0, 1, 0, 1, 1, 0, 1, 0])
    correlation = barcode_correlation(stains[stain] + 0.2 * rng.normal(size=(10, 200)))
    order = _alike_together(correlation, np.array([0, 1] * 5))
    assert sorted(order) == list(range(10))
    assert (order[:5] % 2 == 0).all()  # groups first
    for part in (stain[order[:5]], stain[order[5:]]):
        assert (np.diff(part) != 0).sum() == 1  # then one block for each stain


def test_alike_patients_are_neighbours_in_the_map() -> None:
    rng = np.random.default_rng(0)
    group = np.arange(40) % 4
    barcodes = rng.normal(size=(4, 300))[group] + 0.7 * rng.normal(size=(40, 300))
    barcodes[39] = 1.0  # constant: no correlation with anybody
    placed = positions(barcode_correlation(barcodes))
    assert np.isfinite(placed).all()
    apart = np.linalg.norm(placed[:39, None] - placed[None, :39], axis=2) + 1e9 * np.eye(39)
    assert (group[apart.argmin(axis=1)] == group[:39]).all()
