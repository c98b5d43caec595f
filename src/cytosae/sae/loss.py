"""What training minimises, per token: reconstruction + lambda sparsity (+ the dead-latent loss), and its gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cytosae.sae.model import SAE
from cytosae.sae.objectives import RECONSTRUCTION
from cytosae.sae.sharding import AxisGroup, among_largest

LOWEST = -40.0
"""Logarithm of the least activation in the ghost term, relative to a token's largest; exp of less is nothing beside it, but
so small that processors take a hundred times as long for it."""
AUXK_WEIGHT = 1 / 32
"""Weight of AuxK's error beside the reconstruction error (Gao et al., 2024, appendix A.2)."""
_TINY = 1e-6  # keeps quotients finite where a norm or a loss is zero


@dataclass(frozen=True)
class Loss:
    """What is minimised on a batch."""

    objective: str
    """A key of `RECONSTRUCTION`."""
    l1: float
    """lambda."""
    dead: Tensor | None = None
    """Indices of the dead latents, ``(n_dead,)``; None or empty to leave them alone. Where the latents are sharded, those of
    this shard, and None only if no shard has any."""
    matryoshka_levels: int = 1
    """Number of Matryoshka levels, each of which has to reconstruct the token (Bussmann, Nabeshima,
    Karvonen and Nanda, 2025, with sizes that are fixed and L1 in place of BatchTopK); 1 is the plain autoencoder."""
    dead_latent_loss: str = "ghost"
    """What the dead latents have to do: ``ghost`` (`ghost_reconstruction`) or ``auxk`` (`auxk_reconstruction`)."""

    @property
    def error(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Reconstruction error per token."""
        return RECONSTRUCTION[self.objective]

    def select_dead(self, sae: SAE) -> Tensor | None:
        """The dead latents if there is a term for them; those that are meant may be in other shards."""
        present = self.dead is not None and (len(self.dead) > 0 or sae.sharding.latents.size > 1)
        return self.dead if present else None


@dataclass
class Terms:
    """The terms of the loss for some tokens, each ``(n_tokens,)``, and their latents ``(n_tokens, n_latents)``."""

    reconstruction: Tensor
    """Mean over the Matryoshka levels, with what the activation wants reconstructed beside."""
    sparsity: Tensor
    """What lambda weighs; the L1 norm of the latents for a ReLU."""
    dead_latent_loss: Tensor | None
    """The dead latents' term, before its weight; None where no latent is dead."""
    output: Tensor
    latents: Tensor


def dictionary_sizes(sae: SAE, matryoshka_levels: int) -> list[int]:
    """Sizes of the Matryoshka levels, smallest first: all latents, the first half of them, half of these, ...

    Of an autoencoder that holds a shard of the latents, how many of each dictionary are in it.
    """
    n, group = sae.n_latents, sae.sharding.latents
    sizes = [max(1, n * group.size >> level) for level in reversed(range(matryoshka_levels))]
    return [min(max(0, size - n * group.rank), n) for size in sizes]


def terms(
    sae: SAE,
    x: Tensor,
    loss: Loss,
    limit: Tensor | None = None,
) -> Terms:
    """Evaluate the terms of the loss.

    Parameters
    ----------
    sae
        The autoencoder.
    x
        Tokens, ``(n_tokens, d_model)``.
    limit
        Of the batch, where the activation has one (`Activation.limit`).

    Notes
    -----
    No example: needs a store of tokens, or a trained autoencoder; the README trains one.
    """
    error, dead = loss.error, loss.select_dead(sae)
    pre = sae.pre_activations(x)
    latents = sae.activation.in_training(pre, sae.b_enc, limit)
    h, group = latents.h, sae.sharding.latents
    own_output = group.once(sae.b_dec)
    errors, start = [], 0
    for end in dictionary_sizes(sae, loss.matryoshka_levels):
        own_output = own_output + h[:, start:end] @ sae.W_dec[start:end]
        output = group.sum(own_output)
        errors.append(error(x, output))
        start = end
    term = None
    if dead is not None:
        residual = (x - output).detach()
        if loss.dead_latent_loss == "ghost":
            term = error(residual, ghost_reconstruction(sae, pre, residual, dead))
        else:
            term = error(x, output.detach() + auxk_reconstruction(sae, pre, residual, dead))
    reconstruction = torch.stack(errors).mean(dim=0)
    if latents.auxiliary is not None:
        frozen = group.sum(latents.auxiliary @ sae.W_dec.detach()) + sae.b_dec.detach()
        reconstruction = reconstruction + error(x, frozen)
    return Terms(reconstruction, latents.sparsity, term, output, h)


def ghost_reconstruction(sae: SAE, pre: Tensor, residual: Tensor, dead: Tensor) -> Tensor:
    """What the dead latents alone make of the residual (ghost gradients; Anthropic, January 2024).

    ``exp(pre-activation)`` stands in for the ReLU; the output of each token is rescaled to half the norm of its
    residual, and that scale is a constant for the gradient.

    Parameters
    ----------
    pre
        Pre-activations of all latents, ``(n_tokens, n_latents)``.
    residual
        ``x - xhat``, a constant, ``(n_tokens, d_model)``.
    dead
        Indices of the dead latents, ``(n_dead,)``.

    Notes
    -----
    No example: needs a store of tokens, or a trained autoencoder; the README trains one.
    """
    pre, group = pre[:, dead], sae.sharding.latents
    # A constant factor per token cancels in the rescaling; this one keeps exp from overflowing.
    least = pre.detach().new_full((len(pre), 1), -torch.inf)  # of no dead latents
    highest = group.highest(torch.cat([least, pre.detach()], dim=1).amax(dim=1, keepdim=True))
    output = group.sum(torch.exp((pre - highest).clamp_min(LOWEST)) @ sae.W_dec[dead])
    return output * ghost_scale(output, residual)


@torch.no_grad()
def ghost_scale(output: Tensor, residual: Tensor) -> Tensor:
    """The constant for each token that brings the dead latents' output to half the residual's norm, ``(n_tokens, 1)``."""
    return residual.norm(dim=-1, keepdim=True) / (2 * output.norm(dim=-1, keepdim=True) + _TINY)


def auxk_reconstruction(sae: SAE, pre: Tensor, residual: Tensor, dead: Tensor) -> Tensor:
    """What the dead latents that come nearest to firing on a token make of its residual (AuxK; Gao et al., 2024).

    The k largest pre-activations stand as they are where they are above zero. Dead latents of a ReLU lie below, where
    they could say nothing; the threshold of the token is then lowered to the last of the k. Where the dead are few, that can
    be far below the others, and the output beyond all measure: it is brought to half the norm of the residual at most
    (`auxk_bound`). Both are constants for the gradient. `b_dec` is not added, as it is in the reconstruction already, and
    not moved, as all latents share it.

    Parameters
    ----------
    pre, residual, dead
        See `ghost_reconstruction`.
    """
    group = sae.sharding.latents
    # The same values, without a gradient for b_dec.
    pre = pre[:, dead] + (sae.b_dec - sae.b_dec.detach()) @ sae.W_enc.detach()[:, dead]
    k = auxk_count(sae.d_model, int(group.sum(torch.tensor(len(dead)))))
    values, indices = pre.topk(min(k, len(dead)))
    missing = values.detach().new_full((len(values), k - values.shape[1]), -torch.inf)  # parts are equally large
    is_largest, last = among_largest(torch.cat([values.detach(), missing], dim=1), k, group)
    values = torch.where(is_largest[:, : values.shape[1]], values - last.clamp_max(0), 0)
    output = group.sum(torch.zeros_like(pre).scatter(1, indices, values) @ sae.W_dec[dead])
    return output * auxk_bound(output, residual)


@torch.no_grad()
def auxk_bound(output: Tensor, residual: Tensor) -> Tensor:
    """The constant for each token that brings the output to half the residual's norm at most, ``(n_tokens, 1)``."""
    return ghost_scale(output, residual).clamp_max(1)


def auxk_count(d_model: int, n_dead: int) -> int:
    """k of AuxK: a power of two near half the width (Gao et al., 2024), or all dead latents where they are fewer."""
    return min(n_dead, 2 ** max(0, round(math.log2(d_model / 2))))


def dead_latent_weight(dead_latent_loss: str, reconstruction: Tensor, term: Tensor, tokens: AxisGroup) -> Tensor:
    """The constant that a batch's term of the dead latents is multiplied by, from sums over its tokens.

    It makes the ghost term equal to the reconstruction term; AuxK's is fixed. `tokens` are the processes among which those
    of the batch are divided.
    """
    if dead_latent_loss == "auxk":
        return torch.full_like(term, AUXK_WEIGHT).detach()
    reconstruction, term = tokens.sum(torch.stack([reconstruction, term]).detach())
    return reconstruction / (term + _TINY)


@dataclass(frozen=True)
class BatchFigures:
    """Figures of one batch, as means over its tokens."""

    loss: float
    reconstruction: float
    l1: float
    dead_latent_loss: float
    """Value of the dead latents' term before its weight; 0 where no latent is dead."""
    mse: float
    l0: float
    fired: Tensor
    """Whether each latent fired on any token, ``(n_latents,)``."""
    limit: float | None = None
    """Of the batch, where the activation has one (`Activation.limit`)."""


def backward(
    sae: SAE,
    x: Tensor,
    loss: Loss,
    max_elements: int | None = None,
    dtype: str = "float32",
) -> BatchFigures:
    """Add the gradients of a batch's loss to ``.grad`` of the parameters.

    The loss is the mean over the batch's tokens of reconstruction + lambda times sparsity (for a ReLU the L1 norm), plus the
    mean of the dead latents' term times its weight (`dead_latent_weight`).

    Parameters
    ----------
    x
        Tokens of the batch, ``(n_tokens, d_model)``.
    max_elements
        Largest array tokens x latents to hold at once: the batch is worked through in chunks, with the same result. If
        None, one that stays in cache where there is one thread; several have to be worth waking.
    dtype
        Of the products with the weights and of those that make their gradients, ``float32`` or ``bfloat16`` (by autocast);
        weights, errors and sums are float32 in any case.

    Notes
    -----
    No example: needs a store of tokens, or a trained autoencoder; the README trains one.
    """
    rounded = torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == "bfloat16")
    group = sae.sharding.latents
    if max_elements is None:
        # Processes that exchange shards of a chunk need equal chunks, whatever the threads of each.
        cached = x.device.type == "cpu" and (torch.get_num_threads() == 1 or group.size > 1)
        max_elements = 1 << 20 if cached else 1 << 26
    chunks = x.split(max(1, max_elements // sae.n_latents))
    n_tokens = len(x)
    with torch.no_grad(), rounded:
        limit = sae.activation.limit((sae.pre_activations(chunk) for chunk in chunks), n_tokens)
    weight: Tensor | None = None
    if loss.select_dead(sae) is not None and len(chunks) > 1 and loss.dead_latent_loss == "ghost":
        # The ghost term's weight belongs to the whole batch, so it has to be known before the first chunk's gradient.
        with torch.no_grad(), rounded:
            weight = _chunks_weight(loss, [terms(sae, chunk, loss, limit) for chunk in chunks], sae)
    sums = torch.zeros(6, dtype=torch.float64)
    fired = torch.zeros(sae.n_latents, dtype=torch.bool, device=x.device)
    for chunk in chunks:
        with rounded:
            own = terms(sae, chunk, loss, limit)
        total = (own.reconstruction + loss.l1 * own.sparsity).sum() / n_tokens
        dead_term = torch.zeros((), device=x.device)
        if own.dead_latent_loss is not None:
            weight = _chunks_weight(loss, [own], sae) if weight is None else weight
            dead_term = own.dead_latent_loss.sum()
            total = total + weight * dead_term / n_tokens
        total.backward()
        with torch.no_grad():
            active = own.latents > 0
            fired |= active.any(dim=0)
            square = (own.output - chunk).square().sum() / sae.d_model
            whole = own.reconstruction, dead_term, square, own.sparsity, active, own.latents
            sums += torch.stack([figure.sum() for figure in whole]).to("cpu", torch.float64)
    sums[3:] = group.sum(sums[3:])  # the others follow from the whole reconstruction
    reconstruction, dead_total, mse, sparsity, l0, l1_norm = (sums / n_tokens).tolist()
    value = reconstruction + loss.l1 * sparsity + (0 if weight is None else float(weight) * dead_total)
    return BatchFigures(
        value, reconstruction, l1_norm, dead_total, mse, l0, fired, None if limit is None else float(limit)
    )


@torch.no_grad()
def _chunks_weight(loss: Loss, evaluated: list[Terms], sae: SAE) -> Tensor:
    total = torch.stack([own.dead_latent_loss.sum() for own in evaluated if own.dead_latent_loss is not None]).sum()
    reconstruction = torch.stack([own.reconstruction.sum() for own in evaluated]).sum()
    return dead_latent_weight(loss.dead_latent_loss, reconstruction, total, sae.sharding.tokens)
