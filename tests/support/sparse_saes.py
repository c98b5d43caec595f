"""Autoencoders and tokens of which rounding decides nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from cytosae.sae import SAE
from cytosae.sae.loss import auxk_count


def two_saes(d: int, s: int, seed: int, density: float) -> tuple[SAE, SAE, torch.Generator]:
    """An autoencoder in float32 of which about `density` of the latents are active, and the same in float64."""
    generator = torch.Generator().manual_seed(seed)
    sae = SAE(d, s)
    with torch.no_grad():
        sae.W_enc.normal_(0, 0.5, generator=generator)
        sae.W_dec.normal_(generator=generator)
        sae.b_dec.normal_(generator=generator)
        shift = torch.special.ndtri(torch.tensor(density)).clamp(-6, 6) * 1.1 * d**0.5
        sae.b_enc.normal_(0, 0.3, generator=generator).add_(shift)
    sae.normalise_decoder()
    exact = SAE(d, s).double()
    exact.load_state_dict({name: value.double() for name, value in sae.state_dict().items()})
    return sae, exact, generator


def far_from_zero(exact: SAE, x: Tensor, margin: float) -> Tensor:
    """The tokens on which no latent is so near to zero that rounding could decide whether it is active."""
    with torch.no_grad():
        return x[(exact.pre_activations(x.double()).abs() > margin).all(1)]


def clear_choice(exact: SAE, x: Tensor, dead: Tensor, margin: float) -> Tensor:
    """The tokens on which rounding could not decide which dead latents are nearest to firing."""
    k = auxk_count(exact.d_model, len(dead))
    if k == len(dead):
        return x
    with torch.no_grad():
        nearest = exact.pre_activations(x.double())[:, dead].sort(dim=1, descending=True).values
    return x[nearest[:, k - 1] - nearest[:, k] > margin]
