"""Latents that are zero up to a threshold, and their pre-activation above it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cytosae.sae.objectives.base import ALL, Activation


class Threshold(Activation):
    """``h = p H(p - theta)`` with Heaviside's H and a positive threshold; the parameter is its logarithm."""

    log_threshold: nn.Parameter
    """``(n_latents,)``."""
    equation = "h = p where p > exp(log_threshold), else 0, with p = W_enc (x - b_dec) + b_enc"

    def lowest(self) -> Tensor | None:
        """See `Activation.lowest`."""
        return self.log_threshold.detach().exp()

    def forward(self, pre: Tensor, bias: Tensor, latents: Any = ALL) -> Tensor:
        """See `Activation.forward`."""
        return pre * (pre > self.log_threshold[latents].exp())
