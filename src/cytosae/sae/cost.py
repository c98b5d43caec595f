"""How long a unit of work with an autoencoder takes on this machine, measured on a little of it, and how much memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cytosae.backbones import choose_precision
from cytosae.sae.active_latents import active
from cytosae.sae.model import SAE
from cytosae.sae.state import TrainState, new_state
from cytosae.sae.step import step
from cytosae.settings import TrainConfig

SETTLED_L0 = 150
"""Latents that are active on a token once a training with the paper's settings has settled; at first it is half of all."""
_AT_ONCE = 1 << 26  # tokens x latents that `objectives.backward` holds at once
_DENSE_ARRAYS = 5  # of that size: pre-activations, latents, their mask, and the gradients of the first two
_AHEAD = 5  # batches that the reader holds
_PROGRAM = 900e6  # bytes of the interpreter with torch, compiled kernels and an evaluation


@dataclass(frozen=True)
class Span:
    """Seconds, between two bounds."""

    low: float
    """If nothing else runs and all threads have work all the time: processor time, divided by the threads."""
    high: float
    """As it was just now, whatever else the machine does."""

    def __mul__(self, factor: float) -> Span:
        return Span(self.low * factor, self.high * factor)

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)


def span(work: Callable[[], Any], device: torch.device) -> Span:
    """The least of two runs after a first that wakes what is asleep: whatever else the machine does makes it longer.

    What other programs do to the clock they do not do to the processor time of this one. On a GPU both bounds are those of
    the clock.
    """
    taken, busy = [], []
    for _ in range(3):
        begun, before = time.perf_counter(), time.process_time()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begun)
        busy.append(time.process_time() - before)
    high = min(taken[1:])
    low = high if device.type != "cpu" else min(high, min(busy[1:]) / torch.get_num_threads())
    return Span(low, high)


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """The same by the clock alone."""
    return span(work, device).high


def rising(measured: Mapping[int, float]) -> dict[int, float]:
    """Seconds by expansion, none above those of a larger one: where fewer latents took longer, the moment was a bad one."""
    times: dict[int, float] = {}
    least = float("inf")
    for expansion in sorted(measured, reverse=True):
        times[expansion] = least = min(least, measured[expansion])
    return times


def step_seconds(config: TrainConfig, x: Tensor, l0: float | None = SETTLED_L0) -> float:
    """Seconds of a training step on tokens ``(n_tokens, d_model)``; linear in the tokens (docs/explanation/benchmarks.md).

    Parameters
    ----------
    config
        Expansion and everything that a step depends on.
    x
        Tokens, on the device where the training will be.
    l0
        Active latents of a token; None for the first steps, in which half of all latents are.
    """
    return step_span(config, x, l0).high


def step_span(config: TrainConfig, x: Tensor, l0: float | None = SETTLED_L0) -> Span:
    """The same with its bounds, see `span`."""
    state = new_state(config, x.shape[1], x.device) if l0 is None else settled(config, x, l0)
    return span(partial(step, state, x, config), x.device)


def encode_seconds(config: TrainConfig, x: Tensor, l0: float = SETTLED_L0) -> float:
    """Seconds that a trained autoencoder takes to encode tokens ``(n_tokens, d_model)``."""
    dtype = choose_precision(config.encoder, "cpu") if x.device.type == "cpu" else "float32"
    return seconds(partial(_encode, settled(config, x, l0).sae, x, dtype), x.device)


@torch.no_grad()
def settled(config: TrainConfig, x: Tensor, l0: float = SETTLED_L0) -> TrainState:
    """An autoencoder that is as sparse on `x` as one that has been trained for a while."""
    state = new_state(config, x.shape[1], x.device)
    sae = state.sae
    some = sae.pre_activations(x[:64]).flatten()
    level = some[:: max(1, len(some) // 1_000_000)].float().cpu().quantile(max(0.0, 1 - l0 / sae.n_latents))
    sae.b_enc.fill_(-float(level))
    state.l0 = float(min(l0, sae.n_latents / 2))
    return state


def training_bytes(d_model: int, n_latents: int, batch_tokens: int) -> float:
    """Peak memory of a training on a CPU, by its largest arrays.

    Weights, gradients and Adam's two moments; what the plain step of the beginning holds at once; a batch in float32 and
    those read ahead. Measured beside it in docs/how-to/guidance.md.
    """
    weights = 4 * 4 * 2 * d_model * n_latents
    dense = _DENSE_ARRAYS * 4 * min(_AT_ONCE, batch_tokens * n_latents)
    return _PROGRAM + weights + dense + batch_tokens * d_model * (4 + 2 * _AHEAD)


@torch.no_grad()
def _encode(sae: SAE, x: Tensor, dtype: str) -> None:
    if x.device.type == "cpu":
        active(sae, x, dtype)
    else:
        sae.encode(x)
