"""Unusual concepts of a patient are found, flukes are not."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.cohort import selected, unusual


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
