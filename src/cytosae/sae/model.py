"""The sparse autoencoder, as the equations read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cytosae.sae.objectives import Activation, ReLU
from cytosae.sae.pretrained import Pretrained
from cytosae.sae.sharding import Sharding


class SAE(Pretrained, nn.Module):
    r"""Sparse autoencoder with one hidden layer (CytoSAE, section 2).

    .. math::
        h = \mathrm{ReLU}(W_{enc} (x - b_{dec}) + b_{enc}), \qquad \hat x = W_{dec} h + b_{dec}

    Parameters
    ----------
    d_model
        Width of a token.
    n_latents
        Number of latents: expansion factor times `d_model`.
    metadata
        What is known of its making; kept in ``config.json``.
    activation
        What takes the place of the ReLU (`cytosae.sae.objectives`), with parameters of its own; kept in ``config.json``.
        `encode` computes what it does after training.
    position_offset
        Where it takes tokens that are centred by position.

    Attributes
    ----------
    W_enc : ``(d_model, n_latents)``
    b_enc : ``(n_latents,)``
    W_dec : ``(n_latents, d_model)``, one direction of unit norm per latent
    b_dec : ``(d_model,)``
    position_offset : ``(n_tokens, d_model)`` or None
        Taken from the tokens of an image before they are encoded; see `centred`.
    """

    position_offset: Tensor | None

    def __init__(
        self,
        d_model: int,
        n_latents: int,
        metadata: Mapping[str, Any] | None = None,
        activation: Activation | None = None,
        position_offset: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.d_model, self.n_latents = d_model, n_latents
        self.metadata = dict(metadata or {})
        self.W_enc = nn.Parameter(torch.zeros(n_latents, d_model).T)  # in memory a row is a latent
        self.b_enc = nn.Parameter(torch.zeros(n_latents))
        self.W_dec = nn.Parameter(torch.zeros(n_latents, d_model))
        self.b_dec = nn.Parameter(torch.zeros(d_model))
        self.activation = (activation or ReLU()).sized(n_latents)
        self.register_buffer("position_offset", position_offset)

    @property
    def sharding(self) -> Sharding:
        """The shard of tokens and latents that this process holds; all of both unless several processes train."""
        return self.activation.sharding

    @sharding.setter
    def sharding(self, sharding: Sharding) -> None:
        self.activation.sharding = sharding

    def centred(self, tokens: Tensor) -> Tensor:
        """The tokens of images as it encodes them: float32, less the offset of each position where it has one.

        Parameters
        ----------
        tokens
            As the backbone gives them, ``(..., n_tokens, d_model)``.
        """
        tokens = tokens.float()
        return tokens if self.position_offset is None else tokens - self.position_offset

    def pre_activations(self, x: Tensor) -> Tensor:
        """``W_enc (x - b_dec) + b_enc``: ``(n_tokens, d_model)`` to ``(n_tokens, n_latents)``."""
        return (x - self.b_dec) @ self.W_enc + self.b_enc

    def encode(self, x: Tensor) -> Tensor:
        """Latent activations h: ``(n_tokens, d_model)`` to ``(n_tokens, n_latents)``."""
        return self.activation(self.pre_activations(x), self.b_enc)

    def encode_some(self, x: Tensor, latents: Tensor) -> Tensor:
        """Activations of some latents: ``(..., d_model)`` to ``(..., n_chosen)``; `latents` are indices ``(n_chosen,)``."""
        if self.activation.max_active_per_token is not None:
            return self.encode(x)[..., latents]
        pre = (x - self.b_dec) @ self.W_enc[:, latents] + self.b_enc[latents]
        return self.activation(pre, self.b_enc[latents], latents)

    def decode(self, h: Tensor) -> Tensor:
        """Reconstructed tokens: ``(n_tokens, n_latents)`` to ``(n_tokens, d_model)``."""
        return h @ self.W_dec + self.b_dec

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and latents."""
        h = self.encode(x)
        return self.decode(h), h

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights; biases stay zero.

        Both matrices are uniform, the rows of the decoder then of unit norm. The encoder's standard deviation is
        ``sqrt(2 / n_latents)``: with half of the latents firing, the first reconstruction then has about the norm
        of the token.
        """
        bound = (6 / self.n_latents) ** 0.5
        self.W_enc.uniform_(-bound, bound, generator=generator)
        self.W_dec.uniform_(-1, 1, generator=generator)
        self.normalise_decoder()

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Bring every direction back to unit norm."""
        self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True))

    @torch.no_grad()
    def remove_parallel_gradient(self) -> None:
        """Remove from the decoder's gradient what would only change the directions' norms."""
        gradient = self.W_dec.grad
        if gradient is not None:
            gradient -= (gradient * self.W_dec).sum(dim=1, keepdim=True) * self.W_dec
