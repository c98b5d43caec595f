"""Near-duplicates by counts: planted groups, against plain correlations."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from cytosae.concepts import alike_leaders, count_correlations, spread_rows
from cytosae.concepts.alike import CELLS


def planted(n_cells: int = 400) -> np.ndarray:
    """Counts of six latents: three alike, one like the third alone, one by itself, and one that three cells show."""
    rng = np.random.default_rng(0)
    base, noise = rng.poisson(3, n_cells).astype(float), rng.poisson(3, (5, n_cells))
    second = 10 * base + 8 * noise[1]  # 0.96 with the first
    counts = np.stack([10 * base, second, 10 * base + 2 * noise[0], second + 11 * noise[2], noise[3], 0 * base], axis=1)
    counts[:3, 5] = base[:3]
    return counts


def test_correlations_are_those_of_plain_counts() -> None:
    counts = planted()
    found = count_correlations(sp.csc_matrix(counts), range(5))
    np.testing.assert_allclose(found[:, :5], np.corrcoef(counts[:, :5], rowvar=False), atol=1e-4)
    assert (found[:, 5] == 0).all()  # three cells are too few to say


def test_a_group_is_shown_by_its_most_interesting_member() -> None:
    counts = planted()
    plain = np.corrcoef(counts[:, :5], rowvar=False)
    assert plain[0, 2] > 0.9 > plain[0, 1] > 0.7
    counts = sp.csc_matrix(counts)
    everything = np.ones(6, bool)
    interest = np.array([0.5, 0.4, 0.9, 0.3, 0.2, 0.1])
    assert alike_leaders(counts, interest, everything).tolist() == [2, 1, 2, 3, 4, 5]
    interest[[0, 2]] = interest[[2, 0]]
    assert alike_leaders(counts, interest, everything).tolist() == [0, 1, 0, 3, 4, 5]
    # By a lower bar the second is taken too; the fourth, which is like the second alone, is not.
    lower = (plain[0, 1] + max(plain[0, 3], 0.5)) / 2
    assert plain[1, 3] > lower > plain[0, 3]
    assert alike_leaders(counts, interest, everything, lower).tolist() == [0, 0, 0, 3, 4, 5]
    concepts = everything.copy()
    concepts[0] = False  # what is no concept stands for itself
    assert alike_leaders(counts, interest, concepts).tolist() == [0, 1, 2, 3, 4, 5]


def test_cells_are_spread_over_a_large_data_set() -> None:
    assert spread_rows(7).tolist() == list(range(7))
    rows = spread_rows(171_373)
    assert len(rows) == CELLS
    assert rows[0] == 0
    assert rows[-1] == 171_372
    assert np.diff(rows).max() < 700
