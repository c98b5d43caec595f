"""Do conformal sets cover the true class of new patients as often as they say? Many drawn cohorts, the whole procedure.

``python -m benchmarks.coverage -o FOLDER`` draws barcodes of training patients and of as many new ones, with classes of
several sizes and signals of several strengths; divides, chooses and fits as `cytosae classify` does; and counts how
often the sets hold the class of new patients, over all and by class; with ``--unlike`` the classes differ in how hard or how
large they are. With ``--numbers`` a number is predicted, and the intervals of new patients are counted. A cohort is a
line of ``FOLDER/coverage.jsonl``; what is there is not made again. The intervals are over cohorts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cytosae.cohort import (
    Calibration,
    OutcomeCalibration,
    Products,
    candidates,
    choose,
    classification_task,
    error_rate,
    left_out_intervals,
    left_out_p_values,
    outcome_task,
    stratified_folds,
    trained_outcome,
    validated,
)
from cytosae.cohort.selection import fitted_probabilities
from cytosae.concepts.quality.resampling import Estimate
from cytosae.settings import ClassifyConfig

CLASSES, LATENTS, CELLS = 3, 300, 50
SIZES, SIGNALS = (12, 18, 29), (1.08, 1.15, 1.25)
"""Training patients of each class; factor by which the ten latents of a class are raised."""
UNLIKE = {"signals": ((18, 18, 18), (1.08, 1.15, 1.25)), "sizes": ((12, 18, 29), (1.15, 1.15, 1.15))}
"""Cohorts whose classes differ, in how hard they are or in their patients: coverage of each class."""
NUMBERS = tuple(product((30, 60, 120), (0.0, 0.1)))
"""Training patients, and how much the number moves the latents (0: not at all)."""


def drawn(sizes: Sequence[int], signals: Sequence[float], seed: int) -> ad.AnnData:
    """Barcodes of training patients and, after them, of as many new ones; sizes and signals of each class."""
    rng = np.random.default_rng([seed, sizes[0], *(sizes[1:] if len(set(sizes)) > 1 else ())])
    if len(set(sizes)) == 1:
        target = np.arange(2 * sum(sizes)) % CLASSES
    else:
        target = np.concatenate([rng.permutation(np.repeat(np.arange(CLASSES), sizes)) for _ in range(2)])
    n = len(target)
    share = np.broadcast_to(rng.uniform(0.05, 0.9, LATENTS), (n, LATENTS)).copy()
    for c in range(CLASSES):
        share[target == c, 10 * c : 10 * c + 10] *= signals[c]
    own = np.clip(share * np.exp(rng.normal(0, 0.2, share.shape)), 0, 1)  # patients differ
    active = rng.binomial(CELLS, own)
    names = [f"P{i}" for i in range(n)]
    obs = pd.DataFrame({"patient": names, "n_cells": CELLS, "diagnosis": [f"class {c}" for c in target]}, index=names)
    layers = {"share": active / CELLS, "top": np.minimum(active, 5) * rng.uniform(1, 4, active.shape)}
    layers["strongest"] = np.minimum(active, 1) * rng.uniform(5, 20, active.shape)
    data = ad.AnnData((20 * active / CELLS).astype(np.float32), obs, layers=layers)
    for name in ("active_cells", "mean_activation"):
        data.layers[name] = active
    return data


def measured(data: ad.AnnData, seed: int, coverage: float) -> dict[str, dict[str, float]]:
    """Coverage and mean size of the sets of the new patients, by p-values before and after their calibration."""
    config = ClassifyConfig(permutations=0, coverage=coverage, seed=seed)
    train = np.arange(data.n_obs) < data.n_obs // 2
    task, whole = (classification_task(part, "diagnosis") for part in (data[train].copy(), data))
    folds = stratified_folds(task.target, task.patients, config.splits, config.repeats, config.seed)
    products = Products.from_barcodes(data, candidates(config))
    everyone = np.ones(data.n_obs, bool)
    probability = np.empty((len(folds.splits), data.n_obs, CLASSES))
    for model, (repeat, fold) in enumerate(folds.splits):
        fitted = np.zeros(data.n_obs, bool)
        fitted[train] = folds.row_folds[repeat] != fold
        choice = choose(whole, products, fitted, whole.target[None], config, config.seed + repeat)
        (probability[model],) = fitted_probabilities(products, choice, fitted, everyone, whole.target[None], CLASSES)
    _, p = left_out_p_values(task, folds, Products.from_barcodes(task.data, candidates(config)), config)
    true = p[np.arange(len(p)), task.target]
    found = {}
    for name, divisions in (("one division", 1), ("five divisions", config.repeats)):
        models = folds.row_models[:divisions]
        own = probability[models, np.flatnonzero(train)]
        calibration = Calibration.from_predictions(own, models, task.target, true)
        found[name] = calibration.fold_p_values(probability[:, ~train], coverage)
    found["calibrated"] = calibration.p_values(probability[:, ~train], coverage)
    return {name: _figures(values, whole.target[~train], coverage) for name, values in found.items()}


def with_numbers(n: int, strength: float, seed: int) -> ad.AnnData:
    """Barcodes of training patients and as many new ones, with a number that raises or lowers twenty latents."""
    rng = np.random.default_rng([seed, n, 1])
    hidden = rng.normal(size=2 * n)
    share = np.broadcast_to(rng.uniform(0.05, 0.6, LATENTS), (2 * n, LATENTS)).copy()
    share[:, :20] *= np.exp(strength * hidden[:, None] * np.where(np.arange(20) % 2, 1, -1))
    active = rng.binomial(CELLS, np.clip(share * np.exp(rng.normal(0, 0.2, share.shape)), 0, 1))
    names = [f"P{i}" for i in range(2 * n)]
    number = 30 + 10 * hidden + rng.standard_t(4, 2 * n) * 4  # noise with long tails
    obs = pd.DataFrame({"patient": names, "n_cells": CELLS, "number": number}, index=names)
    layers = {"share": active / CELLS, "top": np.minimum(active, 5) * rng.uniform(1, 4, active.shape)}
    layers["strongest"] = np.minimum(active, 1) * rng.uniform(5, 20, active.shape)
    return ad.AnnData((20 * active / CELLS).astype(np.float32), obs, layers=layers)


def measured_numbers(data: ad.AnnData, seed: int, coverage: float) -> dict[str, dict[str, float]]:
    """Coverage and width of the intervals of the new patients, and what the study says of its own left-out ones."""
    config = ClassifyConfig(permutations=0, coverage=coverage, seed=seed)
    train = np.arange(data.n_obs) < data.n_obs // 2
    own, new = outcome_task(data[train].copy(), "number"), data[~train]
    folds, products = own.folds(config), Products.from_barcodes(own.data, candidates(config))
    found = validated(own, folds, products, config)
    calibration = OutcomeCalibration.from_predictions(own, found.predicted, folds.row_models)
    predicted = []
    for (repeat, fold), choice in zip(folds.splits, found.choices, strict=True):
        model = trained_outcome(own, products, folds.row_folds[repeat] != fold, choice)
        predicted.append(model.linear_predictor(model.representation.values(new))[:, 0])
    rows, ends = left_out_intervals(own, folds, products, config)
    return {
        "new patients": _of_intervals(
            calibration.intervals(np.stack(predicted), coverage), new.obs["number"].to_numpy()
        ),
        "left-out patients": _of_intervals(ends, own.values[rows]),
    }


def _of_intervals(ends: NDArray[np.float64], values: NDArray[np.float64]) -> dict[str, float]:
    inside = (ends[:, 0] <= values) & (values <= ends[:, 1])
    return {"coverage": float(inside.mean()), "size": float(np.mean(ends[:, 1] - ends[:, 0]))}


def _figures(p: NDArray[np.float64], target: NDArray[np.int64], coverage: float) -> dict[str, float]:
    sets = p > error_rate(coverage)
    inside = sets[np.arange(len(sets)), target]
    return {
        "coverage": float(inside.mean()),
        "size": float(sets.sum(axis=1).mean()),
        **{f"coverage of class {c}": float(inside[target == c].mean()) for c in range(CLASSES)},
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cohorts", type=int, default=100, help="of each size and signal")
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--unlike", nargs="*", choices=list(UNLIKE), help="classes that differ in signal, or in size")
    parser.add_argument("--numbers", action="store_true", help="intervals of a number in the place of classes")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    path = given.output / "coverage.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    made = {(line["patients"], line["signal"], line["seed"], line["nominal"]) for line in done}
    designs: dict[tuple[int | str, float | str], tuple[Sequence[int], Sequence[float]]] = {}
    if given.numbers:
        designs |= {("numbers", f"{n} patients, {strength:g}"): ((n,), (strength,)) for n, strength in NUMBERS}
    elif given.unlike is not None:
        designs |= {("unlike", name): UNLIKE[name] for name in given.unlike or UNLIKE}
    else:
        designs |= {
            (size, signal): ((size,) * CLASSES, (signal,) * CLASSES) for size, signal in product(SIZES, SIGNALS)
        }
    with path.open("a") as file, threadpool_limits(1):
        for seed, (patients, signal) in product(range(given.cohorts), list(designs)):
            if (patients, signal, seed, given.coverage) in made:
                continue
            sizes, signals = designs[patients, signal]
            if given.numbers:
                found = measured_numbers(with_numbers(sizes[0], signals[0], seed), seed, given.coverage)
            else:
                found = measured(drawn(sizes, signals, seed), seed, given.coverage)
            line = {"patients": patients, "signal": signal, "seed": seed, "nominal": given.coverage}
            done += [line | {"by": by, **figures} for by, figures in found.items()]
            for one in done[-len(found) :]:
                print(json.dumps(one), file=file, flush=True)
    table = pd.DataFrame(done).astype({"patients": str, "signal": str})
    for key, rows in table.groupby(["nominal", "by", "patients", "signal"]):
        estimate = Estimate.mean(rows["coverage"], 1000)
        print(
            *key, f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f}), size {rows['size'].mean():.2f}",
            f"{len(rows)} cohorts",
        )  # fmt: skip
        for name in (str(column) for column in rows if str(column).startswith("coverage of")):
            if rows[name].notna().any():
                one = Estimate.mean(rows[name].dropna(), 1000)
                print(f"    {name} {one.value:.3f} ({one.low:.3f} to {one.high:.3f})")


if __name__ == "__main__":
    main()
