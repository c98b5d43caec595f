"""How much of the tokens an autoencoder keeps, and how: explained variance, L0, shrinkage, how often each latent fires."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights
from cytosae.sae import SAE
from cytosae.sae.active_latents import active
from cytosae.sae.sparse import decode

DENSE_ABOVE = 0.1
"""Share of tokens above which a latent is dense (Sun et al., 2025, take such latents apart; they are rarely concepts)."""


@dataclass(frozen=True)
class Reconstruction:
    """Sums of some cells, each ``(n_cells,)``, from which the figures and their intervals follow."""

    error: NDArray[np.float64]
    """``sum |x - xhat|^2`` over a cell's tokens."""
    spread: NDArray[np.float64]
    """``sum |x - mean|^2``, with the mean of all these tokens."""
    active: NDArray[np.float64]
    """Active latents of a token, mean over a cell's."""
    product: NDArray[np.float64]
    """``sum (xhat - b_dec) . (x - b_dec)``."""
    square: NDArray[np.float64]
    """``sum |xhat - b_dec|^2``."""
    frequency: NDArray[np.float64]
    """Share of tokens on which each latent fires, ``(n_latents,)``."""

    def estimates(
        self, draws: int = 200, seed: int = 0, codes: NDArray[np.integer] | None = None
    ) -> dict[str, Estimate]:
        """Explained variance (centred, pooled), L0, and relative reconstruction bias, with intervals over cells.

        The bias is ``sum |xhat|^2 / sum xhat . x`` about ``b_dec`` (Rajamanoharan et al., 2024): 1 is none, below 1 the
        L1 term has shrunk the activations.
        """
        units = np.arange(len(self.error)) if codes is None else codes
        weights = bootstrap_weights(units, draws, seed).astype(np.float64)
        one = np.ones((1, len(self.error)))

        def both(function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Estimate:
            return Estimate.from_draws(function(one)[0], function(weights))

        with np.errstate(invalid="ignore", divide="ignore"):  # where nothing fires, or all tokens are equal: NaN
            return {
                "explained variance": both(lambda w: 1 - (w @ self.error) / (w @ self.spread)),
                "L0": both(lambda w: (w @ self.active) / w.sum(axis=1)),
                "relative reconstruction bias": both(lambda w: (w @ self.square) / (w @ self.product)),
            }


@torch.no_grad()
def reconstruct(sae: SAE, batches: Iterable[Tensor], mean: Tensor, dtype: str = "float32") -> Reconstruction:
    """Sums of cells.

    Parameters
    ----------
    sae
        The autoencoder, on a CPU.
    batches
        Tokens, each ``(n_cells, n_tokens, d_model)``.
    mean
        Mean token of all of them, ``(d_model,)``.
    dtype
        Of the encoder's product (`cytosae.sae.active_latents.active`).
    """
    sums: list[Tensor] = []
    fired, n_tokens = np.zeros(sae.n_latents, np.int64), 0
    for batch in batches:
        x = batch.float().flatten(0, 1)
        h = active(sae, x, dtype)
        output = decode(sae, h)[-1]
        fired += np.diff(h.starts)
        n_tokens += len(x)
        centred, rebuilt = (x - sae.b_dec).double(), (output - sae.b_dec).double()
        per_token = torch.stack(
            [
                (x - output).double().square().sum(1),
                (x - mean).double().square().sum(1),
                torch.from_numpy(np.bincount(h.tokens, minlength=len(x))).double() / batch.shape[1],
                (centred * rebuilt).sum(1),
                rebuilt.square().sum(1),
            ]
        )
        sums.append(per_token.unflatten(1, batch.shape[:2]).sum(2))
    error, spread, number, product, square = torch.cat(sums, dim=1).numpy()
    return Reconstruction(error, spread, number, product, square, fired / max(1, n_tokens))
