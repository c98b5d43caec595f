"""Ways to compute a step: as the equations read, along the active latents of a CPU, or with kernels on a GPU.

A training chooses one when it begins (`choose`). Each takes the same step within rounding; as long as many latents are
active, `plain` is the fastest and taken in any case.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cytosae.backbones import choose_precision
from cytosae.errors import CytosaeError
from cytosae.sae import loss, sparse
from cytosae.sae.loss import BatchFigures, Loss
from cytosae.sae.model import SAE
from cytosae.sae.state import MOMENTS, TrainState, dead_latents, learning_rate
from cytosae.settings import TrainConfig

Backend = Callable[[TrainState, Tensor, TrainConfig], BatchFigures]
"""Computes the gradients of a batch and lets the optimiser take its step."""
VARIABLE, CHOICES = "CYTOSAE_BACKEND", ("auto", "plain", "kernels")
"""The environment variable that chooses: ``auto`` is the active latents on a CPU and ``plain`` on a GPU."""


def choose(state: TrainState, config: TrainConfig) -> Backend:
    """The fastest backend that computes this objective on this device, within what ``CYTOSAE_BACKEND`` allows.

    Raises
    ------
    CytosaeError
        An unknown choice, or kernels where they cannot run.
    """
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted not in CHOICES:
        raise CytosaeError(f"{VARIABLE}={wanted}: unknown; choose one of {', '.join(CHOICES)}.")
    activation, sharding, device = state.sae.activation, state.sae.sharding, state.sae.b_dec.device.type
    several = sharding.tokens.size * sharding.latents.size > 1
    # Which latents of a batch are active, or which of the dead come nearest, the processes agree upon in `plain` alone.
    agreed_upon = (several and activation.max_active_per_batch(1) is not None) or (
        sharding.latents.size > 1 and config.dead_latent_loss == "auxk"
    )
    if wanted == "plain" or activation.slope is None or agreed_upon:
        return plain
    if wanted == "kernels":
        return kernels if _kernels_available(device) and activation.is_relu else plain
    if device != "cpu":
        return plain
    # `fused` holds no gradient as a whole, which `plain` adds up over processes, passes on to archetypes, or leaves out.
    simple = state.dictionary is None and config.frozen == "none"
    return fused if simple and sharding.tokens.size == 1 else active


def _kernels_available(device: str) -> bool:
    from cytosae.sae import gpu  # imports Triton

    if device != "cuda" or not gpu.available():
        raise CytosaeError(f"{VARIABLE}=kernels: needs a GPU and Triton; the training is on {device}. Leave it out.")
    return True


def plain(
    state: TrainState, x: Tensor, config: TrainConfig, backward: Callable[..., BatchFigures] | None = None
) -> BatchFigures:
    """The step as the equations read; `backward` computes the gradients, on a GPU with bfloat16 by autocast if None."""
    state.optimiser.zero_grad(set_to_none=True)
    if backward is None:
        on_cpu = x.device.type == "cpu"
        backward = partial(
            loss.backward, dtype="float32" if on_cpu else choose_precision(config.encoder, x.device.type)
        )
    figures = backward(state.sae, x, _loss(config, _in_dead_latent_loss(state, config)))
    figures = _reduce_shards(state.sae, figures, len(x))
    _check_finite(figures, state)
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(state.step, config)
    if state.dictionary is not None:
        state.dictionary.take_gradient(state.sae.W_dec)
    state.sae.remove_parallel_gradient()
    if config.frozen != "none":  # Adam leaves out what has no gradient
        (state.sae.W_dec if config.frozen == "decoder" else state.sae.W_enc).grad = None
    state.optimiser.step()
    if state.dictionary is None and config.frozen != "decoder":
        state.sae.normalise_decoder()
    elif state.dictionary is not None:
        state.dictionary.give_directions(state.sae.W_dec)
    state.optimiser.zero_grad(set_to_none=True)
    return figures


def dense(state: TrainState, x: Tensor, config: TrainConfig) -> BatchFigures:
    """`plain` for the first phase of a training, in which half of the latents fire and a step is nothing but products.

    Those of a ReLU are in bfloat16 where the processor has it. Another activation chooses among its pre-activations, of
    which many would be equal if they were rounded.
    """
    if x.device.type != "cpu" or not state.sae.activation.is_relu:
        return plain(state, x, config)
    return plain(state, x, config, partial(loss.backward, dtype=choose_precision(config.encoder, "cpu")))


def active(state: TrainState, x: Tensor, config: TrainConfig) -> BatchFigures:
    """`plain` with gradients along the active latents of a CPU."""
    dtype = choose_precision(config.encoder, "cpu")
    return plain(state, x, config, partial(sparse.backward, dtype=dtype))


def kernels(state: TrainState, x: Tensor, config: TrainConfig) -> BatchFigures:
    """`plain` with gradients along the active latents of a GPU."""
    from cytosae.sae import gpu  # imports Triton

    return plain(state, x, config, partial(gpu.backward, dtype=choose_precision(config.encoder, "cuda")))


def fused(state: TrainState, x: Tensor, config: TrainConfig) -> BatchFigures:
    """`active`, with each row of the gradients used at once; dead latents take part in one of `dead_every` steps."""
    sae, dead = state.sae, dead_latents(state, config)
    latents, lengths = np.arange(sae.n_latents), np.ones(sae.n_latents, np.int64)
    rested = state.rested
    visited = rested is None or state.step % config.dead_every == 0
    if rested is not None and visited:
        lengths += rested.numpy()
        rested.zero_()
    elif rested is not None:
        latents = np.delete(latents, dead.numpy())
        lengths = lengths[latents]
        rested[dead] += 1
    with_loss = _in_dead_latent_loss(state, config) if visited else None
    dtype = choose_precision(config.encoder, "cpu")
    forward = sparse.forward(sae, x, _loss(config, with_loss), dtype, latents=None if visited else latents)
    _check_finite(forward.figures, state)
    for parameter in sae.parameters():
        moments = state.optimiser.state[parameter]
        for name in MOMENTS:
            if name not in moments:
                moments[name] = torch.zeros_like(parameter)
        moments["step"] = torch.tensor(float(state.step + 1))
    adam = sparse.Adam(state.optimiser.state, state.step + 1, learning_rate(state.step, config))
    sparse.update(sae, forward, adam, with_loss, latents, lengths)
    return forward.figures


def _check_finite(figures: BatchFigures, state: TrainState) -> None:
    if not math.isfinite(figures.loss):
        raise CytosaeError(
            f"Training diverged: the loss is {figures.loss} at step {state.step + 1}. Lower --learning-rate or check "
            "the tokens."
        )


def _loss(config: TrainConfig, dead: Tensor | None) -> Loss:
    return Loss(config.objective, config.l1, dead, config.matryoshka_levels, config.dead_latent_loss)


def _in_dead_latent_loss(state: TrainState, config: TrainConfig) -> Tensor | None:
    """The dead latents of this shard; None if no shard has any, or there is no loss for them."""
    dead = dead_latents(state, config)
    anywhere = config.dead_latent_loss != "none" and state.sae.sharding.latents.sum(torch.tensor(len(dead)))
    return dead if anywhere else None


@torch.no_grad()
def _reduce_shards(sae: SAE, figures: BatchFigures, n_tokens: int) -> BatchFigures:
    """Gradients and figures of the whole batch, from those of its shards."""
    sharding = sae.sharding
    sharding.latents.sum_(sparse.grad_buffer(sae.b_dec))
    if sharding.tokens.size == 1:
        return figures
    weight = n_tokens / float(sharding.tokens.sum(torch.tensor(n_tokens)))
    for parameter in sae.parameters():
        if parameter.grad is not None:
            sharding.tokens.sum_(parameter.grad.mul_(weight))
    names = ("loss", "reconstruction", "l1", "dead_latent_loss", "mse", "l0")
    own = torch.tensor([getattr(figures, name) for name in names], dtype=torch.float64)
    means = sharding.tokens.sum(weight * own)
    fired = sharding.tokens.highest(figures.fired.int()) > 0
    return replace(figures, **dict(zip(names, means.tolist(), strict=True)), fired=fired)
