"""One step of a training."""

from __future__ import annotations

import torch
from torch import Tensor

from cytosae.sae import backends, sparse
from cytosae.sae.loss import BatchFigures
from cytosae.sae.state import TrainState
from cytosae.settings import TrainConfig


def step(state: TrainState, x: Tensor, config: TrainConfig, backend: backends.Backend | None = None) -> BatchFigures:
    """One optimiser step on the tokens of a batch, ``(n_tokens, d_model)``.

    Parameters
    ----------
    x
        The tokens of this process, if those of a batch are divided among several.
    backend
        Computes the step once few latents are active (`cytosae.sae.backends.choose`, for this step if None).

    Raises
    ------
    CytosaeError
        The loss is not finite; the weights are left as they were.
    """
    sharding = state.sae.sharding
    n_latents = state.sae.n_latents * sharding.latents.size
    is_sparse = state.l0 <= sparse.DENSE_ABOVE * n_latents
    compute = (backend or backends.choose(state, config)) if is_sparse else backends.dense
    figures = compute(state, x, config)
    state.sae.activation.after_step(figures.limit, state.step + 1)
    n_tokens = int(sharding.tokens.sum(torch.tensor(len(x), device=x.device)))
    state.since_fired.add_(n_tokens).masked_fill_(figures.fired, 0)
    if state.rested is not None:
        state.rested.masked_fill_(figures.fired, 0)
    state.l0 = figures.l0
    state.step += 1
    return figures
