"""The authors' release: ReLU, with the L1 norm against density (CytoSAE, section 2), and a relative squared error."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cytosae.sae.objectives.base import ALL, Activation, Latents, Objective, relative_squared_error


class ReLU(Activation):
    """``h = ReLU(p)``; lambda weighs the L1 norm of h."""

    name = "relu"
    equation = "h = ReLU(W_enc (x - b_dec) + b_enc)"
    slope = 1.0
    is_relu = True

    def forward(self, pre: Tensor, bias: Tensor, latents: Any = ALL) -> Tensor:
        """See `Activation.forward`."""
        return torch.relu(pre)

    def in_training(self, pre: Tensor, bias: Tensor, limit: Tensor | None) -> Latents:
        """See `Activation.in_training`."""
        h = torch.relu(pre)
        return Latents(h, h.sum(dim=-1))


OBJECTIVE = Objective(relative_squared_error, ReLU)
