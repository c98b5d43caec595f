"""Short trainings of narrow autoencoders, from which the settings of a long and wide one are predicted.

What makes them short: few tokens a step, a learning rate as high as Adam bears, and as many steps as give the same sum of
learning rates, since weights under Adam move by about the learning rate in every step. What makes them narrow: at a given
lambda the number of active latents hardly depends on the expansion, which is fitted rather than believed.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.errors import CytosaeError
from cytosae.sae import sparse
from cytosae.sae.metrics import evaluate
from cytosae.sae.model import SAE
from cytosae.sae.objectives import OBJECTIVES, RECONSTRUCTION
from cytosae.sae.start import initial_bias, initialise
from cytosae.sae.state import new_state
from cytosae.sae.step import step
from cytosae.settings import TrainConfig

LEARNING_RATE = 4e-3
"""Of a probe: the highest of the paper's grid, or that of the training if it is higher."""
STEPS = 40, 300
"""Least and most steps of a probe."""
BATCH = 1024
"""Tokens in a step of a probe."""
MOST_LATENTS = 1536
"""Latents of the narrowest probe, about."""
_WARMUP = 0.1  # share of the steps
_COOLED = 0.3  # share of the steps in which the rate falls to that of the training, whose noise the probe then has
_NEAR = 4.0  # probes whose L0 is farther from the wanted one than this factor are left out of the fit, if enough remain
_FIRST = 0.05  # lambda of the first probe, over that at which no latent pays
_LEAP = 6.0  # lambda of the next probe is at most so many times that of the nearest, or its part
_CLOSE = 2.0  # factor between L0 of a probe and the wanted one at which the search has arrived
_TRIES = 4  # probes until then, at most
_SPREAD = (
    1.3  # the last two probes of an expansion have so many times less and more than the lambda that is right by then
)
_TENTH = 0.1  # share of active latents that narrow autoencoders get below too
_FLOOR = 0.2  # least standard error of log L0: seeds, and that a probe is not the training
_DRIFT = 0.3  # and further so much for each e-fold by which the training goes on beyond its probes
_Z = 1.96


@dataclass(frozen=True)
class Probe:
    """One short training, measured on cells that it has not seen."""

    expansion: int
    l1: float
    """lambda, or k where the objective is set by it."""
    l0: float
    explained_variance: float
    concepts: int
    """Concepts on these cells, by the count that the probe was given."""
    settled: float
    """Sum of the learning rates until few enough latents should be active for the quick step, in an autoencoder so wide that
    the share of active ones gets there."""


@dataclass(frozen=True)
class Fit:
    """``log y = a + b log lambda + c log expansion`` by least squares, for a figure y of the probes."""

    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]
    residual: float
    """Standard deviation of the residuals; 0 where as many coefficients as probes leave none."""
    floor: float = _FLOOR
    """Standard error that no number of probes takes away. It was chosen after the trainings in docs/how-to/guidance.md."""

    def log(self, l1: float, expansion: float) -> float:
        """Expected log y."""
        return float(_row(l1, expansion) @ self.coefficients)

    def error(self, l1: float, expansion: float) -> float:
        """Standard error of log y of a training."""
        row = _row(l1, expansion)
        return math.sqrt(self.floor**2 + self.residual**2 + float(row @ self.covariance @ row))

    def l1(self, y: float, expansion: float) -> float:
        """The lambda that gives y."""
        a, b, c = self.coefficients
        return math.exp((math.log(y) - a - c * math.log(expansion)) / b)


def _row(l1: float, expansion: float) -> NDArray[np.float64]:
    return np.array([1.0, math.log(l1), math.log(expansion)])


def fit(probes: Sequence[Probe], y: Sequence[float]) -> Fit:
    """Fit a positive figure of the probes; one expansion alone says nothing of the others, whose coefficient is then 0."""
    rows, values = np.stack([_row(p.l1, p.expansion) for p in probes]), np.log(y)
    used = np.array([True, True, len({p.expansion for p in probes}) > 1])
    x = rows[:, used]
    solved, *_ = np.linalg.lstsq(x, values, rcond=None)
    free = len(values) - x.shape[1]
    residual = float(np.sqrt(np.square(values - x @ solved).sum() / free)) if free > 0 else 0.0
    coefficients, covariance = np.zeros(3), np.zeros((3, 3))
    coefficients[used] = solved
    covariance[np.ix_(used, used)] = np.linalg.pinv(x.T @ x) * residual**2
    return Fit(coefficients, covariance, residual)


def fit_l0(probes: Sequence[Probe], l0: float, beyond: float = 0.0) -> Fit:
    """Fit of L0, to the probes near the wanted one; `beyond` as `beyond_probes` gives it.

    Raises
    ------
    CytosaeError
        L0 does not fall with lambda, so no lambda can be predicted.
    """
    chosen = near(probes, l0)
    fitted = fit(chosen, [p.l0 for p in chosen])
    if not fitted.coefficients[1] < 0:
        seen = ", ".join(f"{p.l0:.3g} at {p.l1:.2g}" for p in probes)
        raise CytosaeError(f"--l0 {l0:g}: in short trainings L0 did not fall with lambda ({seen}). Try another --l0.")
    return replace(fitted, floor=math.hypot(_FLOOR, _DRIFT * beyond))


def near(probes: Sequence[Probe], l0: float) -> list[Probe]:
    """Probes whose L0 is not far from the wanted one; the four nearest where they are fewer."""
    ordered = sorted((p for p in probes if p.l0 > 0), key=lambda p: abs(math.log(p.l0 / l0)))
    close = [p for p in ordered if abs(math.log(p.l0 / l0)) <= math.log(_NEAR)]
    return close if len(close) >= 4 else ordered[:4]


def search(run: Callable[[int, float], Probe], l0: float, expansions: Sequence[int], first: float) -> list[Probe]:
    """Probes on both sides of the lambda that gives the wanted L0, at each expansion.

    Parameters
    ----------
    run
        Trains shortly at an expansion and a lambda.
    l0
        Wanted active latents of a token.
    expansions
        Narrowest first.
    first
        lambda of the first probe.
    """
    probes = [run(expansions[0], first)]
    while abs(_off(probes[-1], l0)) > math.log(_CLOSE) and len(probes) < _TRIES:
        probes.append(run(expansions[0], _next(probes, l0)))
    for expansion in expansions:
        l1 = _next(probes, l0) if expansion == expansions[0] else fit_l0(probes, l0).l1(l0, expansion)
        probes += [run(expansion, l1 / _SPREAD), run(expansion, l1 * _SPREAD)]
    return probes


def _off(probe: Probe, l0: float) -> float:
    return math.log(max(probe.l0, 0.1) / l0)


def _next(probes: Sequence[Probe], l0: float) -> float:
    """lambda that should give the wanted L0: by the two probes around it, or else the nearest two, and not far from one."""
    ordered = sorted(probes, key=lambda p: abs(_off(p, l0)))
    nearest, *others = ordered
    across = [p for p in others if _off(p, l0) * _off(nearest, l0) < 0]
    slope = -1.0  # what is mostly seen
    if others:
        other = (across or others)[0]
        rise = (_off(other, l0) - _off(nearest, l0)) / (math.log(other.l1 / nearest.l1) or math.inf)
        slope = min(-0.3, rise)
    return nearest.l1 * math.exp(float(np.clip(-_off(nearest, l0) / slope, -math.log(_LEAP), math.log(_LEAP))))


def first_l1(x: Tensor, config: TrainConfig) -> float:
    """A lambda to begin with: a fixed share of that at which no latent pays for itself on tokens `x`.

    A latent of the residual's direction r lowers the error by its derivative along r; with a larger lambda it stays silent.
    """
    centre = initial_bias(x, "mean")
    residual = x - centre
    length = residual.norm(dim=1, keepdim=True)
    little = 1e-3
    error = RECONSTRUCTION[config.objective]
    gained = error(x, centre.expand_as(x)) - error(x, centre + little * residual)
    paid = (little * length).squeeze(1)
    return _FIRST * float((gained / paid.clamp_min(1e-12)).median())


def summed_rate(done: int, config: TrainConfig) -> float:
    """Sum of the learning rates of the first steps of a training."""
    warmup = min(done, config.warmup_steps)
    return config.learning_rate * (done - warmup + warmup * (warmup + 1) / (2 * max(1, config.warmup_steps)))


def steps_until(rate: float, config: TrainConfig) -> int:
    """Steps of a training until its learning rates have the given sum; all of them if they never have."""
    return bisect_left(range(config.steps), rate * (1 - 1e-12), key=lambda done: summed_rate(done, config))


def probe_steps(config: TrainConfig) -> int:
    """Steps of a probe of a training: with an equal sum of learning rates, within `STEPS`."""
    fewest, most = STEPS
    wanted = summed_rate(config.steps, config) * (1 - 1e-12)
    return fewest + bisect_left(range(fewest, most), wanted, key=lambda steps: float(_probe_rates(steps, config).sum()))


def beyond_probes(config: TrainConfig) -> float:
    """Logarithm of the training's sum of learning rates over that of its probes; 0 where these go as far."""
    done = max(summed_rate(config.steps, config), 1e-30)
    return max(0.0, math.log(done / float(_probe_rates(probe_steps(config), config).sum())))


def _probe_rates(steps: int, config: TrainConfig) -> NDArray[np.float64]:
    """Learning rate of every step of a probe: warm-up, a plateau, and a fall to the rate of the training."""
    rate, done = max(LEARNING_RATE, config.learning_rate), np.arange(steps)
    left = np.minimum(1.0, (steps - done) / (_COOLED * steps))
    warm = np.minimum(1.0, (done + 1) / max(1, round(_WARMUP * steps)))
    return warm * (config.learning_rate + (rate - config.learning_rate) * left)


def narrow(config: TrainConfig, d_model: int) -> tuple[int, ...]:
    """Expansions of the probes: the narrowest and twice that, neither wider than the training."""
    first = max(1, min(config.expansion, MOST_LATENTS // d_model))
    return tuple(sorted({first, min(config.expansion, 2 * first)}))


def probe(x: Tensor, held: Tensor, config: TrainConfig, concepts: Callable[[SAE, Tensor], int]) -> Probe:
    """Train shortly.

    Parameters
    ----------
    x
        Tokens to train on, ``(n_tokens, d_model)``.
    held
        Tokens of cells to measure on, ``(n_cells, n_tokens, d_model)``.
    config
        The training, with expansion and lambda of the probe.
    concepts
        Counts the concepts of an autoencoder on cells ``(n_cells, n_tokens, d_model)``.

    Raises
    ------
    CytosaeError
        It diverges.
    """
    steps = probe_steps(config)
    rates = _probe_rates(steps, config)
    short = replace(config, warmup_steps=0, dead_latent_loss="none")
    state = new_state(short, x.shape[1], x.device)
    initialise(state, x[: 16 * BATCH], config)
    settled = summed = 0.0
    for batch in _batches(x, steps, config.seed):
        rate = float(rates[state.step])
        step(state, batch, replace(short, learning_rate=rate))
        summed += rate
        if state.l0 > _TENTH * state.sae.n_latents:
            settled = summed
    figures = evaluate(state.sae, [held], config.objective)
    n_concepts = concepts(state.sae, held)
    # The share falls about exponentially from a half; that of a narrow autoencoder stops on the way.
    settled *= math.log(0.5 / sparse.DENSE_ABOVE) / math.log(0.5 / _TENTH)
    set_to = getattr(config, OBJECTIVES[config.objective].set_by)
    return Probe(config.expansion, set_to, figures["l0"], figures["explained_variance"], n_concepts, settled)


def never_fired(x: Tensor, config: TrainConfig, centred: bool, steps: int) -> float:
    """Share of latents that fire on no token of the first steps, with ``b_dec`` at the geometric median or at zero."""
    rate = max(LEARNING_RATE, config.learning_rate)
    centre = "geometric-median" if centred else "zeros"
    short = replace(config, b_dec_init=centre, learning_rate=rate, warmup_steps=steps, dead_latent_loss="none")
    state = new_state(short, x.shape[1], x.device)
    initialise(state, x[: 16 * BATCH], short)
    fired = torch.zeros(state.sae.n_latents, dtype=torch.bool, device=x.device)
    for batch in _batches(x, steps, config.seed):
        fired |= step(state, batch, short).fired
    return 1 - float(fired.float().mean())


def _batches(x: Tensor, steps: int, seed: int) -> Iterator[Tensor]:
    rng = np.random.default_rng([seed, 6])
    for _ in range(steps):
        yield x[torch.from_numpy(rng.integers(0, len(x), min(BATCH, len(x)))).to(x.device)]
