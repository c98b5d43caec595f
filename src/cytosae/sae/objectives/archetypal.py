r"""Decoder directions mixed from tokens, the archetypes (Fel et al., "Archetypal SAE", 2025).

.. math::
    D = A C + \Lambda, \qquad A \ge 0, \; A \mathbf 1 = \mathbf 1, \; \lVert\Lambda_s\rVert \le \delta

C are tokens, seen from the start of `b_dec`; A says how each direction is mixed from them; Lambda is the small freedom of
the relaxed form. The paper takes centres of k-means for C, here it is a draw of tokens; it projects A back after every
step, here it is a softmax. Directions have unit norm as everywhere here, so D is brought to that.

Encoder and loss are those of TopK. Only the directions differ, so once training is over they are all that is kept: the
autoencoder that is saved is one of TopK.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cytosae.sae.objectives.base import Dictionary, Objective, squared_error
from cytosae.sae.objectives.topk import TopK
from cytosae.settings import TrainConfig

_OWN = 0.9
"""Share of one archetype in a direction at the start."""


class ArchetypalDictionary(Dictionary):
    """Directions as mixtures of archetypes.

    Parameters
    ----------
    n_latents, n_archetypes, d_model
        Directions, tokens that they are mixed from, and width.
    relaxation
        delta, as a share of the mean norm of the archetypes; with 0 there is no Lambda.
    generator
        Of the draws at the start. Until `start_from` the archetypes are random directions.
    """

    def __init__(
        self, n_latents: int, n_archetypes: int, d_model: int, relaxation: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.delta = relaxation
        self.register_buffer("archetypes", torch.randn(n_archetypes, d_model, generator=generator))
        logits = torch.randn(n_latents, n_archetypes, generator=generator)
        own = torch.randint(n_archetypes, (n_latents, 1), generator=generator)
        self.logits = nn.Parameter(logits.scatter(1, own, math.log(max(1, n_archetypes - 1) * _OWN / (1 - _OWN))))
        self.shift = nn.Parameter(torch.zeros(n_latents, d_model)) if relaxation else None

    @torch.no_grad()
    def start_from(self, x: Tensor, centre: Tensor, generator: torch.Generator) -> None:
        """Draw the archetypes from tokens ``(n_tokens, d_model)``, of which there may be fewer than archetypes."""
        order = torch.randperm(len(x), generator=generator).repeat(-(-len(self.archetypes) // len(x)))
        self.archetypes.copy_(x[order[: len(self.archetypes)]].to(self.archetypes.device) - centre)

    def directions(self) -> Tensor:
        """D with rows of unit norm, ``(n_latents, d_model)``."""
        mixed = torch.softmax(self.logits, dim=1) @ self.archetypes
        return nn.functional.normalize(mixed if self.shift is None else mixed + self.shift, dim=1)

    def take_gradient(self, w_dec: nn.Parameter) -> None:
        """See `Dictionary.take_gradient`."""
        self.directions().backward(w_dec.grad)
        w_dec.grad = None

    @torch.no_grad()
    def give_directions(self, w_dec: nn.Parameter) -> None:
        """Bring Lambda back into its bounds, and write the directions where the autoencoder has them."""
        if self.shift is not None:
            most = self.delta * self.archetypes.norm(dim=1).mean()
            norms = self.shift.norm(dim=1, keepdim=True)
            self.shift.mul_((most / norms.clamp_min(1e-12)).clamp_max(1))
        w_dec.copy_(self.directions())


def _dictionary(config: TrainConfig, n_latents: int, d_model: int, generator: torch.Generator) -> ArchetypalDictionary:
    return ArchetypalDictionary(n_latents, config.archetypes, d_model, config.relaxation, generator)


OBJECTIVE = Objective(squared_error, TopK, set_by="k", further=("archetypes", "relaxation"), dictionary=_dictionary)
