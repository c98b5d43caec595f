"""Tuning curves: how concepts respond while one knob is turned on an otherwise identical drawn cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.concepts import quality as q
from cytosae.concepts.activations import cell_activations
from cytosae.concepts.evaluation.registry import Evaluation, Measure, measuring
from cytosae.concepts.evaluation.sampling import BATCH, LATENT_METHOD
from cytosae.concepts.storage import TUNING
from cytosae.console import progress
from cytosae.synthetic import BASE, KNOBS, turned_cell
from cytosae.tokens.live import embed_batch

_SHUFFLED = "shuffled levels"
_LEAST = 0.5
"""Standard deviations over the study's cells by which the response has to change to count."""


@dataclass(frozen=True)
class Responses:
    """Mean activations of drawn cells, ``(n_cells, n_concepts)``: as they are, and with a knob at each level."""

    base: NDArray[np.float32]
    turned: dict[tuple[str, float], NDArray[np.float32]]


@measuring(
    Measure(
        "tuned to a knob",
        "share of the concepts whose activation changes when the knob is turned on a drawn cell, by at least half a "
        "standard deviation of the study's cells (`--tuning`)",
        null=_SHUFFLED,
    ),
    Measure(
        "knobs of a concept",
        "knobs to which a concept responds that responds to any: 1 is a concept of one thing",
        "lower",
    ),
)
def tuning(run: Evaluation) -> None:
    """Turn each of the knobs on some cells, and see which concepts follow."""
    if not run.config.tuning:
        run.table.skip("tuning curves", "not asked for (--tuning)")
        return
    if run.backbone is None or run.source.harmonisation is not None:
        run.table.skip("tuning curves", "the backbone is not at hand, or tokens are harmonised")
        return
    spread, responses = _spread(run.sample.means), _responses(run)
    curves = [_curve(run, responses, knob, spread) for knob in KNOBS]
    table = pd.concat([curve for curve, _ in curves], ignore_index=True)
    run.tables[TUNING] = table
    responds = np.stack([(curve.groupby("latent")["responds"].first()) for curve, _ in curves], axis=1)
    for column, (knob, (_, by_chance)) in enumerate(zip(KNOBS, curves, strict=True)):
        run.mean(f"tuned to a knob, {knob} (share of concepts)", LATENT_METHOD, responds[:, column].astype(float))
        run.mean(f"tuned to a knob, {knob} (share of concepts)", _SHUFFLED, by_chance.astype(float))
    number = responds.sum(axis=1)
    run.mean("knobs of a concept", LATENT_METHOD, number[number > 0].astype(float))
    run.per_concept["knobs"] = number


def _spread(means: sp.csr_matrix) -> NDArray[np.float64]:
    """Standard deviation of m_i[s] over the cells, ``(n_concepts,)``."""
    mean, square = (np.asarray(m.mean(axis=0)).ravel() for m in (means, means.multiply(means)))
    return np.maximum(np.sqrt(np.maximum(square - mean**2, 0)), 1e-9)


def _responses(run: Evaluation) -> Responses:
    """Draw the cells, embed and encode them; the cell as it is only once."""
    keys = [(knob, level) for knob, about in KNOBS.items() for level in about.levels if level != BASE[knob]]
    seeds = [run.config.seed * 1_000_003 + number for number in range(run.config.tuning)]
    wanted: list[tuple[int, tuple[str, float] | None]] = [(seed, key) for seed in seeds for key in (None, *keys)]
    rows: dict[tuple[str, float] | None, list[NDArray[np.float32]]] = {key: [] for key in (None, *keys)}
    with progress("tuning", len(wanted), "cells") as bar:
        for start in range(0, len(wanted), BATCH):
            some = wanted[start : start + BATCH]
            images = np.stack([turned_cell(seed, *(key or (None, 0.0))) for seed, key in some])
            means = _encoded(run, images)
            for (_, key), row in zip(some, means, strict=True):
                rows[key].append(row)
            bar.to(start + len(some))
    stacked = {key: np.stack(arrays) for key, arrays in rows.items()}
    return Responses(stacked.pop(None), {key: value for key, value in stacked.items() if key is not None})


def _encoded(run: Evaluation, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    assert run.backbone is not None
    names = [f"drawn cell {number}" for number in range(len(images))]
    tokens = embed_batch(run.backbone, torch.from_numpy(images), names, run.source.layout.dtype)
    means = cell_activations(run.sae, run.sae.centred(tokens))[1]
    return np.asarray(means[:, run.sample.concepts].toarray(), np.float32)


def _curve(
    run: Evaluation, responses: Responses, knob: str, spread: NDArray[np.float64]
) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """The curve of every concept for a knob, against its lowest level, and which respond when levels are shuffled."""
    levels = KNOBS[knob].levels
    values = np.stack([responses.turned.get((knob, level), responses.base) for level in levels], axis=1) / spread
    rng = np.random.default_rng(run.config.seed)
    weights = q.bootstrap_weights(np.arange(len(values)), run.config.draws, run.config.seed) / len(values)
    change, low, high = _changes(values, weights)
    responds = _respond(change, low, high)
    shuffled = rng.permuted(np.broadcast_to(np.arange(len(levels)), (len(values), len(levels))), axis=1)
    by_chance = _respond(*_changes(np.take_along_axis(values, shuffled[:, :, None], axis=1), weights))
    n = len(run.sample.concepts)
    curve = pd.DataFrame(
        {
            "latent": np.repeat(run.sample.concepts, len(levels)),
            "knob": knob,
            "meaning": KNOBS[knob].meaning,
            "level": np.tile(levels, n).astype(np.float64),
            "change": change.T.ravel(),
            "low": low.T.ravel(),
            "high": high.T.ravel(),
            "responds": np.repeat(responds, len(levels)),
        }
    )
    return curve, by_chance


def _changes(values: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Mean change against the lowest level, ``(n_levels, n_concepts)``, and its 95 % interval, cells drawn again."""
    paired = values - values[:, :1]
    drawn = np.einsum("dc,clk->dlk", weights, paired)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return paired.mean(axis=0), low, high


def _respond(change: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the largest change is above `_LEAST` and its interval keeps away from 0."""
    at = np.abs(change).argmax(axis=0)
    columns = np.arange(change.shape[1])
    away = (low[at, columns] > 0) | (high[at, columns] < 0)
    return np.asarray((np.abs(change[at, columns]) > _LEAST) & away)
