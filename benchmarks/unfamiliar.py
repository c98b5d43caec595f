"""Are cells of a type that no other patient has called unfamiliar, and how often are ordinary ones?

``python -m benchmarks.unfamiliar -o FOLDER``: drawn cohorts, the autoencoder of another one (those of
`benchmarks.teaching`). A patient keeps the cells of one type, all others lose theirs: the share of these cells above the
threshold, and of the patient's other cells. Then every patient as drawn: cells above the threshold, and patients with more
of them than the upper end of their interval. Means over cohorts, with the least and the largest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from benchmarks.teaching import CHOSEN_ON, JUDGED_ON, Cohort
from cytosae.cohort import unfamiliar_cells
from cytosae.concepts import cell_activations, is_common
from cytosae.sae import SAE, train
from cytosae.settings import PRESETS

PATIENTS = 6  # of each type, those with most of its cells


def judge(cohort: Cohort, sae: SAE) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row for each type and patient who alone has it; a row for each patient as drawn."""
    batches = np.array_split(np.arange(cohort.store.n_cells), cohort.store.n_cells // 32)
    means = sp.vstack([cell_activations(sae, tokens)[1] for tokens in cohort.store.stream(batches)]).tocsr()
    active = np.asarray((means > 0).sum(axis=0)).ravel()
    level = np.asarray(means.sum(axis=0)).ravel() / np.maximum(active, 1)
    usable = (np.log10(np.maximum(level, 1e-30)) > -3) & ~is_common(active / means.shape[0], 0.99)
    patient, label = (cohort.cells[name].astype(str).to_numpy() for name in ("patient", "label"))
    alone = []
    for kind in np.unique(label):
        names, counts = np.unique(patient[label == kind], return_counts=True)
        for name in names[np.argsort(-counts, kind="stable")][:PATIENTS]:
            mine, others = patient == name, (patient != name) & (label != kind)
            found = unfamiliar_cells(means[mine], means[others], patient[others], usable)
            above = found.distances > found.threshold
            odd = label[mine] == kind
            alone.append({"type": kind, "found": above[odd].mean(), "others": above[~odd].mean()})
    drawn = []
    for name in np.unique(patient):
        mine = patient == name
        found = unfamiliar_cells(means[mine], means[~mine], patient[~mine], usable)
        drawn.append({"share": len(found.cells) / mine.sum(), "beyond": len(found.cells) > found.chance.high})
    return pd.DataFrame(alone), pd.DataFrame(drawn)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    folder = parser.parse_args().output
    chosen_on = Cohort.make(folder, CHOSEN_ON)
    if not (chosen_on.folder / "sae" / "manifest.json").is_file():
        train(chosen_on.store, chosen_on.folder / "sae", PRESETS["recommended"])
    sae = SAE.from_pretrained(chosen_on.folder / "sae").requires_grad_(False)
    judged = {seed: judge(Cohort.make(folder, seed), sae) for seed in JUDGED_ON}
    alone = pd.concat([tables[0].assign(seed=seed) for seed, tables in judged.items()])
    print(f"{'type':22s} found, other cells of the same patient")
    for kind, rows in alone.groupby("type"):
        of_seeds = rows.groupby("seed")[["found", "others"]].mean()
        shown = (
            f"{of_seeds[name].mean():.3f} ({of_seeds[name].min():.3f} to {of_seeds[name].max():.3f})"
            for name in of_seeds
        )
        print(f"{kind:22s} {', '.join(shown)}")
    for seed, (_, drawn) in judged.items():
        print(
            f"seed {seed}: {drawn['share'].mean():.4f} of the cells, {drawn['beyond'].sum()} of {len(drawn)} patients beyond"
        )


if __name__ == "__main__":
    main()
