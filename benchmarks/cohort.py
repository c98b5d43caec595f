"""A cohort of the paper's size: classification with nested choice and null, and comparison; beside it scikit-learn.

``python -m benchmarks.cohort --patients 189 --latents 49152``
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cytosae.analysis import classify, compare_groups
from cytosae.cohort import Products, candidates, chosen_predictions, classification_task, stratified_folds
from cytosae.cohort.linear import penalty
from cytosae.cohort.selection import STRENGTHS
from cytosae.settings import ClassifyConfig

CELLS = 430
GROUPS = ("CBFB_MYH11", "NPM1", "PML_RARA", "RUNX1_RUNX1T1", "healthy")


def simulated(n_patients: int, n_latents: int, seed: int = 0) -> ad.AnnData:
    """Barcodes of patients of five groups, who differ in 3 % of the latents; most latents are rare and weak."""
    rng = np.random.default_rng(seed)
    group = np.arange(n_patients) % len(GROUPS)
    level = 10 ** rng.normal(-2.7, 1.2, n_latents)
    share = np.clip(rng.beta(0.25, 1.5, n_latents), 1e-4, 1)
    effect = rng.normal(0, 0.3, (len(GROUPS), n_latents)) * (rng.random(n_latents) < 0.03)
    own = rng.normal(0, 0.5, (n_patients, n_latents))
    active = np.minimum(CELLS, CELLS * share * np.exp(effect[group] + own)).astype(np.int32)
    counts = np.where(level > 8e-4, np.clip(level / 0.2 * 103, 0, 250), 0)  # tau = 0.2, 257 tokens
    names = [f"P{i}" for i in range(n_patients)]
    obs = pd.DataFrame({"patient": names, "dataset": "simulated", "n_cells": CELLS}, index=names)
    obs["diagnosis"] = [GROUPS[g] for g in group]
    obs["laboratory"] = [f"L{(i // 5) % 3}" for i in range(n_patients)]
    for column in ("patient", "dataset", "diagnosis", "laboratory"):
        obs[column] = pd.Categorical(obs[column])
    data = ad.AnnData((counts * active / CELLS).astype(np.float32), obs)
    data.layers["mean_activation"] = (level * active / CELLS).astype(np.float32)
    data.layers["active_cells"] = active
    data.layers["share"] = (np.where(level > 8e-4, active, 0) / CELLS).astype(np.float32)
    data.layers["top"] = np.where(active > 0, counts * rng.uniform(1, 3, active.shape), 0).astype(np.float32)
    data.layers["strongest"] = np.where(active > 0, counts * rng.uniform(3, 5, active.shape), 0).astype(np.float32)
    data.uns["cytosae"] = {"stage": "barcodes"}
    return data


def by_scikit_learn(data: ad.AnnData, config: ClassifyConfig, fits: int) -> float:
    """Seconds of a fit on the barcodes of a training fold themselves, as a loop over folds and permutations would take."""
    task = classification_task(data, "diagnosis")
    folds = stratified_folds(task.target, task.patients, config.splits, 1, config.seed)
    train = folds.row_folds[0] != 0
    x = task.barcodes[train]
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(fits):
            labels = rng.permutation(task.target[train])
            LogisticRegression(C=penalty(len(GROUPS), int(train.sum())), max_iter=2000).fit(x, labels)
    return (time.perf_counter() - start) / fits


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=189)
    parser.add_argument("--latents", type=int, default=49152)
    parser.add_argument("--features", default=ClassifyConfig.features)
    parser.add_argument("--transform", default=ClassifyConfig.transform)
    parser.add_argument("--permutations", type=int, default=200)
    parser.add_argument("--fits", type=int, default=3, help="fits of scikit-learn that are timed")
    given = parser.parse_args()
    data = simulated(given.patients, given.latents)
    config = ClassifyConfig(features=given.features, transform=given.transform, permutations=given.permutations)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "barcodes.h5ad"
        data.write_h5ad(path)
        start = time.perf_counter()
        told = classify(path, Path(folder) / "classification", config, leave_out="laboratory")
        classified = time.perf_counter() - start
        compare_groups(path, Path(folder) / "compare", GROUPS[0], GROUPS[2], adjust="laboratory")
        compared = time.perf_counter() - start - classified
    start = time.perf_counter()
    task = classification_task(data, "diagnosis")
    folds = stratified_folds(task.target, task.patients, config.splits, config.repeats)
    products = Products.from_barcodes(task.data, candidates(config))
    chosen_predictions(task, folds, products, config, permutations=given.permutations)
    chosen = time.perf_counter() - start
    options = len(STRENGTHS) * len(products.kinds)
    fits = (given.permutations + config.repeats) * config.splits * (options * config.inner + 1)
    plain = by_scikit_learn(data, config, given.fits)
    print(
        json.dumps(
            {
                "patients": given.patients,
                "latents": given.latents,
                "weighted_f1": told["barcodes"]["weighted_f1"],
                "null": told["null"],
                "classify_seconds": classified,
                "compare_seconds": compared,
                "choice_and_null_seconds": chosen,
                "fits": fits,
                "seconds_a_fit": chosen / fits,
                "seconds_a_fit_scikit_learn": plain,
                "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
