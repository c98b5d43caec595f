"""How much of a latent's variance is that of the place in the picture."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from cytosae.concepts.position import MOST_CELLS, position_share, position_shares
from cytosae.concepts.work_units import Encoder
from cytosae.sae import SAE
from support.planted import MakeStore


def test_position_share_of_places_cells_and_both() -> None:
    """A latent of a corner, of the cell wherever it lies, half of each, one that never varies; and by the formula."""
    rng = np.random.default_rng(0)
    n_cells, n_patches = 60, 64
    h = np.zeros((n_cells, n_patches, 5))
    h[:, :8, 0] = 1.0
    for cell in range(n_cells):
        h[cell, rng.permutation(n_patches)[:8], 1] = 1.0
    h[..., 2] = h[..., 0] + h[..., 1]
    h[..., 4] = rng.gamma(1, 1, (n_cells, n_patches)) * (0.2 + (np.arange(n_patches) < 20))
    shares, shuffled = position_share(sp.csc_matrix(cell) for cell in h)
    assert shares[0] == pytest.approx(1)
    assert shares[1] < 0.04
    assert 0.3 < shares[2] < 0.6
    assert np.isnan(shares[3])
    expected = h.mean(0).var(0) / np.where((total := h.reshape(-1, 5).var(0)) > 0, total, np.nan)
    np.testing.assert_allclose(shares, expected)
    assert np.nanmax(shuffled) < 0.04
    assert all(values.size == 0 for values in position_share([]))


def test_of_a_data_set_they_are_those_of_its_drawn_cells(make_store: MakeStore) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(MOST_CELLS + 44, 7, 8, generator=generator)
    store, sae = make_store(tokens), SAE(8, 24)
    sae.initialise(generator)
    rows = np.arange(20, MOST_CELLS + 44)
    found = position_shares(Encoder.from_sae(store, sae, "cpu"), rows, seed=3)
    drawn = np.sort(np.random.default_rng([3, 9]).permutation(rows)[:MOST_CELLS])
    with torch.no_grad():
        h = sae.encode(store.read(drawn).float().flatten(0, 1)).unflatten(0, (MOST_CELLS, 7))[:, 1:].numpy()
    h = h.astype(np.float64)
    expected = h.mean(0).var(0) / h.reshape(-1, 24).var(0)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
