r"""Gated: whether a latent is active, and how much, are told apart.

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

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cytosae.sae.activations.base import Activation, Latents

if TYPE_CHECKING:
    from cytosae.sae.model import SAE


@dataclass(frozen=True)
class Gated(Activation):
    """``W_enc`` and ``b_enc`` are the gate's; ``r_mag`` and ``b_mag`` make the magnitude of them."""

    name = "gated"
    equation = "h = ReLU(exp(r_mag) W_enc (x - b_dec) + b_mag) where W_enc (x - b_dec) + b_enc > 0, else 0"

    def parameters(self, n_latents: int) -> dict[str, Tensor]:
        """``r_mag`` and ``b_mag``, zeros: at first the magnitude is the gate's pre-activation."""
        return {"r_mag": torch.zeros(n_latents), "b_mag": torch.zeros(n_latents)}

    def infer(self, sae: SAE, pre: Tensor, latents: Any = slice(None)) -> Tensor:
        """See `Activation.infer`."""
        magnitude = sae.r_mag[latents].exp() * (pre - sae.b_enc[latents]) + sae.b_mag[latents]
        return (pre > 0) * torch.relu(magnitude)

    def train(self, sae: SAE, pre: Tensor, limit: Tensor | None) -> Latents:
        """See `Activation.train`."""
        gate = torch.relu(pre)
        output = sae.split.latents.sum(gate @ sae.W_dec.detach()) + sae.b_dec.detach()
        return Latents(self.infer(sae, pre), gate.sum(dim=-1), output)
