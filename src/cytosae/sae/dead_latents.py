"""Gradients of the dead-latent losses, in chunks, on any device; the readable form is in `loss`.

Neither term needs an array tokens x latents: the ghost term is made in chunks of both, AuxK in chunks of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cytosae.sae.loss import LOWEST, auxk_bound, auxk_count, dead_latent_weight, ghost_scale
from cytosae.sae.model import SAE
from cytosae.sae.sharding import AxisGroup, Sharding

Error = Callable[[Tensor, Tensor], Tensor]
"""Reconstruction error, target and output to one value per token."""


@dataclass(frozen=True)
class Extra:
    """What a term adds to the gradients of the dead latents."""

    enc: Tensor
    """``(n_dead, d_model)``."""
    dec: Tensor
    """``(n_dead, d_model)``."""
    bias: Tensor
    """``(n_dead,)``."""
    term: float
    """Sum of the term over the tokens, before its weight."""
    weight: float
    """Its weight in the loss."""
    moves_centre: bool
    """Whether its gradient goes on to ``b_dec`` through ``x - b_dec``."""

    @classmethod
    def zeros(cls, n_dead: int, d_model: int, term: float = 0.0, weight: float = 0.0) -> Extra:
        """Nothing yet, of AuxK."""
        rows, bias = torch.zeros(2, n_dead, d_model), torch.zeros(n_dead)
        return cls(rows[0], rows[1], bias, term, weight, moves_centre=False)

    def add_to(self, enc: Tensor, dec: Tensor, bias: Tensor, centre: Tensor, dead: Tensor) -> None:
        """Add to the gradients of all latents; `centre` is that of the biases as far as it goes on to ``b_dec``."""
        enc[dead] += self.enc
        dec[dead] += self.dec
        bias[dead] += self.bias
        if self.moves_centre:
            centre[dead] += self.bias


@dataclass(frozen=True)
class Chunks:
    """Sizes of the chunks of work, and what runs them."""

    tokens: int
    latents: int
    each: Callable[[Callable[..., None], Iterable[tuple[Any, ...]]], object]
    """Calls a function with each tuple of arguments, in order or at the same time."""

    def token_ranges(self, n: int) -> list[tuple[int, int]]:
        """First and last of each chunk of n tokens."""
        return ranges(n, self.tokens)

    def latent_ranges(self, n: int) -> list[tuple[int, int]]:
        """First and last of each chunk of n latents."""
        return ranges(n, self.latents)


def ranges(n: int, size: int) -> list[tuple[int, int]]:
    """Ranges of at most `size` that make up n."""
    return [(i, min(i + size, n)) for i in range(0, n, size)]


@dataclass(frozen=True)
class Dead:
    """The dead latents' weights, those of products in the precision `kind`."""

    enc: Tensor
    dec: Tensor
    bias: Tensor
    kind: torch.dtype
    sharding: Sharding = Sharding()
    """Of the autoencoder."""

    @classmethod
    def from_sae(cls, sae: SAE, dead: Tensor, dtype: str) -> Dead:
        """Copies of the rows of an autoencoder."""
        kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        return cls(sae.W_enc.T[dead].to(kind), sae.W_dec[dead].to(kind), sae.b_enc[dead], kind, sae.sharding)

    def __len__(self) -> int:
        return len(self.bias)


@torch.no_grad()
def ghost(
    latents: Dead, centred: Tensor, residual: Tensor, error: Error, reconstruction: Tensor, chunks: Chunks
) -> Extra:
    """The ghost term (`loss.ghost_reconstruction`).

    Activations are made twice, once for the sum that they weigh and once for the gradients, with the maximum of each token
    carried along, as attention is computed in chunks (FlashAttention, Dao et al., 2022).

    Parameters
    ----------
    centred, residual
        ``x - b_dec`` and ``x - xhat``, ``(n_tokens, d_model)``.
    reconstruction
        Sum of the reconstruction error over the tokens.
    """
    n, kind, w_enc, w_dec, bias = len(centred), latents.kind, latents.enc, latents.dec, latents.bias
    x, (highest, total) = centred.to(kind), (centred.new_empty(n, 1), torch.empty_like(centred))

    def weigh(first: int, last: int) -> None:
        peak, summed = centred.new_full((last - first, 1), -torch.inf), centred.new_zeros(last - first, x.shape[1])
        for low, high in chunks.latent_ranges(len(latents)):
            pre = (x[first:last] @ w_enc[low:high].T).float().add_(bias[low:high])
            higher = torch.maximum(peak, pre.amax(1, keepdim=True))
            summed.mul_((peak - higher).exp_()).add_((_exp(pre, higher).to(kind) @ w_dec[low:high]).float())
            peak = higher
        highest[first:last], total[first:last] = peak, summed

    chunks.each(weigh, chunks.token_ranges(n))
    peak, group = highest, latents.sharding.latents
    highest = group.highest(peak)
    total = group.sum(total.mul_((peak - highest).exp_()))
    scale = ghost_scale(total, residual)
    with torch.enable_grad():
        output = (scale * total).requires_grad_()
        term = error(residual, output).sum()
        (pull,) = torch.autograd.grad(term, output)
    weight = dead_latent_weight("ghost", reconstruction, term, latents.sharding.tokens)
    pull = (pull * scale * (weight / n)).to(kind)
    enc, dec = (centred.new_zeros(len(latents), x.shape[1]) for _ in range(2))
    by_bias = torch.zeros_like(bias)

    def gradients(low: int, high: int) -> None:
        for first, last in chunks.token_ranges(n):
            pre = (x[first:last] @ w_enc[low:high].T).float().add_(bias[low:high])
            activations = _exp(pre, highest[first:last])
            dec[low:high].add_((activations.to(kind).T @ pull[first:last]).float())
            by_pre = activations.mul_((pull[first:last] @ w_dec[low:high].T).float())
            enc[low:high].add_((by_pre.to(kind).T @ x[first:last]).float())
            by_bias[low:high].add_(by_pre.sum(0))

    chunks.each(gradients, chunks.latent_ranges(len(latents)))
    return Extra(enc, dec, by_bias, float(term), float(weight), moves_centre=True)


def _exp(pre: Tensor, highest: Tensor) -> Tensor:
    """``exp(pre - highest)`` in place; what would be nothing beside 1 stays a number that processors are quick with."""
    return pre.sub_(highest).clamp_min_(LOWEST).exp_()


@torch.no_grad()
def nearest(
    latents: Dead, centred: Tensor, chunks: Chunks, largest: Callable[[Tensor, int], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """The dead latents that come nearest to firing on each token, and their activations (AuxK).

    Parameters
    ----------
    largest
        Gives the k largest values of each row, in any order, and their indices.

    Returns
    -------
    Places among the dead and activations, both ``(n_tokens, k)``.
    """
    k, x = auxk_count(centred.shape[1], len(latents)), centred.to(latents.kind)
    indices = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    values = centred.new_empty(len(x), k)

    def choose(first: int, last: int) -> None:
        pre = (x[first:last] @ latents.enc.T).float().add_(latents.bias)
        largest_values, indices[first:last] = largest(pre, k)
        values[first:last] = largest_values - largest_values.amin(1, keepdim=True).clamp_max(0)

    chunks.each(choose, chunks.token_ranges(len(x)))
    return indices, values


@torch.no_grad()
def auxk_pull(x: Tensor, output: Tensor, added: Tensor, error: Error) -> tuple[float, float, Tensor]:
    """AuxK's term, its weight and its weighted derivative by what the dead latents add.

    Parameters
    ----------
    x, output, added
        Tokens, their reconstruction, and what the dead latents add to it before `auxk_bound`, ``(n_tokens, d_model)``.
    """
    scale = auxk_bound(added, x - output)
    with torch.enable_grad():
        raised = (output + scale * added).requires_grad_()
        term = error(x, raised).sum()
        (pull,) = torch.autograd.grad(term, raised)
    weight = dead_latent_weight("auxk", term, term, AxisGroup())
    return float(term), float(weight), pull.mul_(scale * (weight / len(x)))
