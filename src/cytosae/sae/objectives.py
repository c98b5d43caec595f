"""What training minimises: reconstruction + lambda L1 (+ ghost term), per token.

To add an objective write its reconstruction error as a function of target and output that gives one value per
token, and enter it in `RECONSTRUCTION`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cytosae.sae.model import SAE

LOWEST = -40.0
"""Logarithm of the least activation in the ghost term, relative to a token's largest; exp of less is nothing beside it, but
so small that processors take a hundred times as long for it."""
_TINY = 1e-6  # keeps quotients finite where a norm or a loss is zero


def relative_squared_error(target: Tensor, output: Tensor) -> Tensor:
    """Squared error divided by the target's L2 norm, averaged over dimensions (the authors' release).

    ``(n_tokens, d_model)`` twice to ``(n_tokens,)``.
    """
    return (output - target).square().mean(dim=-1) / (target.norm(dim=-1) + _TINY)


def squared_error(target: Tensor, output: Tensor) -> Tensor:
    """Squared error summed over dimensions (CytoSAE, Eq. 1); ``(n_tokens,)``."""
    return (output - target).square().sum(dim=-1)


RECONSTRUCTION: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "release": relative_squared_error,
    "squared": squared_error,
}
"""Reconstruction error per token, by the name of the objective."""


@dataclass
class Terms:
    """The terms of the loss for some tokens, each ``(n_tokens,)``, and their latents ``(n_tokens, n_latents)``."""

    reconstruction: Tensor
    """Mean over the nested dictionaries."""
    l1: Tensor
    ghost: Tensor | None
    """Before its rescaling; None where no latent is dead."""
    output: Tensor
    latents: Tensor


def dictionary_sizes(n_latents: int, nested: int) -> list[int]:
    """Sizes of nested dictionaries, smallest first: all latents, the first half of them, half of these, ..."""
    return [max(1, n_latents >> level) for level in reversed(range(nested))]


def terms(sae: SAE, x: Tensor, objective: str, dead: Tensor | None, nested: int = 1) -> Terms:
    """Evaluate the terms of the loss.

    Parameters
    ----------
    sae
        The autoencoder.
    x
        Tokens, ``(n_tokens, d_model)``.
    objective
        A key of `RECONSTRUCTION`.
    dead
        Indices of the dead latents for the ghost term, ``(n_dead,)``; None or empty for none.
    nested
        Number of nested dictionaries, each of which has to reconstruct the token (Matryoshka SAE; Bussmann, Nabeshima,
        Karvonen and Nanda, 2025, with sizes that are fixed and L1 in place of BatchTopK); 1 is the plain autoencoder.
    """
    error = RECONSTRUCTION[objective]
    pre = sae.pre_activations(x)
    h = torch.relu(pre)
    output: Tensor = sae.b_dec
    errors, start = [], 0
    for end in dictionary_sizes(sae.n_latents, nested):
        output = output + h[:, start:end] @ sae.W_dec[start:end]
        errors.append(error(x, output))
        start = end
    ghost = None
    if dead is not None and len(dead):
        residual = (x - output).detach()
        ghost = error(residual, ghost_reconstruction(sae, pre, residual, dead))
    return Terms(torch.stack(errors).mean(dim=0), h.sum(dim=-1), ghost, output, h)


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
    """
    pre = pre[:, dead]
    # A constant factor per token cancels in the rescaling; this one keeps exp from overflowing.
    activations = torch.exp((pre - pre.detach().amax(dim=-1, keepdim=True)).clamp_min(LOWEST))
    output = activations @ sae.W_dec[dead]
    return output * ghost_scale(output, residual)


@torch.no_grad()
def ghost_scale(output: Tensor, residual: Tensor) -> Tensor:
    """The constant for each token that brings the dead latents' output to half the residual's norm, ``(n_tokens, 1)``."""
    return residual.norm(dim=-1, keepdim=True) / (2 * output.norm(dim=-1, keepdim=True) + _TINY)


def ghost_weight(reconstruction: Tensor, ghost: Tensor) -> Tensor:
    """The constant that makes a batch's ghost term equal to its reconstruction term, from their sums over its tokens."""
    return (reconstruction / (ghost + _TINY)).detach()


@dataclass(frozen=True)
class BatchFigures:
    """Figures of one batch, as means over its tokens."""

    loss: float
    reconstruction: float
    l1: float
    ghost: float
    """Value of the ghost term before it is rescaled to the reconstruction loss; 0 where no latent is dead."""
    mse: float
    l0: float
    fired: Tensor
    """Whether each latent fired on any token, ``(n_latents,)``."""


def backward(
    sae: SAE,
    x: Tensor,
    *,
    objective: str,
    l1: float,
    dead: Tensor | None = None,
    nested: int = 1,
    max_elements: int = 1 << 26,
) -> BatchFigures:
    """Add the gradients of a batch's loss to ``.grad`` of the parameters.

    The loss is the mean over the batch's tokens of reconstruction + `l1` times L1, plus the mean ghost term times
    the constant that makes it equal to the mean reconstruction term.

    Parameters
    ----------
    x
        Tokens of the batch, ``(n_tokens, d_model)``.
    objective, dead, nested
        See `terms`.
    l1
        lambda.
    max_elements
        Largest array tokens x latents to hold at once: the batch is worked through in pieces, with the same result.
    """
    pieces = x.split(max(1, max_elements // sae.n_latents))
    n_tokens = len(x)
    kappa: Tensor | None = None
    if dead is not None and len(dead) and len(pieces) > 1:
        # The ghost term's scale belongs to the whole batch, so it has to be known before the first piece's gradient.
        with torch.no_grad():
            kappa = _weight_of_parts([terms(sae, piece, objective, dead, nested) for piece in pieces])
    sums = torch.zeros(5, dtype=torch.float64)
    fired = torch.zeros(sae.n_latents, dtype=torch.bool, device=x.device)
    for piece in pieces:
        part = terms(sae, piece, objective, dead, nested)
        loss = (part.reconstruction + l1 * part.l1).sum() / n_tokens
        ghost = torch.zeros((), device=x.device)
        if part.ghost is not None:
            weight = kappa if kappa is not None else _weight_of_parts([part])
            ghost = part.ghost.sum()
            loss = loss + weight * ghost / n_tokens
        loss.backward()
        with torch.no_grad():
            active = part.latents > 0
            fired |= active.any(dim=0)
            square = (part.output - piece).square().sum() / sae.d_model
            sums += torch.stack([part.reconstruction.sum(), part.l1.sum(), ghost.detach(), square, active.sum()]).to(
                "cpu", torch.float64
            )
            has_ghost = part.ghost is not None
    reconstruction, l1_norm, ghost_mean, mse, l0 = (sums / n_tokens).tolist()
    total = reconstruction * (2 if has_ghost else 1) + l1 * l1_norm
    return BatchFigures(total, reconstruction, l1_norm, ghost_mean, mse, l0, fired)


@torch.no_grad()
def _weight_of_parts(parts: list[Terms]) -> Tensor:
    ghosts = [part.ghost.sum() for part in parts if part.ghost is not None]
    return ghost_weight(torch.stack([part.reconstruction.sum() for part in parts]).sum(), torch.stack(ghosts).sum())
