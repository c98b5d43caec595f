"""The order of patients in the report's map of correlations."""

from __future__ import annotations

import numpy as np

from cytosae.cohort import barcode_correlation
from cytosae.report.barcodes import _alike_together


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
