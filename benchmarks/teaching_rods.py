"""Does one taught concept raise what barcodes tell? An Auer rod, taught by ten clicks, beside ten random directions.

``python -m benchmarks.teaching_rods -o FOLDER`` teaches on the cohort on which settings were chosen: the rod by clicks on
ten cells that show one, random directions by clicks on any patch of ten cells. They are applied to the three cohorts of
`benchmarks.teaching`, whose patients gave no mark. Figures for acute promyelocytic leukaemia against all others, with the
first cells of every patient: AUROC of the count alone, beside that of the patches that truly show a rod; and AUROC of
the probability that `cytosae classify` gives in held-out folds, with the concept as one more latent.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.teaching import CHOSEN_ON, CONFIG, JUDGED_ON, Cohort, barcodes
from cytosae.cohort import (
    ClassificationTask,
    Products,
    candidates,
    chosen_predictions,
    stratified_folds,
)
from cytosae.sae import SAE
from cytosae.sae.taught import Taught, with_taught
from cytosae.settings import ClassifyConfig
from cytosae.synthetic import CONCEPTS
from cytosae.teaching import Background, Learner, marks_table, usable_marks

ROD, GROUP = "auer_rod", "APL_PML_RARA"
CLICKS, RANDOM, DRAWS = 10, 10, 2000
CELLS = (5, 10, 1000)
"""Cells of each patient that are counted, the last: all of them."""


def teach(cohort: Cohort, sae: SAE) -> Taught:
    """The rod and the random directions."""
    views = cohort.views(sae, np.arange(len(cohort.cells)))
    learner = Learner.on(Background.draw(cohort.store, sae, views=views))
    taught, ids = Taught.empty(learner.background.frame, sae.d_model), cohort.cells["cell_id"]
    everywhere = np.ones(len(ids), bool)
    lessons = {ROD: cohort.clicks(CONCEPTS.index(ROD), CLICKS, 0.0, everywhere, seed=0)}
    for number in range(RANDOM):
        rng = np.random.default_rng([number, 5])
        rows = rng.permutation(len(ids))[:CLICKS]
        lessons[f"random {number}"] = rows, rng.integers(0, cohort.truth.shape[1], CLICKS)
    for name, (rows, places) in lessons.items():
        clicked = zip(ids.iloc[rows], places.tolist(), strict=True)
        (marks,) = usable_marks(
            marks_table((name, cell, place, "this") for cell, place in clicked), cohort.cells, cohort.truth.shape[1]
        )
        taught = learner.learn(marks, CONFIG).add_to(taught, CONFIG)
    return taught


def told(task: ClassificationTask, latents: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Probability of the group in held-out folds from the barcodes of some latents, ``(n_patients,)``."""
    config = ClassifyConfig(repeats=3)
    folds = stratified_folds(task.target, task.patients, config.splits, config.repeats, config.seed)
    products = Products.from_barcodes(task.data[:, latents].copy(), candidates(config))
    found = chosen_predictions(task, folds, products, config)
    return np.asarray(found.predictions.probability[:, :, list(task.classes).index(GROUP)].mean(axis=0))


def interval(truth: NDArray[np.bool_], *scores: NDArray[np.floating]) -> str:
    """95 % bootstrap interval of an AUROC, or of the second less the first, over patients."""
    rng = np.random.default_rng(0)
    found: list[float] = []
    while len(found) < DRAWS:
        rows = rng.integers(0, len(truth), len(truth))
        if truth[rows].any() and not truth[rows].all():
            areas = [roc_auc_score(truth[rows], one[rows]) for one in scores]
            found.append(areas[-1] - (areas[0] if len(areas) > 1 else 0))
    low, high = np.quantile(found, (0.025, 0.975))
    return f"({low:.3f} to {high:.3f})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    folder = parser.parse_args().output
    sae = SAE.from_pretrained(folder / f"s{CHOSEN_ON}" / "sae").requires_grad_(False)
    taught = teach(Cohort.make(folder, CHOSEN_ON), sae)
    rows = [
        row for seed in JUDGED_ON for count in CELLS for row in judged(Cohort.make(folder, seed), count, sae, taught)
    ]
    pd.DataFrame(rows).to_csv(folder / "rods.csv", index=False)


def judged(cohort: Cohort, count: int, sae: SAE, taught: Taught) -> list[dict[str, Any]]:
    """Figures of every taught direction on the first cells of each patient."""
    rows = np.flatnonzero(cohort.cells.groupby("patient").cumcount().to_numpy() < count)
    task = barcodes(cohort, with_taught(sae, taught), rows)
    truth = task.target == list(task.classes).index(GROUP)
    columns = np.arange(task.data.n_vars)
    before = told(task, columns < sae.n_latents)
    area = roc_auc_score(truth, before)
    print(f"seed {cohort.seed}, {count} cells: own latents {area:.3f} {interval(truth, before)}", flush=True)
    shown = cohort.truth[rows][:, :, CONCEPTS.index(ROD)].sum(axis=1)
    means = pd.Series(shown).groupby(cohort.cells["patient"].astype(str).to_numpy()[rows]).mean()
    true = means.reindex(task.data.obs["patient"]).to_numpy()
    print(
        f"  patches that truly show a rod, alone {roc_auc_score(truth, true):.3f} {interval(truth, true)}", flush=True
    )
    found = []
    for column, name in enumerate(taught.names, sae.n_latents):
        value = np.asarray(task.data.X)[:, column]
        after = told(task, (columns < sae.n_latents) | (columns == column))
        alone, gain = roc_auc_score(truth, value), roc_auc_score(truth, after) - area
        found.append({"seed": cohort.seed, "cells": count, "concept": name, "alone": alone, "own": area, "gain": gain})
        if name == ROD:
            print(f"  alone {alone:.3f} {interval(truth, value)}", flush=True)
            print(f"  gain {gain:+.3f} {interval(truth, before, after)}", flush=True)
    random = pd.DataFrame(found[1:])
    for what in ("alone", "gain"):
        of = random[what]
        print(f"  random directions, {what}: {of.mean():.3f} ({of.min():.3f} to {of.max():.3f})", flush=True)
    return found


if __name__ == "__main__":
    main()
