"""What every activation has to say: how pre-activations become latents, in training and after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from cytosae.sae.split import Split

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
    """Arguments beside `n_latents`; they stand in ``config.json``."""
    of_each: ClassVar[bool] = True
    """Whether a latent depends on its own pre-activation alone."""
    along_active: ClassVar[bool] = False
    """Whether the loss depends on the latents that are not zero alone, so that the step of `sparse` computes it."""
    split = Split()
    """Which part of tokens and latents is here."""

    def __init__(self, n_latents: int = 0) -> None:
        super().__init__()

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
            Which they are, as an index; has to be all unless `of_each`.
        """

    def limit(self, pieces: Iterable[Tensor], n_tokens: int) -> Tensor | None:
        """What the latents of a batch depend on beside their token; None for nothing.

        Parameters
        ----------
        pieces
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
