"""Latents that are zero up to a threshold, and their pre-activation above it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cytosae.sae.activations.base import Activation

if TYPE_CHECKING:
    from cytosae.sae.model import SAE


@dataclass(frozen=True)
class Threshold(Activation):
    """``h = p H(p - theta)`` with Heaviside's H and a positive threshold; the parameter is its logarithm."""

    equation = "h = p where p > exp(log_threshold), else 0, with p = W_enc (x - b_dec) + b_enc"

    def lowest(self, sae: SAE) -> Tensor | None:
        """See `Activation.lowest`."""
        return sae.log_threshold.detach().exp()

    def infer(self, sae: SAE, pre: Tensor, latents: Any = slice(None)) -> Tensor:
        """See `Activation.infer`."""
        return pre * (pre > sae.log_threshold[latents].exp())
