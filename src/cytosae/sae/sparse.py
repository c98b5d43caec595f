"""The step of `cytosae.sae.loss` along the active latents alone: the fast path on a CPU.

Only the product of the encoder has full width (`cytosae.sae.active_latents`); everything after it, forwards and backwards,
follows the active latents. A gradient of the weights is never held whole either: `update` forms it row by row and lets Adam
have it at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.sae import kernels
from cytosae.sae.active_latents import (
    LATENT_CHUNK,
    ROWS,
    TOKEN_CHUNK,
    Active,
    active_in_training,
    by_latent,
    largest,
)
from cytosae.sae.dead_latents import Chunks, Dead, Extra, auxk_pull, ghost, nearest, ranges
from cytosae.sae.loss import BatchFigures, Loss, dictionary_sizes
from cytosae.sae.model import SAE
from cytosae.sae.threads import each, thread_ranges

_HAS_AMX = any(torch.cpu.get_capabilities().get(flag) for flag in ("amx_tile", "amx_bf16", "amx"))
DENSE_ABOVE = 0.03 if _HAS_AMX else 0.12
"""Share of active latents above which whole matrix products are faster: soon where a processor has a unit for them."""

Array = NDArray[Any]


def as_rows(weights: Tensor) -> Array:
    """Weights ``(n_latents, ...)`` as numpy sees them; the same memory.

    Raises
    ------
    ValueError
        Not float32 on a CPU, or not with one row of memory per latent, as `SAE` has them (the encoder's transposed).
    """
    array = weights.detach().numpy()
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        raise ValueError("the sparse step works on float32 weights with one row of memory per latent")
    return array


def decode(sae: SAE, h: Active, matryoshka_levels: int = 1) -> Tensor:
    """Reconstructed tokens by every Matryoshka level, ``(n_levels, n_tokens, d_model)``."""
    outputs = sae.sharding.latents.once(sae.b_dec.detach()).expand(matryoshka_levels, h.n_tokens, -1).contiguous()
    w_dec, ends = as_rows(sae.W_dec), np.array(dictionary_sizes(sae, matryoshka_levels))
    arguments = (h.starts, h.tokens, h.values, w_dec, ends)
    each(
        kernels.decode,
        ((*arguments, first, last, outputs.numpy()) for first, last in thread_ranges(h.n_tokens, TOKEN_CHUNK // 2)),
    )
    return sae.sharding.latents.sum(outputs)


@dataclass(frozen=True)
class Pass:
    """What the way forwards leaves for the way back."""

    h: Active
    centred: Tensor
    """``x - b_dec``, ``(n_tokens, d_model)``."""
    pulls: Tensor
    """Derivative of the loss by the output of each dictionary and all larger ones, ``(n_levels, n_tokens, d_model)``."""
    ends: NDArray[np.int64]
    """Sizes of the dictionaries."""
    l1: np.float32
    """Derivative of the loss by one activation, beside what comes through the outputs."""
    extra: Extra | None
    figures: BatchFigures


def forward(sae: SAE, x: Tensor, loss: Loss, dtype: str = "float32", latents: NDArray[np.int64] | None = None) -> Pass:
    """The loss of a batch, and how it depends on the outputs; see `cytosae.sae.loss.backward`."""
    if sae.activation.slope is None:
        raise ValueError(f"the loss of {sae.activation.name} depends on latents that are not active")
    n, centred = len(x), x - sae.b_dec.detach()
    h = active_in_training(sae, centred, dtype, latents)
    limit = None
    if (most := sae.activation.max_active_per_batch(n)) is not None:
        limit = float(h.values.min()) if len(h) >= most > 0 else 0.0
    l1 = loss.l1 * sae.activation.slope
    outputs = decode(sae, h, loss.matryoshka_levels)
    reconstruction, pulls = torch.zeros(()), torch.empty_like(outputs)
    for first, last in ranges(n, TOKEN_CHUNK):  # larger arrays would come from the system anew in every step
        some = outputs[:, first:last].clone().requires_grad_()
        error = torch.stack([loss.error(x[first:last], output).sum() for output in some]).mean()
        (pulls[:, first:last],) = torch.autograd.grad(error / n, some)
        reconstruction += error.detach()
    pulls = pulls.flip(0).cumsum(0).flip(0) if len(pulls) > 1 else pulls
    output = outputs[-1]
    extra, dead_term, weighted = None, 0.0, 0.0
    if (dead := loss.select_dead(sae)) is not None:
        with torch.no_grad():
            extra = _dead_latent_gradients(sae, centred, x, output, dead, loss, reconstruction, dtype)
        dead_term, weighted = extra.term / n, extra.weight * extra.term / n
    own_sums = torch.tensor([h.values.sum(dtype=np.float64), len(h)], dtype=torch.float64)
    l1_norm, l0 = (sae.sharding.latents.sum(own_sums) / n).tolist()
    reconstruction_value = reconstruction.item() / n
    figures = BatchFigures(
        reconstruction_value + l1 * l1_norm + weighted,
        reconstruction_value,
        l1_norm,
        dead_term,
        float((output - x).square().sum()) / (n * sae.d_model),
        l0,
        torch.from_numpy(h.fired()),
        limit,
    )
    ends = np.array(dictionary_sizes(sae, loss.matryoshka_levels))
    return Pass(h, centred, pulls, ends, np.float32(l1 / n), extra, figures)


def _dead_latent_gradients(
    sae: SAE, centred: Tensor, x: Tensor, output: Tensor, dead: Tensor, loss: Loss, reconstruction: Tensor,
    dtype: str,
) -> Extra:  # fmt: skip
    """Gradients of the dead latents' term; see `cytosae.sae.dead_latents`."""
    latents = Dead.from_sae(sae, dead, dtype)
    if loss.dead_latent_loss == "ghost":
        chunks = Chunks(TOKEN_CHUNK // 4, LATENT_CHUNK, each)
        return ghost(latents, centred, x - output, loss.error, reconstruction, chunks)
    indices, values = nearest(latents, centred, Chunks(ROWS, LATENT_CHUNK, each), largest)
    h, n = by_latent(indices, values, len(dead)), len(indices)
    w_dec, added, ends = as_rows(sae.W_dec[dead]), torch.zeros_like(output)[None], np.array([len(dead)])
    entries = h.starts, h.tokens, h.values, w_dec
    each(kernels.decode, ((*entries, ends, first, last, added.numpy()) for first, last in thread_ranges(n)))
    term, weight, pull = auxk_pull(x, output, added[0], loss.error)
    extra = Extra.zeros(len(dead), sae.d_model, term, weight)
    others = (*entries, pull[None].numpy(), ends, centred.numpy(), np.float32(0))
    outputs = extra.enc.numpy(), extra.dec.numpy(), extra.bias.numpy()
    each(kernels.gradients, ((low, high, *others, *outputs) for low, high in ranges(len(dead), LATENT_CHUNK)))
    return extra


def backward(sae: SAE, x: Tensor, loss: Loss, dtype: str = "float32") -> BatchFigures:
    """Add the gradients of a batch's loss to ``.grad`` of the parameters; see `cytosae.sae.loss.backward`.

    Parameters
    ----------
    dtype
        Of the encoder's product, and of those of the dead latents' term: ``float32`` or ``bfloat16``.
    """
    done = forward(sae, x, loss, dtype)
    for parameter in sae.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    g_enc, g_dec = grad_buffer(sae.W_enc).T, grad_buffer(sae.W_dec)
    g_bias = torch.zeros_like(sae.b_enc)
    h = done.h
    entries = h.starts, h.tokens, h.values, as_rows(sae.W_dec)
    arguments = *entries, done.pulls.numpy(), done.ends, done.centred.numpy(), done.l1
    outputs = as_rows(g_enc), g_dec.numpy(), g_bias.numpy()
    each(kernels.gradients, ((low, high, *arguments, *outputs) for low, high in ranges(sae.n_latents, LATENT_CHUNK)))
    g_centre = g_bias.clone()
    if done.extra is not None and (dead := loss.dead) is not None:
        done.extra.add_to(g_enc, g_dec, g_bias, g_centre, dead)
    grad_buffer(sae.b_enc).add_(g_bias)
    pull = sae.sharding.latents.once(done.pulls[0].sum(0))
    grad_buffer(sae.b_dec).add_(pull - sae.W_enc.detach() @ g_centre)
    return done.figures


def grad_buffer(parameter: Tensor) -> Tensor:
    """Its ``.grad``, which has to be there."""
    assert parameter.grad is not None
    return parameter.grad


@dataclass(frozen=True)
class Adam:
    """Where a step of Adam stands, and how long it is for each latent."""

    state: Mapping[Tensor, Mapping[str, Tensor]]
    """Moments of every parameter, ``exp_avg`` and ``exp_avg_sq``, as `torch.optim.Adam` keeps them; changed in place."""
    number: int
    """Of the step, from 1."""
    rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8


@torch.no_grad()
def update(
    sae: SAE, done: Pass, adam: Adam, dead: Tensor | None, latents: NDArray[np.int64], lengths: NDArray[np.int64]
) -> None:
    """One step of Adam on the loss of `forward`, with the decoder's rows kept at unit norm.

    Parameters
    ----------
    dead
        Latents of ``done.extra``.
    latents
        Those that take part, ascending, ``(n_chosen,)``.
    lengths
        For how many steps each of them takes this one, ``(n_chosen,)``: as if the gradient had been the same in all.
    """
    h, (beta1, beta2) = done.h, adam.betas
    moments = [[adam.state[p][name] for name in ("exp_avg", "exp_avg_sq")] for p in (sae.W_enc, sae.b_enc, sae.W_dec)]
    moments[0] = [moment.T for moment in moments[0]]
    rate = adam.rate / (1 - beta1**adam.number)
    root, epsilon = np.float32((1 - beta2**adam.number) ** -0.5), np.float32(adam.epsilon)
    rates = (rate * lengths).astype(np.float32)
    betas1, betas2 = (np.power(beta, lengths).astype(np.float32) for beta in (beta1, beta2))
    positions = np.full(sae.n_latents, -1, np.int64)
    extra = done.extra or Extra.zeros(0, sae.d_model)
    if dead is not None and done.extra is not None:
        positions[dead.numpy()] = np.arange(len(dead))
    g_bias = np.zeros(sae.n_latents, np.float32)
    cuts = ranges(len(latents), LATENT_CHUNK)
    to_b_dec = np.zeros((len(cuts), sae.d_model), np.float32)
    weights = [as_rows(p) for p in (sae.W_enc.T, sae.b_enc, sae.W_dec)]
    all_moments = [as_rows(moment) for pair in moments for moment in pair]

    def update_rows(number: int, first: int, last: int) -> None:
        chosen = latents[first:last]
        kernels.update(
            chosen, h.starts, h.tokens, h.values, *weights, done.pulls.numpy(), done.ends, done.centred.numpy(),
            done.l1, positions[chosen], extra.enc.numpy(), extra.dec.numpy(), extra.bias.numpy(),
            np.float32(extra.moves_centre), *all_moments,
            rates[first:last], betas1[first:last], betas2[first:last], root, epsilon, g_bias, to_b_dec[number],
        )  # fmt: skip

    each(update_rows, ((number, *one) for number, one in enumerate(cuts)))
    group = sae.sharding.latents
    gradient = group.sum(group.once(done.pulls[0].sum(0)) - torch.from_numpy(to_b_dec.sum(0))).numpy()
    one = np.float32(rate), np.float32(beta1), np.float32(beta2), root, epsilon
    bias_moments = [as_rows(adam.state[sae.b_dec][name]) for name in ("exp_avg", "exp_avg_sq")]
    kernels.adam(as_rows(sae.b_dec), gradient, *bias_moments, *one)
