"""What an objective is: a reconstruction error, and an activation that turns pre-activations into latents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from cytosae.sae.sharding import Sharding
from cytosae.settings import TrainConfig

_TINY = 1e-6  # keeps the quotient finite where a norm is zero

ALL = slice(None)
"""Index of all latents."""


@dataclass(frozen=True)
class Latents:
    """The latents of some tokens in training, and what the loss asks of them beside the reconstruction."""

    h: Tensor
    """``(n_tokens, n_latents)``."""
    sparsity: Tensor
    """What lambda weighs, ``(n_tokens,)``."""
    auxiliary: Tensor | None = None
    """Further latents that have to reconstruct the tokens through the decoder as it is, ``(n_tokens, n_latents)``."""


class Activation(nn.Module, ABC):
    """How pre-activations become latents; a subclass is entered in `ACTIVATIONS`.

    Parameters
    ----------
    n_latents
        Latents for which it holds parameters of its own; 0 only says which activation it is (`sized`).
    """

    name: ClassVar[str]
    equation: ClassVar[str]
    """Of h, for people."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Arguments beside `n_latents`: settings of the training; they stand in ``config.json``."""
    slope: ClassVar[float | None] = None
    """Derivative of the sparsity by an active latent. None if the loss depends on latents that are zero too; otherwise the
    step along the active latents computes it."""
    is_relu: ClassVar[bool] = False
    """Whether h is ``ReLU(p)``, which is what the kernels of a GPU compute."""
    sharding = Sharding()
    """The shard of tokens and latents that this process holds."""

    def __init__(self, n_latents: int = 0) -> None:
        super().__init__()

    @property
    def max_active_per_token(self) -> int | None:
        """How many of a token's latents, its largest, can be active. None if each depends on its pre-activation alone."""
        return None

    @property
    def n_apart(self) -> int:
        """How many latents, the last ones, are ``ReLU(p)`` whatever the others are (`cytosae.sae.taught`)."""
        return 0

    def max_active_per_batch(self, n_tokens: int) -> int | None:
        """How many latents of a batch, its largest, can be active in training. None if the batch decides nothing."""
        return None

    def described(self) -> dict[str, Any]:
        """Name and settings, as JSON."""
        return {"kind": self.name, **{name: getattr(self, name) for name in self.settings}}

    def sized(self, n_latents: int) -> Self:
        """The same activation with parameters at their start for so many latents."""
        return type(self)(**{name: getattr(self, name) for name in self.settings}, n_latents=n_latents)

    def lowest(self) -> Tensor | None:
        """Pre-activation up to which each latent is zero, ``(n_latents,)``; None for 0."""
        return None

    @abstractmethod
    def forward(self, pre: Tensor, bias: Tensor, latents: Any = ALL) -> Tensor:
        """Latents after training.

        Parameters
        ----------
        pre
            Pre-activations; the last axis is that of `latents`.
        bias
            The part of them that is ``b_enc``.
        latents
            Which they are, as an index; has to be all where `max_active_per_token` is not None.
        """

    def limit(self, chunks: Iterable[Tensor], n_tokens: int) -> Tensor | None:
        """What the latents of a batch depend on beside their token; None for nothing.

        Parameters
        ----------
        chunks
            Pre-activations of the batch, each ``(n_some, n_latents)``.
        n_tokens
            Tokens of the batch.
        """
        return None

    @abstractmethod
    def in_training(self, pre: Tensor, bias: Tensor, limit: Tensor | None) -> Latents:
        """Latents in training.

        Parameters
        ----------
        pre
            Pre-activations of all latents, ``(n_tokens, n_latents)``.
        bias
            The part of them that is ``b_enc``, ``(n_latents,)``.
        limit
            Of their batch, see `limit`.
        """

    @torch.no_grad()
    def after_step(self, limit: float | None, step: int) -> None:
        """What is to be kept for inference of a batch's `limit`, after `step` steps."""


class Dictionary(nn.Module, ABC):
    """What the decoder directions are made of in training, where they are not learned as they are."""

    archetypes: Tensor
    """Tokens that the directions are mixed from, ``(n_archetypes, d_model)``."""

    @abstractmethod
    def start_from(self, x: Tensor, centre: Tensor, generator: torch.Generator) -> None:
        """Begin from tokens ``(n_tokens, d_model)``, seen from `centre`, ``(d_model,)``."""

    @abstractmethod
    def take_gradient(self, w_dec: nn.Parameter) -> None:
        """Pass the gradient of the directions on to what they are made of."""

    @abstractmethod
    def give_directions(self, w_dec: nn.Parameter) -> None:
        """Write the directions, of unit norm, where the autoencoder has them, ``(n_latents, d_model)``."""


@dataclass(frozen=True)
class Objective:
    """What ``--objective`` names."""

    error: Callable[[Tensor, Tensor], Tensor]
    """Reconstruction error, target and output to one value per token."""
    kind: type[Activation]
    """What becomes of pre-activations, and what counts as sparsity."""
    set_by: str = "l1"
    """The setting by which the number of active latents is chosen: ``l1``, or ``k``, which is that number."""
    further: tuple[str, ...] = ()
    """Settings of the training that it uses beside those of its activation and those of all objectives."""
    dictionary: Callable[[TrainConfig, int, int, torch.Generator], Dictionary] | None = None
    """What the decoder directions are made of, by settings, ``n_latents``, ``d_model`` and generator; None if learned."""

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings that it uses and others may not."""
        return self.kind.settings + self.further

    def activation(self, config: TrainConfig) -> Activation:
        """Its activation with these settings."""
        return self.kind(**{name: getattr(config, name) for name in self.kind.settings})


def relative_squared_error(target: Tensor, output: Tensor) -> Tensor:
    """Squared error divided by the target's L2 norm, averaged over dimensions (the authors' release).

    ``(n_tokens, d_model)`` twice to ``(n_tokens,)``.
    """
    return (output - target).square().mean(dim=-1) / (target.norm(dim=-1) + _TINY)


def squared_error(target: Tensor, output: Tensor) -> Tensor:
    """Squared error summed over dimensions (CytoSAE, Eq. 1); ``(n_tokens,)``."""
    return (output - target).square().sum(dim=-1)
