"""TopK: of each token the k largest (Gao et al., "Scaling and evaluating sparse autoencoders", 2024, section 2.3).

The number of active latents is set, so that no L1 norm has to hold it down, which would also shrink the activations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cytosae.sae.objectives.base import ALL, Activation, Latents, Objective, squared_error
from cytosae.sae.sharding import among_largest


class TopK(Activation):
    """``h = ReLU(TopK(p))``, in training and after it; nothing for lambda to weigh.

    Parameters
    ----------
    k
        Latents active on a token, at most.
    """

    name = "topk"
    equation = "h = ReLU(W_enc (x - b_dec) + b_enc) where it is one of the k largest of its token, else 0"
    settings = ("k",)
    slope = 0.0

    def __init__(self, k: int, n_latents: int = 0) -> None:
        super().__init__(n_latents)
        self.k = k

    @property
    def max_active_per_token(self) -> int:
        """See `Activation.max_active_per_token`."""
        return self.k

    def forward(self, pre: Tensor, bias: Tensor, latents: Any = ALL) -> Tensor:
        """See `Activation.forward`."""
        values, indices = pre.topk(min(self.k, pre.shape[-1]))
        is_largest, _ = among_largest(values, self.k, self.sharding.latents)
        return torch.zeros_like(pre).scatter(-1, indices, torch.relu(values) * is_largest)

    def in_training(self, pre: Tensor, bias: Tensor, limit: Tensor | None) -> Latents:
        """See `Activation.in_training`."""
        return Latents(self(pre, bias), pre.new_zeros(len(pre)))


OBJECTIVE = Objective(squared_error, TopK, set_by="k")
