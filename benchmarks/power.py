"""How many patients, and how many cells of each, does a laboratory need? A large drawn cohort, several trainings.

``python -m benchmarks.power -o FOLDER --patients 200 --cells 20 --trainings 3`` draws a cohort and counts its concepts with
autoencoders that were trained on other drawn patients (those of `benchmarks.rare_marks`), each with another seed.
``methods``: `cytosae classify` with its baselines in the same folds and its null. ``curve``: the diagnosis with fewer
patients, and with fewer cells of every patient. Subsets are drawn three times; intervals are over subsets, trainings
and patients. What is there is not made again.
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

from benchmarks.rare_marks import Ground
from cytosae.analysis import classify
from cytosae.cohort import (
    BARCODES,
    CountSums,
    Products,
    candidates,
    chosen_predictions,
    classification_task,
    make_barcodes,
    stratified_folds,
)
from cytosae.concepts import encode, read_concepts, read_datasets
from cytosae.concepts.quality.resampling import Estimate
from cytosae.settings import ClassifyConfig
from cytosae.study import list_to, rendered
from cytosae.tokens import TokenStore, embed, store_layout

DRAWS = 3
CELLS = (5, 10, 20, 40)
SHARES = (0.15, 0.3, 0.5, 0.75, 1.0)
PARTS = ("methods", "curve")


def encoded(folder: Path, source: str, ground: Ground, training: int) -> Path:
    """Folder of the concepts of a drawn cohort, encoded with one of the autoencoders."""
    tokens, concepts = folder / "cohort-tokens", folder / f"concepts-{training}"
    if not (tokens / "manifest.json").is_file():
        cells, _ = list_to(rendered(Path(source), folder / "cohort"), folder / "cells.parquet")
        embed(cells, ground.backbone, tokens, store_layout(ground.backbone.info), workers=0)
    if not (concepts / "manifest.json").is_file():
        encode(TokenStore(tokens), ground.trained(training), concepts)
    return concepts


def methods(folder: Path, concepts: Path, training: int) -> list[dict[str, Any]]:
    """The table of `cytosae classify`, the null as its last row; baselines made of tokens once, they are the same."""
    made = folder / f"training-{training}"
    if not (made / BARCODES).is_file():
        make_barcodes([concepts], made / BARCODES)
    tokens = folder / "cohort-tokens" if training == 0 else None
    found = classify(made / BARCODES, made / "classification", ClassifyConfig(), tokens=tokens)
    null, sets = found["null"], found["conformal"]
    return [
        *(
            {"method": row["method"], **{k: row[k] for k in ("value", "low", "high", "auroc")}}
            for row in found["methods"]
        ),
        {"method": "permuted labels", "value": null["mean"], "low": null["low"], "high": null["high"]},
        {"method": "coverage of conformal sets", "value": sets["coverage"], "low": sets["low"], "high": sets["high"]},
    ]


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
    """Mean over the subsets and trainings; the interval holds the draws of the patients of all of them."""
    row: dict[str, Any] = {}
    for name in ("weighted_f1", "auroc"):
        values = [one[name] for one in found]
        every = np.concatenate([one.draws for one in values])
        estimate = Estimate.from_draws(float(np.mean([one.value for one in values])), every)
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return row


def curve(folders: list[Path], seed: int) -> list[dict[str, Any]]:
    """Rows of the learning curves: patients, cells of each, and the scores."""
    whole = [read_concepts(folder, next(iter(read_datasets(folder)))) for folder in folders]
    cells = whole[0].obs
    patients = cells["patient"].astype(str).to_numpy()
    diagnosis = pd.Series(patients).groupby(cells["diagnosis"].astype(str).to_numpy()).unique()

    def of(rows: NDArray[np.int64], draw: int) -> list[dict[str, Estimate]]:
        return [scores(barcodes(sp.csr_matrix(data.X), data.obs, rows), draw) for data in whole]

    table = []
    for share in SHARES:
        found = []
        for draw in range(DRAWS if share < 1 else 1):
            rng = np.random.default_rng([seed, draw])
            kept = np.concatenate([rng.permutation(names)[: max(4, round(share * len(names)))] for names in diagnosis])
            found += of(np.flatnonzero(np.isin(patients, kept)), draw)
        table.append({"patients": len(kept), "cells": "all", **averaged(found)})
        print(json.dumps(table[-1]), flush=True)
    for most in CELLS:
        found = []
        for draw in range(DRAWS):
            order = np.random.default_rng([seed, 7, draw]).permutation(len(cells))
            place = pd.Series(patients[order]).groupby(patients[order]).cumcount().to_numpy()
            found += of(np.sort(order[place < most]), draw)
        table.append({"patients": len(np.unique(patients)), "cells": f"up to {most}", **averaged(found)})
        print(json.dumps(table[-1]), flush=True)
    return table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--cells", type=int, default=20, help="of a patient, on average")
    parser.add_argument("--seed", type=int, default=301, help="of the drawn patients")
    parser.add_argument("--trainings", type=int, default=1, help="autoencoders, each trained with a seed of its own")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    ground = Ground(given.output)
    source = f"synthetic:patients={given.patients},cells={given.cells},seed={given.seed}"
    with threadpool_limits(1):
        folders = [encoded(given.output, source, ground, training) for training in range(given.trainings)]
        if "methods" in given.parts:
            tables = [
                pd.DataFrame(methods(given.output, folder, k)).assign(training=k) for k, folder in enumerate(folders)
            ]
            table = pd.concat(tables, ignore_index=True)
            table.to_json(given.output / "methods.json", orient="records", indent=1)
            print(table.round(3).to_string(), flush=True)
        if "curve" in given.parts:
            rows = curve(folders, given.seed)
            (given.output / "power.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            print(pd.DataFrame(rows).round(3).to_string())


if __name__ == "__main__":
    main()
