"""One step of a training: gradients of a batch, and what the optimiser makes of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cytosae.backbones import choose_precision
from cytosae.errors import CytosaeError
from cytosae.sae import sparse
from cytosae.sae.activations import BatchTopK, ReLU
from cytosae.sae.archetypes import Archetypes
from cytosae.sae.checkpoint import MOMENTS, TrainState
from cytosae.sae.model import SAE
from cytosae.sae.objectives import OBJECTIVES, BatchFigures, backward
from cytosae.settings import TrainConfig


def new_state(config: TrainConfig, d_model: int, device: torch.device, parts: int = 1) -> TrainState:
    """Freshly drawn weights, optimiser and bookkeeping, with the latents of one of so many equal parts."""
    n_latents = config.expansion * d_model // parts
    sae = SAE(d_model, n_latents, activation=OBJECTIVES[config.objective].activation(config))
    generator = torch.Generator().manual_seed(config.seed)
    sae.initialise(generator)
    archetypes = None
    if config.objective == "archetypal":
        archetypes = Archetypes(sae.n_latents, config.archetypes, d_model, config.relaxation, generator).to(device)
    sae.to(device)
    learned = [*sae.parameters(), *(archetypes.parameters() if archetypes else ())]
    optimiser = torch.optim.Adam(learned, lr=config.learning_rate, fused=device.type in {"cpu", "cuda"})
    since_fired = torch.zeros(sae.n_latents, dtype=torch.int32, device=device)
    if archetypes:
        archetypes.give_directions(sae.W_dec)
    rested = torch.zeros_like(since_fired) if config.dead_every > 1 else None
    return TrainState(sae, optimiser, since_fired, rested, archetypes=archetypes)


def step(state: TrainState, x: Tensor, config: TrainConfig) -> BatchFigures:
    """One optimiser step on the tokens of a batch, ``(n_tokens, d_model)``.

    Where the tokens are divided among processes, `x` are those of this one.

    Raises
    ------
    CytosaeError
        The loss is not finite; the weights are left as they were.
    """
    sae, split = state.sae, state.sae.split
    along_active = state.l0 <= sparse.DENSE * sae.n_latents * split.latents.size and sae.activation.along_active
    # Which latents are active in a batch, or which of the dead come nearest, is agreed upon in the plain step alone.
    if split.tokens.size * split.latents.size > 1 and isinstance(sae.activation, BatchTopK):
        along_active = False
    if split.latents.size > 1 and config.dead_latent_loss == "auxk":
        along_active = False
    # The sparse step holds no gradient as a whole, which it has to be where that of other tokens is added.
    if along_active and state.archetypes is None and split.tokens.size == 1 and x.device.type == "cpu":
        figures = _sparse_step(state, x, config)
    else:
        figures = _plain_step(state, x, config, along_active)
    sae.activation.after_step(figures.limit, state.step + 1)
    state.since_fired.add_(1).masked_fill_(figures.fired, 0)
    if state.rested is not None:
        state.rested.masked_fill_(figures.fired, 0)
    state.l0 = figures.l0
    state.step += 1
    return figures


def _plain_step(state: TrainState, x: Tensor, config: TrainConfig, along_active: bool = False) -> BatchFigures:
    """The step as the equations read; `along_active` has the gradients follow the active latents alone, where they can."""
    dead = _to_revive(state, config)
    state.optimiser.zero_grad(set_to_none=True)
    loss = _loss(config, dead)
    if along_active and x.device.type == "cuda":
        figures = _gradients_on_gpu(state.sae, x, config.encoder, **loss)
    elif along_active and x.device.type == "cpu":
        figures = sparse.backward(state.sae, x, **loss, dtype=choose_precision(config.encoder, "cpu"))
    else:
        figures = backward(state.sae, x, **loss)
    figures = _of_all(state.sae, figures, len(x))
    _check_finite(figures, state)
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(state.step, config)
    if state.archetypes is not None:
        state.archetypes.take_gradient(state.sae.W_dec)
    state.sae.remove_parallel_gradient()
    state.optimiser.step()
    if state.archetypes is None:
        state.sae.normalise_decoder()
    else:
        state.archetypes.give_directions(state.sae.W_dec)
    state.optimiser.zero_grad(set_to_none=True)
    return figures


@torch.no_grad()
def _of_all(sae: SAE, figures: BatchFigures, n_tokens: int) -> BatchFigures:
    """Gradients and figures of the whole batch, from those of every part of it."""
    split = sae.split
    split.latents.sum_(sparse.gradient_of(sae.b_dec))
    if split.tokens.size == 1:
        return figures
    share = n_tokens / float(split.tokens.sum(torch.tensor(n_tokens)))
    for parameter in sae.parameters():
        if parameter.grad is not None:
            split.tokens.sum_(parameter.grad.mul_(share))
    names = ("loss", "reconstruction", "l1", "dead_latent_loss", "mse", "l0")
    here = torch.tensor([getattr(figures, name) for name in names], dtype=torch.float64)
    means = split.tokens.sum(share * here)
    fired = split.tokens.highest(figures.fired.int()) > 0
    return replace(figures, **dict(zip(names, means.tolist(), strict=True)), fired=fired)


def _loss(config: TrainConfig, dead: Tensor | None) -> dict[str, Any]:
    """Arguments of every way to compute the loss; `dead` are the latents to revive, if any."""
    return {
        "objective": config.objective,
        "l1": config.l1,
        "dead": dead,
        "matryoshka_levels": config.matryoshka_levels,
        "dead_latent_loss": config.dead_latent_loss,
    }


def _gradients_on_gpu(sae: SAE, x: Tensor, encoder: str, **loss: Any) -> BatchFigures:
    from cytosae.sae import gpu  # only here: it imports Triton

    if not gpu.available() or not isinstance(sae.activation, ReLU):
        return backward(sae, x, **loss)
    return gpu.backward(sae, x, **loss, dtype=choose_precision(encoder, "cuda"))


def _sparse_step(state: TrainState, x: Tensor, config: TrainConfig) -> BatchFigures:
    """The same along the active latents; the dead take part in one of `dead_every` steps, also for those they rested in."""
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
    with_loss = _to_revive(state, config) if visited else None
    dtype = choose_precision(config.encoder, "cpu")
    found = sparse.forward(sae, x, **_loss(config, with_loss), dtype=dtype, latents=None if visited else latents)
    _check_finite(found.figures, state)
    for parameter in sae.parameters():
        moments = state.optimiser.state[parameter]
        for name in MOMENTS:
            if name not in moments:
                moments[name] = torch.zeros_like(parameter)
        moments["step"] = torch.tensor(float(state.step + 1))
    adam = sparse.Adam(state.optimiser.state, state.step + 1, learning_rate(state.step, config))
    sparse.update(sae, found, adam, with_loss, latents, lengths)
    return found.figures


def _check_finite(figures: BatchFigures, state: TrainState) -> None:
    if not math.isfinite(figures.loss):
        raise CytosaeError(
            f"Training diverged: the loss is {figures.loss} at step {state.step + 1}. Lower --learning-rate or check "
            "the tokens."
        )


def dead_latents(state: TrainState, config: TrainConfig) -> Tensor:
    """Indices of the latents that fired on no token of the last `dead_after` batches."""
    return (state.since_fired >= config.dead_after).nonzero().squeeze(1)


def _to_revive(state: TrainState, config: TrainConfig) -> Tensor | None:
    """The dead latents if they are to be revived and there are any, here or in another part of the latents."""
    dead = dead_latents(state, config)
    anywhere = config.dead_latent_loss != "none" and state.sae.split.latents.sum(torch.tensor(len(dead)))
    return dead if anywhere else None


def learning_rate(done: int, config: TrainConfig) -> float:
    """Learning rate of the step after `done` steps: linear warm-up, then constant."""
    return config.learning_rate * min(1.0, (done + 1) / max(1, config.warmup_steps))
