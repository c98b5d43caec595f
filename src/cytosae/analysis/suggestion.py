"""Which lambda and which expansion, and what will it cost? Predicted from short trainings on a sample of the tokens."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from cytosae.cells import held_out
from cytosae.concepts import CountMoments, concentration, papers_rule, why_no_concept
from cytosae.console import progress
from cytosae.errors import CytosaeError
from cytosae.sae import SAE, geometric_median, sparse
from cytosae.sae.cost import encode_seconds, step_seconds, training_bytes
from cytosae.sae.objectives import OBJECTIVES
from cytosae.sae.probe import (
    BATCH,
    Fit,
    Probe,
    beyond_probes,
    first_l1,
    fit,
    fit_l0,
    narrow,
    near,
    never_fired,
    probe,
    search,
    steps_until,
)
from cytosae.settings import EncodeConfig, TrainConfig
from cytosae.tokens import TokenStore, centred, position_offset
from cytosae.tokens.inspection import Oddities, mean_to_spread, oddities

_BYTES = 1 << 27  # of the sample, in float32
_CELLS, _HELD, _LEAST = 256, 32, 8  # cells to train on, to measure on, and the fewest that say anything
_FIRST_STEPS = 25  # in which latents are watched for whether they ever fire
_L0 = 64.0  # wanted, if nothing says another
_WIDEST = 16_384  # latents of an autoencoder on which costs are measured; those of wider ones are extrapolated
_KNEE = 0.01  # explained variance that a wider autoencoder has to gain to be worth its cost
_CENTRING = 0.01  # share of latents that centring has to save to be called a help
_Z = 1.96


@dataclass(frozen=True)
class Sample:
    """Tokens of a seeded draw of cells."""

    train: Tensor
    """``(n_tokens, d_model)``, in random order."""
    held: Tensor
    """Of other cells, ``(n_cells, n_tokens, d_model)``."""
    has_cls: bool


def suggest(
    store: TokenStore,
    config: TrainConfig,
    l0: float | None = None,
    *,
    concepts: int | None = None,
) -> dict[str, Any]:
    """Suggest lambda and expansion for a training, and say what it would cost.

    A few narrow autoencoders are trained shortly (`cytosae.sae.probe`) on at most 256 cells and 128 MiB of tokens; the
    work is bounded by their number, width and steps, and is the same whatever the size of the training.

    Parameters
    ----------
    store
        The tokens.
    config
        The training that is planned. Its expansion is the widest to choose from, beside half and a quarter of it; the L0
        that its lambda would give is predicted too.
    l0
        Wanted active latents of a token; if None, the planned k where the objective is set by it, else 64.
    concepts
        Wanted number of concepts; the narrowest expansion that is expected to have as many is suggested. Without it the
        narrowest whose explained variance is within 0.01 of the widest's.

    Returns
    -------
    ``tokens`` (ratio of mean to spread, oddities, latents that never fired), ``probes``, ``expansions`` (for each one
    lambda with its interval and the factor within which L0 is expected, or k where the objective is set by it; explained
    variance, concepts, seconds, bytes),
    ``suggested``, ``command``, ``seconds`` that this took.

    Raises
    ------
    CytosaeError
        No wanted concepts, too few cells, NaN in the tokens, a wanted L0 that is none of the latents', tokens that are
        all alike.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    begun = time.monotonic()
    if concepts is not None and concepts < 1:
        raise CytosaeError(f"--concepts {concepts}: must be at least 1.")
    config = config.scaled_to(store.n_cells, store.layout.n_tokens)
    set_by = OBJECTIVES[config.objective].set_by
    if l0 is None:
        l0 = float(config.k) if set_by == "k" else _L0
    expansions = sorted({max(1, config.expansion // divisor) for divisor in (1, 2, 4)})
    sample = _sample(store, config)
    d_model = store.layout.d_model
    if not 0 < l0 < expansions[0] * d_model / 2:
        raise CytosaeError(
            f"--l0 {l0:g}: must be above 0 and below half of the {expansions[0] * d_model:,} latents of the narrowest "
            "expansion, of which half are active before any training."
        )
    about = _tokens(sample, config)
    if set_by == "k":
        config = replace(config, k=max(1, round(l0)))
    probes = _probes(sample, config, l0, store.n_cells)
    sparsity = fit_l0(probes, l0, beyond_probes(config)) if set_by == "l1" else None
    close = near(probes, l0)
    unexplained = fit(close, [max(1e-6, 1 - p.explained_variance) for p in close])
    concepts_fit = fit(close, [max(1, p.concepts) for p in close])
    settled = float(np.median([p.settled for p in close]))
    rows = []
    for expansion in expansions:
        one = replace(config, expansion=expansion)
        if sparsity is not None:
            one = replace(one, l1=_rounded(sparsity.l1(l0, expansion)))
        rows.append(
            {
                **_expected(one, getattr(one, set_by), unexplained, concepts_fit, d_model),
                **(_sparsity(one, sparsity, config.l1) if sparsity is not None else {"k": one.k}),
                **_cost(one, sample.train, store, l0, steps_until(settled, one)),
            }
        )
    chosen = _chosen(rows, concepts)
    return {
        "wanted_l0": l0,
        "tokens": about,
        "probes": [asdict(p) for p in probes],
        "expansions": rows,
        "suggested": chosen,
        "command": _command(store, replace(config, expansion=chosen["expansion"], **{set_by: chosen[set_by]})),
        "disk_bytes": store.n_cells * store.layout.cell_bytes,
        "seconds": time.monotonic() - begun,
    }


def _sample(store: TokenStore, config: TrainConfig) -> Sample:
    layout = store.layout
    is_held_out = held_out(store.cells, config.holdout, config.seed)
    rng = np.random.default_rng([config.seed, 7])
    training = rng.permutation(np.flatnonzero(~is_held_out))
    at_most = max(_LEAST, _BYTES // (4 * layout.n_tokens * layout.d_model))
    rows = training[: min(_CELLS, at_most)]
    others = rng.permutation(np.flatnonzero(is_held_out))[: min(_HELD, at_most)]
    if len(others) < _LEAST:  # the training's own held-out cells are too few to tell anything
        n_held = min(_HELD, len(rows) // 4)
        rows, others = rows[n_held:], rows[:n_held]
    if len(rows) < _LEAST or len(others) < 2:
        raise CytosaeError(
            f"{store.folder}: {store.n_cells} cells, of which {len(training)} are to train on: too few to choose a "
            f"lambda; at least {_LEAST + 2} are needed to train on, and a few hundred to be believed."
        )
    offset = position_offset(store, training, config.seed) if config.centring == "position" else None
    train, held = centred(store, offset).stream([np.sort(rows), np.sort(others)])
    x = train.flatten(0, 1).float()
    if float((x - x[0]).abs().max()) == 0:
        raise CytosaeError(f"{store.folder}: all tokens are alike. Check the images and the backbone.")
    order = torch.from_numpy(rng.permutation(len(x)))
    grid = layout.backbone["grid"]
    return Sample(x[order], held.float(), layout.n_tokens == grid[0] * grid[1] + 1)


def _tokens(sample: Sample, config: TrainConfig) -> dict[str, Any]:
    """What the tokens are like, and how many latents never fire with and without centring."""
    x = sample.train[: 16 * BATCH]
    narrowest = replace(config, expansion=narrow(config, x.shape[1])[0], l1=0.0)
    centred, plain = (never_fired(sample.train, narrowest, centre, _FIRST_STEPS) for centre in (True, False))
    odd: Oddities = oddities(sample.held, sample.has_cls)
    return {
        "mean_to_spread": mean_to_spread(x),
        "mean_to_spread_centred": mean_to_spread(x, geometric_median(x)),
        "never_fired_uncentred": plain,
        "never_fired_centred": centred,
        "centring_helps": plain - centred > _CENTRING,
        **asdict(odd),
        "constant": list(odd.constant),
    }


@torch.no_grad()
def _count_concepts(sae: SAE, held: Tensor, n_cells: int) -> int:
    """Concepts by the rule of the encoding (`cytosae.concepts.why_no_concept`), on ``(n_held, n_tokens, d_model)``.

    Cells that show a latent are scaled up to all `n_cells` of the study: each held-out one stands for many.
    """
    config = EncodeConfig()
    total, active = (torch.zeros(sae.n_latents, dtype=torch.float64) for _ in range(2))
    moments = CountMoments.empty(sae.n_latents)
    for cell in held:
        h = sae.encode(cell)
        mean = h.mean(dim=0).cpu().double()
        total, active = total + mean, active + (mean > 0)
        moments.add(sp.csr_matrix((h > config.threshold).sum(dim=0).cpu().numpy()[None]))
    n_held, n_tokens = held.shape[:2]
    reasons = why_no_concept(
        (total / active.clamp_min(1)).numpy(),
        moments.shown * max(1.0, n_cells / n_held),
        concentration(moments.total, moments.squares, n_held, n_tokens),
        config,
        mean_alone=papers_rule(sae.activation, config),
    )
    return int(reasons.isna().sum())


def _probes(sample: Sample, config: TrainConfig, l0: float, n_cells: int) -> list[Probe]:
    count = partial(_count_concepts, n_cells=n_cells)
    set_by = OBJECTIVES[config.objective].set_by
    expansions = narrow(config, sample.train.shape[1])
    with progress("probes", 8 if set_by == "l1" else 2 * len(expansions), "trainings") as bar:

        def run(expansion: int, value: float) -> Probe:
            varied: dict[str, Any] = {"expansion": expansion, set_by: value}
            done = probe(sample.train, sample.held, replace(config, **varied), count)
            bar.to(bar.done + 1, f"L0 {done.l0:.3g} at {set_by} {value:.2g}")
            return done

        if set_by == "k":  # L0 is known: on both sides of it for explained variance and concepts
            around = max(1, round(l0 / 1.3)), round(l0 * 1.3) + 1
            return [run(expansion, k) for expansion in expansions for k in around]
        return search(run, l0, expansions, first_l1(sample.train[: 8 * BATCH], config))


def _sparsity(one: TrainConfig, sparsity: Fit, planned: float) -> dict[str, Any]:
    """lambda with its interval, and what the planned one would lead to."""
    error = sparsity.error(one.l1, one.expansion)
    off = math.exp(_Z * error / -sparsity.coefficients[1])
    return {
        "l1": one.l1,
        "l1_low": one.l1 / off,
        "l1_high": one.l1 * off,
        "l0_factor": math.exp(_Z * error),
        "l0_of_planned_l1": math.exp(sparsity.log(planned, one.expansion)) if planned > 0 else None,
    }


def _expected(one: TrainConfig, value: float, unexplained: Fit, concepts_fit: Fit, d_model: int) -> dict[str, Any]:
    n_latents = one.expansion * d_model
    return {
        "expansion": one.expansion,
        "n_latents": n_latents,
        "explained_variance": 1 - min(1.0, math.exp(unexplained.log(value, one.expansion))),
        "concepts": round(min(n_latents, math.exp(concepts_fit.log(value, one.expansion)))),
    }


def _cost(one: TrainConfig, x: Tensor, store: TokenStore, l0: float, dense_steps: int) -> dict[str, Any]:
    """Seconds of training and encoding and peak memory, from units measured on a few tokens of the sample."""
    some = x[:BATCH]
    n_tokens = store.layout.n_tokens
    per_token = [
        _at_width(lambda config: step_seconds(config, some, None) / len(some), one, x.shape[1]),
        _at_width(lambda config: step_seconds(config, some, l0) / len(some), one, x.shape[1]),
        _at_width(lambda config: encode_seconds(config, some, l0) / len(some), one, x.shape[1]),
    ]
    dense, quick, encode = per_token
    batch = one.batch_images * n_tokens
    if l0 > sparse.DENSE_ABOVE * one.expansion * x.shape[1]:
        dense_steps = one.steps
    return {
        "train_seconds": batch * (dense_steps * dense + (one.steps - dense_steps) * quick),
        "encode_seconds": store.n_cells * n_tokens * encode,
        "memory_bytes": training_bytes(x.shape[1], one.expansion * x.shape[1], batch),
    }


def _at_width(measure: Callable[[TrainConfig], float], config: TrainConfig, d_model: int) -> float:
    """A cost that is linear in the latents, with a constant part (docs/explanation/benchmarks.md);
    of wide ones by two narrower ones."""
    most = max(2, _WIDEST // d_model)
    if config.expansion <= most:
        return measure(config)
    half, whole = (measure(replace(config, expansion=e)) for e in (most // 2, most))
    return whole + max(0.0, whole - half) * (config.expansion - most) / (most - most // 2)


def _chosen(rows: list[dict[str, Any]], concepts: int | None) -> dict[str, Any]:
    if concepts is not None:
        enough = [row for row in rows if row["concepts"] >= concepts]
        why = (
            f"the narrowest expected to have {concepts:,} concepts" if enough else "the widest; it has too few concepts"
        )
        return {**(enough or rows[-1:])[0], "why": why}
    best = rows[-1]["explained_variance"]
    knee = next(row for row in rows if row["explained_variance"] >= best - _KNEE)
    return {**knee, "why": f"wider ones are expected to explain at most {_KNEE:.0%} more"}


def _rounded(l1: float) -> float:
    return float(f"{l1:.2g}")


def _command(store: TokenStore, config: TrainConfig) -> str:
    """The command that trains so; settings that are the defaults are left out."""
    options = [
        f"--{spec.name.replace('_', '-')} {value if isinstance(value, int | str) else format(value, 'g')}"
        for spec in fields(config)
        if (value := getattr(config, spec.name)) != spec.default
        or spec.name in ("expansion", OBJECTIVES[config.objective].set_by)
    ]
    return " ".join(["cytosae train", shlex.quote(str(store.folder)), *options])
