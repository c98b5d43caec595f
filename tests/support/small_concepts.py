"""An autoencoder and tokens so small that every statistic can be computed once more."""

from __future__ import annotations

import torch

from cytosae.sae import SAE


def some_sae(d: int = 8, s: int = 24) -> SAE:
    sae = SAE(d, s)
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.b_enc[s // 2 :] = -2.0  # half of the latents are rare
        sae.b_enc[-1] = -1e3  # one never fires
    return sae


def some_tokens(cells: int = 40) -> torch.Tensor:
    return (2 * torch.randn(cells, 7, 8, generator=torch.Generator().manual_seed(1))).half().float()
