"""What every activation has to say: how pre-activations become latents, in training and after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cytosae.sae.model import SAE


@dataclass(frozen=True)
class Latents:
    """The latents of some tokens in training, and what the loss asks of them beside the reconstruction."""

    h: Tensor
    """``(n_tokens, n_latents)``."""
    sparsity: Tensor
    """What lambda weighs, ``(n_tokens,)``."""
    auxiliary: Tensor | None = None
    """A further output that has to reconstruct the tokens, ``(n_tokens, d_model)``."""


@dataclass(frozen=True)
class Activation(ABC):
    """How pre-activations become latents. A subclass is entered in `ACTIVATIONS`; its fields stand in ``config.json``."""

    name: ClassVar[str]
    equation: ClassVar[str]
    """Of h, for people."""
    of_each: ClassVar[bool] = True
    """Whether a latent depends on its own pre-activation alone."""
    along_active: ClassVar[bool] = False
    """Whether the loss depends on the latents that are not zero alone, so that the step of `sparse` computes it."""

    def parameters(self, n_latents: int) -> dict[str, Tensor]:
        """Further parameters of the autoencoder at their start, by name, each ``(n_latents,)``."""
        return {}

    def lowest(self, sae: SAE) -> Tensor | None:
        """Pre-activation up to which each latent is zero, ``(n_latents,)``; None for 0."""
        return None

    @abstractmethod
    def infer(self, sae: SAE, pre: Tensor, latents: Any = slice(None)) -> Tensor:
        """Latents after training.

        Parameters
        ----------
        pre
            Pre-activations; the last axis is that of `latents`.
        latents
            Which they are, as an index; has to be all unless `of_each`.
        """

    def limit(self, sae: SAE, pieces: Iterable[Tensor]) -> Tensor | None:
        """What the latents of a batch depend on beside their token; None for nothing.

        Parameters
        ----------
        pieces
            The tokens of the batch, each ``(n_tokens, d_model)``.
        """
        return None

    @abstractmethod
    def train(self, sae: SAE, pre: Tensor, limit: Tensor | None) -> Latents:
        """Latents in training.

        Parameters
        ----------
        pre
            Pre-activations of all latents, ``(n_tokens, n_latents)``.
        limit
            Of their batch, see `limit`.
        """

    @torch.no_grad()  # noqa: B027 - most have nothing to keep
    def after_step(self, sae: SAE, limit: float | None, step: int) -> None:
        """What is to be kept for inference of a batch's `limit`, after `step` steps."""

    def described(self) -> dict[str, Any]:
        """Name and fields, as JSON."""
        return {"kind": self.name, **asdict(self)}
