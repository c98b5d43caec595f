"""The terms by which an autoencoder is asked not to mind the laboratory, on planted latents."""

from __future__ import annotations

import numpy as np
import torch
from benchmarks.agreement import agreement, level

from cytosae.sae import SAE


def identity(d: int) -> SAE:
    """Every latent is a dimension of the token where it is above zero."""
    sae = SAE(d, d)
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(d))
        sae.W_dec.copy_(torch.eye(d))
    return sae


def test_views_with_the_same_latents_agree_and_others_do_not() -> None:
    sae, rng = identity(6), torch.Generator().manual_seed(0)
    x = torch.rand(200, 6, generator=rng)
    same, none = torch.stack([x, x], dim=1), torch.stack([x, -x], dim=1)
    apart = torch.stack([torch.cat([x[:, :3], 0 * x[:, 3:]], 1), torch.cat([0 * x[:, :3], x[:, 3:]], 1)], dim=1)
    nothing = np.zeros(0, np.int64)
    assert float(agreement(same)(sae, x, nothing)) == 0
    for pairs in (none, apart):
        assert abs(float(agreement(pairs)(sae, x, nothing)) - 1) < 1e-6
    half = float(agreement(torch.stack([x, 0.5 * x], dim=1))(sae, x, nothing))
    assert abs(half - 0.25 / 1.25) < 1e-6


def test_agreement_moves_the_latents_towards_one_another() -> None:
    sae, rng = identity(4), torch.Generator().manual_seed(1)
    x = 1 + torch.rand(300, 4, generator=rng)
    pairs = torch.stack([x, x * torch.tensor([1.0, 1.0, 0.2, 3.0])], dim=1)
    term, optimiser = agreement(pairs), torch.optim.SGD(sae.parameters(), lr=0.05)
    before = float(term(sae, x, np.zeros(0, np.int64)))
    for _ in range(30):
        optimiser.zero_grad()
        term(sae, x, np.zeros(0, np.int64)).backward()
        optimiser.step()
    assert float(term(sae, x, np.zeros(0, np.int64))) < 0.7 * before


def test_the_share_of_a_laboratory_is_that_of_the_first_level() -> None:
    sae, rng = identity(4), torch.Generator().manual_seed(2)
    codes = np.repeat([0, 1, 2], 300)
    noise = torch.rand(900, 4, generator=rng)
    of_laboratory = torch.from_numpy(codes).float()[:, None].expand(-1, 2)
    told = torch.cat([of_laboratory + 1e-3 * noise[:, :2], noise[:, 2:]], dim=1)
    later = torch.cat([noise[:, :2], of_laboratory], dim=1)  # beyond the first level it may be told
    assert float(level()(sae, told, codes)) > 0.99
    assert float(level()(sae, later, codes)) < 0.05
