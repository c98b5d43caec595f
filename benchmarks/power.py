"""How many patients, and how many cells of each, does a laboratory need? Learning curves on drawn patients.

``python -m benchmarks.power -o FOLDER --patients 200 --cells 40`` draws a cohort, counts its concepts with an autoencoder
that was trained on other drawn patients (that of `benchmarks.rare_marks`, or ``--sae``), and classifies the diagnosis with
fewer patients, and with fewer cells of every patient. Subsets are drawn three times; intervals are over draws and patients.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.rare_marks import TAU, Ground
from cytosae.cohort import (
    CountSums,
    Products,
    candidates,
    chosen_predictions,
    classification_task,
    stratified_folds,
)
from cytosae.concepts import cell_activations
from cytosae.concepts.quality.resampling import Estimate
from cytosae.sae import SAE
from cytosae.settings import ClassifyConfig
from cytosae.study import list_to, rendered
from cytosae.tokens import LiveTokens, store_layout

BATCH, DRAWS = 32, 3
CELLS = (5, 10, 20, 40)
SHARES = (0.15, 0.3, 0.5, 0.75, 1.0)


def counted(folder: Path, source: str, sae: SAE, ground: Ground) -> tuple[sp.csr_matrix, pd.DataFrame]:
    """Counts of all cells of a drawn cohort ``(n_cells, n_latents)``, kept in a file, and their table."""
    cells, _ = list_to(rendered(Path(source), folder / "cohort"), folder / "cells.parquet")
    path = folder / "counts.npz"
    if not path.is_file():
        live = LiveTokens(cells, lambda: ground.backbone, store_layout(ground.backbone.info), workers=0)
        batches = [np.arange(i, min(i + BATCH, len(cells))) for i in range(0, len(cells), BATCH)]
        parts = [cell_activations(sae, sae.centred(tokens.float()), TAU)[0] for tokens in live.stream(batches)]
        sp.save_npz(path, sp.csr_matrix(sp.vstack(parts)))
    return sp.csr_matrix(sp.load_npz(path)), cells


def barcodes(counts: sp.csr_matrix, cells: pd.DataFrame, rows: NDArray[np.int64]) -> ad.AnnData:
    """Barcodes of the patients of some cells."""
    codes, names = pd.factorize(cells["patient"].iloc[rows].astype(str), sort=True)
    sums = CountSums.empty(len(names), counts.shape[1])
    sums.add(sp.csr_matrix(counts[rows]), codes.astype(np.int64))
    diagnoses = cells.groupby(cells["patient"].astype(str))["diagnosis"].first().loc[names].astype(str)
    obs = pd.DataFrame({"patient": names, "n_cells": sums.n_cells, "diagnosis": diagnoses.to_numpy()}, index=names)
    return ad.AnnData(sums.barcodes(), obs, layers=sums.layers())


def scores(data: ad.AnnData, seed: int) -> dict[str, Estimate]:
    """Of the default classifier in five folds, drawn twice."""
    config = ClassifyConfig(permutations=0, seed=seed)
    task = classification_task(data, "diagnosis")
    folds = stratified_folds(task.target, task.patients, config.splits, 2, seed)
    products = Products.from_barcodes(task.data, candidates(config))
    return chosen_predictions(task, folds, products, config).predictions.scores(500, seed)


def averaged(found: list[dict[str, Estimate]]) -> dict[str, Any]:
    """Mean over the subsets; the interval holds the draws of the patients of all of them."""
    row: dict[str, Any] = {}
    for name in ("weighted_f1", "auroc"):
        values = [one[name] for one in found]
        every = np.concatenate([one.draws for one in values])
        estimate = Estimate.from_draws(float(np.mean([one.value for one in values])), every)
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return row


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--seed", type=int, default=301)
    parser.add_argument("--sae", type=Path, help="autoencoder of tokens of tiny; trained on other patients if left out")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    ground = Ground(given.output)
    sae = ground.sae if given.sae is None else SAE.from_pretrained(given.sae)
    source = f"synthetic:patients={given.patients},cells={given.cells},seed={given.seed}"
    counts, cells = counted(given.output, source, sae, ground)
    patients = cells["patient"].astype(str).to_numpy()
    diagnosis = pd.Series(patients).groupby(cells["diagnosis"].astype(str).to_numpy()).unique()
    rows = []
    with threadpool_limits(1):
        for share in SHARES:
            found = []
            for draw in range(DRAWS if share < 1 else 1):
                rng = np.random.default_rng([given.seed, draw])
                kept = np.concatenate(
                    [rng.permutation(names)[: max(4, round(share * len(names)))] for names in diagnosis]
                )
                found.append(scores(barcodes(counts, cells, np.flatnonzero(np.isin(patients, kept))), draw))
            rows.append({"patients": len(kept), "cells": "all", **averaged(found)})
            print(json.dumps(rows[-1]), flush=True)
        for most in CELLS:
            found = []
            for draw in range(DRAWS):
                order = np.random.default_rng([given.seed, 7, draw]).permutation(len(cells))
                place = pd.Series(patients[order]).groupby(patients[order]).cumcount().to_numpy()
                found.append(scores(barcodes(counts, cells, np.sort(order[place < most])), draw))
            rows.append({"patients": given.patients, "cells": f"up to {most}", **averaged(found)})
            print(json.dumps(rows[-1]), flush=True)
    (given.output / "power.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(pd.DataFrame(rows).round(3).to_string())


if __name__ == "__main__":
    main()
