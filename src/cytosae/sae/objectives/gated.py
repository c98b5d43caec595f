r"""Gated: one path decides whether a latent is active, another how much.

Rajamanoharan et al., "Improving dictionary learning with gated sparse autoencoders", 2024.

.. math::
    p = W_{enc} (x - b_{dec}) + b_{enc}, \qquad
    h = H(p) \, \mathrm{ReLU}(e^{r} W_{enc} (x - b_{dec}) + b_{mag})

The L1 norm falls on the gate, ``ReLU(p)``, alone, so that it does not shrink the activations. H has no derivative; what
teaches the gate is that ``ReLU(p)`` has to reconstruct the tokens too, through a decoder that is a constant there:

.. math::
    L = \lVert x - \hat x\rVert^2 + \lambda \lVert \mathrm{ReLU}(p)\rVert_1
        + \lVert x - (W_{dec} \mathrm{ReLU}(p) + b_{dec})_{frozen}\rVert^2
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cytosae.sae.objectives.base import ALL, Activation, Latents, Objective, squared_error


class Gated(Activation):
    """``W_enc`` and ``b_enc`` are the gate's; ``r_mag`` and ``b_mag`` make the magnitude of them."""

    name = "gated"
    equation = "h = ReLU(exp(r_mag) W_enc (x - b_dec) + b_mag) where W_enc (x - b_dec) + b_enc > 0, else 0"

    def __init__(self, n_latents: int = 0) -> None:
        super().__init__(n_latents)
        # At first the magnitude is the gate's pre-activation.
        self.r_mag = nn.Parameter(torch.zeros(n_latents))
        self.b_mag = nn.Parameter(torch.zeros(n_latents))

    def forward(self, pre: Tensor, bias: Tensor, latents: Any = ALL) -> Tensor:
        """See `Activation.forward`."""
        magnitude = self.r_mag[latents].exp() * (pre - bias) + self.b_mag[latents]
        return (pre > 0) * torch.relu(magnitude)

    def in_training(self, pre: Tensor, bias: Tensor, limit: Tensor | None) -> Latents:
        """See `Activation.in_training`."""
        gate = torch.relu(pre)
        return Latents(self(pre, bias), gate.sum(dim=-1), gate)


OBJECTIVE = Objective(squared_error, Gated)
