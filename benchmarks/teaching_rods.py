"""Does one taught concept raise what barcodes tell? An Auer rod, taught by ten clicks, beside ten random directions.

``python -m benchmarks.teaching_rods -o FOLDER`` teaches on the cohort on which settings were chosen: the rod by clicks on
ten cells that show one, random directions by clicks on any patch of ten cells. They are applied to the three cohorts of
`benchmarks.teaching`, whose patients gave no mark. Two figures for acute promyelocytic leukaemia against all others: AUROC
of the concept's count alone; and AUROC of the probability that a classifier gives in held-out folds, of the autoencoder's
own latents with the concept as a further block.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.teaching import CHOSEN_ON, CONFIG, JUDGED_ON, Cohort, barcodes
from cytosae.cohort import (
    ClassificationTask,
    Products,
    Representation,
    chosen_predictions,
    stratified_folds,
    transformed,
)
from cytosae.cohort.linear import centred_products
from cytosae.sae import SAE
from cytosae.sae.taught import Taught, with_taught
from cytosae.settings import ClassifyConfig
from cytosae.synthetic import CONCEPTS
from cytosae.teaching import Background, Learner, marks_table, usable_marks

ROD, GROUP = "auer_rod", "APL_PML_RARA"
CLICKS, RANDOM, DRAWS = 10, 10, 2000
_KIND = Representation("counts+share", "log1p")
_OWN = [("count", "log1p"), ("share", "log1p")]


def teach(cohort: Cohort, sae: SAE) -> Taught:
    """The rod and the random directions."""
    learner = Learner.on(Background.draw(cohort.store, sae))
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


def told(task: ClassificationTask, own: ad.AnnData, more: NDArray[np.floating] | None) -> NDArray[np.float64]:
    """Probability of the group in held-out folds, ``(n_patients,)``; `more` is one further value of each patient."""
    parts = {part: centred_products(transformed(own, *part)) for part in _OWN}
    names = list(_OWN)
    if more is not None:
        names.append(("taught", "log1p"))
        parts[names[-1]] = centred_products(np.log1p(more)[:, None])
    config = ClassifyConfig(repeats=3)
    folds = stratified_folds(task.target, task.patients, config.splits, config.repeats, config.seed)
    found = chosen_predictions(task, folds, Products(parts, {_KIND: names}), config)
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
    rows = []
    for seed in JUDGED_ON:
        task = barcodes(Cohort.make(folder, seed), with_taught(sae, taught), sae.n_latents)
        truth = task.target == list(task.classes).index(GROUP)
        own, values = task.data[:, : sae.n_latents].copy(), np.asarray(task.data.X)[:, sae.n_latents :]
        before = told(task, own, None)
        area = roc_auc_score(truth, before)
        print(f"seed {seed}: own latents {area:.3f} {interval(truth, before)}", flush=True)
        found = []
        for place, name in enumerate(taught.names):
            value = values[:, place]
            after = told(task, own, value)
            alone, gain = roc_auc_score(truth, value), roc_auc_score(truth, after) - area
            found.append({"seed": seed, "concept": name, "alone": alone, "own": area, "gain": gain})
            if name == ROD:
                print(f"  alone {alone:.3f} {interval(truth, value)}", flush=True)
                print(f"  gain {gain:+.3f} {interval(truth, before, after)}", flush=True)
        rows += found
        random = pd.DataFrame(found[1:])
        for what in ("alone", "gain"):
            of = random[what]
            print(f"  random directions, {what}: {of.mean():.3f} ({of.min():.3f} to {of.max():.3f})", flush=True)
    pd.DataFrame(rows).to_csv(folder / "rods.csv", index=False)


if __name__ == "__main__":
    main()
