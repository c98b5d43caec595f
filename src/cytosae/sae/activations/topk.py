"""TopK: of each token the k largest (Gao et al., "Scaling and evaluating sparse autoencoders", 2024, section 2.3).

The number of active latents is set, so that no L1 norm has to hold it down, which would also shrink the activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cytosae.sae.activations.base import Activation, Latents
from cytosae.sae.split import among_largest

if TYPE_CHECKING:
    from cytosae.sae.model import SAE


@dataclass(frozen=True)
class TopK(Activation):
    """``h = ReLU(TopK(p))``, in training and after it; nothing for lambda to weigh."""

    k: int
    """Latents active on a token, at most."""
    name = "topk"
    equation = "h = ReLU(W_enc (x - b_dec) + b_enc) where it is one of the k largest of its token, else 0"
    of_each = False
    along_active = True

    def infer(self, sae: SAE, pre: Tensor, latents: Any = slice(None)) -> Tensor:
        """See `Activation.infer`."""
        values, places = pre.topk(min(self.k, pre.shape[-1]))
        kept, _ = among_largest(values, self.k, sae.split.latents)
        return torch.zeros_like(pre).scatter(-1, places, torch.relu(values) * kept)

    def train(self, sae: SAE, pre: Tensor, limit: Tensor | None) -> Latents:
        """See `Activation.train`."""
        return Latents(self.infer(sae, pre), pre.new_zeros(len(pre)))
