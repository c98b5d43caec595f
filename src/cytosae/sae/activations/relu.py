"""ReLU, with the L1 norm against density (CytoSAE, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cytosae.sae.activations.base import Activation, Latents

if TYPE_CHECKING:
    from cytosae.sae.model import SAE


@dataclass(frozen=True)
class ReLU(Activation):
    """``h = ReLU(p)``; lambda weighs the L1 norm of h."""

    name = "relu"
    equation = "h = ReLU(W_enc (x - b_dec) + b_enc)"
    along_active = True

    def infer(self, sae: SAE, pre: Tensor, latents: Any = slice(None)) -> Tensor:
        """See `Activation.infer`."""
        return torch.relu(pre)

    def train(self, sae: SAE, pre: Tensor, limit: Tensor | None) -> Latents:
        """See `Activation.train`."""
        h = torch.relu(pre)
        return Latents(h, h.sum(dim=-1))
