"""Where training starts: biases, directions, what centring takes away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.sae.model import SAE
from cytosae.sae.state import TrainState
from cytosae.settings import TrainConfig
from cytosae.tokens import TokenSource, position_offset


def geometric_median(x: Tensor, *, max_iterations: int = 200, tolerance: float = 1e-7) -> Tensor:
    """The point with the least sum of Euclidean distances to the rows of `x` (Weiszfeld's iteration, 1937).

    Parameters
    ----------
    x
        ``(n, d)``.
    max_iterations
        Upper limit.
    tolerance
        Stops when the point moves by less than this share of the mean distance.

    Returns
    -------
    ``(d,)``, in the dtype of `x`; computed in float64.

    Examples
    --------
    >>> geometric_median(torch.tensor([[0.0, 0.0], [1.0, 1.0], [9.0, 9.0]])).round().tolist()
    [1.0, 1.0]
    """
    points = x.double()
    median = points.mean(dim=0)
    for _ in range(max_iterations):
        distance = (points - median).norm(dim=1)
        scale = distance.mean()
        # A point that coincides with the estimate would have infinite weight.
        weights = 1 / distance.clamp_min(1e-12 + 1e-10 * scale)
        moved = (points * weights[:, None]).sum(dim=0) / weights.sum()
        step = (moved - median).norm()
        median = moved
        if step <= tolerance * scale:
            break
    return median.to(x.dtype)


def initial_bias(x: Tensor, method: str) -> Tensor:
    """Start of ``b_dec`` from a sample of tokens ``(n, d_model)``: its geometric median, its mean, or zeros."""
    if method == "geometric-median":
        return geometric_median(x)
    if method == "mean":
        return x.double().mean(dim=0).to(x.dtype)
    return torch.zeros_like(x[0])


@torch.no_grad()
def start_from_tokens(sae: SAE, x: Tensor, seed: int) -> None:
    """Let every latent's direction be that of a random token from ``b_dec``, and its encoder a multiple of it.

    One multiple serves all latents: the one with which the first reconstruction comes nearest to the tokens (least squares).

    Parameters
    ----------
    sae
        Its ``b_dec`` has to be where it starts.
    x
        Sample of tokens, ``(n_tokens, d_model)``.
    seed
        Fixes the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    centred = x.to(sae.b_dec.device) - sae.b_dec
    centred = centred[centred.norm(dim=1) > 0]
    if not len(centred):
        return
    sae.W_dec.copy_(centred[torch.randint(len(centred), (sae.n_latents,), generator=generator).to(centred.device)])
    sae.normalise_decoder()
    tie_encoder(sae, centred, generator)


@torch.no_grad()
def tie_encoder(sae: SAE, centred: Tensor, generator: torch.Generator) -> None:
    """Let the encoder be the multiple of the directions with which a ReLU reconstructs the tokens best (least squares).

    Parameters
    ----------
    centred
        Tokens seen from ``b_dec``, ``(n_tokens, d_model)``.
    generator
        Draws the 1,024 of them that are looked at.
    """
    some = centred[torch.randperm(len(centred), generator=generator)[:1024].to(centred.device)]
    output = torch.relu(some @ sae.W_dec.T) @ sae.W_dec
    sae.W_enc.copy_(sae.W_dec.T * ((output * some).sum() / output.square().sum()))


@torch.no_grad()
def sparse_bias(sae: SAE, centred: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The encoder's bias with which each ReLU latent fires on a share of the tokens, ``(n_latents,)``.

    Parameters
    ----------
    centred
        Tokens seen from ``b_dec``, ``(n_tokens, d_model)``.
    share
        Of the tokens.
    generator
        Draws the 4,096 of them that are looked at.
    """
    some = centred[torch.randperm(len(centred), generator=generator)[:4096].to(centred.device)]
    rank = min(len(some), max(1, round(share * len(some))))
    chunks = sae.W_enc.T.split(1024)
    return torch.cat([-(chunk @ some.T).topk(rank, dim=1).values[:, -1] for chunk in chunks])


@torch.no_grad()
def initialise(state: TrainState, x: Tensor, config: TrainConfig) -> None:
    """Bias and directions of a training that begins, from a sample of tokens ``(n_tokens, d_model)``."""
    sae = state.sae
    sae.b_dec.copy_(initial_bias(x, config.b_dec_init))
    if state.dictionary is not None:
        generator = torch.Generator().manual_seed(config.weights_seed)
        state.dictionary.start_from(x, sae.b_dec, generator)
        state.dictionary.give_directions(sae.W_dec)
        tie_encoder(sae, x.to(sae.b_dec.device) - sae.b_dec, generator)
    elif config.directions_init == "tokens":
        start_from_tokens(sae, x, config.weights_seed)
    if config.start_l0:
        generator = torch.Generator().manual_seed(config.weights_seed)
        sae.b_enc.copy_(
            sparse_bias(sae, x.to(sae.b_dec.device) - sae.b_dec, config.start_l0 / sae.n_latents, generator)
        )


@dataclass(frozen=True)
class Start:
    """What a training starts from."""

    tokens: Tensor
    """Of a seeded draw of cells, ``(n_cells, n_tokens, d_model)``."""
    offset: Tensor | None
    """What centring takes from them, ``(n_tokens, d_model)``."""


def read_start(source: TokenSource, training: NDArray[np.int64], config: TrainConfig) -> Start:
    """What a training starts from, of the rows `training` of the source."""
    first = np.random.default_rng([config.seed, 3]).permutation(training)[: config.init_images]
    (sample,) = source.stream([np.sort(first)])
    return Start(sample, position_offset(source, training, config.seed) if config.centring == "position" else None)


def begin_from(start: Start, state: TrainState, config: TrainConfig) -> None:
    """Bring a new state to where a training starts."""
    sae = state.sae
    if sae.position_offset is not None and start.offset is not None:
        sae.position_offset.copy_(start.offset)
    initialise(state, sae.centred(start.tokens.to(sae.b_dec.device)).flatten(0, 1), config)
