"""Do the settings that find rare marks harm ordinary diagnoses? Three defaults of `classify`, and the lists of `compare`.

``python -m benchmarks.ordinary STUDY [STUDY ...] -o FOLDER`` takes studies of drawn patients, each with its cohort and
tokens (``cytosae run synthetic:...``). **classify**: five folds, drawn five times, and one laboratory after the other left
out, with the strongest cell in the place of the five strongest; differences are of paired draws of the patients.
**lists**: at which place of the comparison of a disease with the rest, within laboratories, is the first of the three
latents that stand for each mark of the disease? They are chosen on cells of another study, by its masks. A study is a
file of ``FOLDER``; what is there is not made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import torch
from demo.diseases import standing_for
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cytosae.cells import read_cells
from cytosae.cohort import (
    REACH_Z,
    Folds,
    Products,
    Representation,
    chosen_predictions,
    classification_task,
    compare,
    compare_reach,
    given_folds,
    make_barcodes,
    make_strata,
    read_barcodes,
    stratified_folds,
    transformed,
)
from cytosae.concepts.quality.resampling import Estimate
from cytosae.sae import SAE
from cytosae.settings import ClassifyConfig
from cytosae.synthetic import disease_concepts, patch_labels, read_concept_masks
from cytosae.tokens import TokenStore

DEFAULTS = {
    "counts+share or top": ("counts+share", "top"),
    "counts+share or strongest": ("counts+share", "strongest"),
    "counts+share, top or strongest": ("counts+share", "top", "strongest"),
}
"""What is chosen from, log1p; the last is the default, the first was it before."""
LISTS = {"counts": ("count", "none"), "top, log1p": ("top", "log1p"), "strongest, log1p": ("strongest", "log1p")}
ORDERS = {"difference": "difference", "effect": "effect", "reach": REACH_Z}
CELLS, DRAWS = 300, 1000
"""Cells of another study on which the latents of each mark are chosen; draws of the patients."""


def classified(data: ad.AnnData) -> dict[str, Any]:
    """Scores of every default, and differences from the first in paired draws."""
    task = classification_task(data, "diagnosis")
    groups, config = list(task.patients), ClassifyConfig(permutations=0)
    designs: dict[str, Folds] = {
        "five folds": stratified_folds(task.target, groups, config.splits, config.repeats, config.seed),
        "laboratory left out": given_folds(task.data.obs["laboratory"], task.target, groups, "laboratory"),
    }
    found: dict[str, Any] = {}
    for design, folds in designs.items():
        scores = {}
        for name, kinds in DEFAULTS.items():
            products = Products.from_barcodes(task.data, [Representation(kind, "log1p") for kind in kinds])
            scores[name] = chosen_predictions(task, folds, products, config).predictions.scores(DRAWS, 0)
        first = scores[next(iter(DEFAULTS))]
        for name, own in scores.items():
            for score in ("weighted_f1", "auroc"):
                gain = own[score].gain_over(first[score])
                found[f"{design} | {score} | {name}"] = {
                    "value": own[score].value,
                    "low": own[score].low,
                    "high": own[score].high,
                    "gain": gain.value,
                    "gain_draws": np.round(gain.draws, 6).tolist(),
                }
    return found


def standing(study: Path, other: Path) -> dict[str, list[int]]:
    """The three latents of a study's autoencoder that stand for each mark, chosen on cells of another study."""
    cells, sae = read_cells(other / "cells.parquet"), SAE.from_pretrained(study / "sae")
    rows = np.sort(np.random.default_rng(0).choice(len(cells), min(CELLS, len(cells)), replace=False))
    masks = np.stack([read_concept_masks(other / "cohort" / path) for path in cells["concepts"].iloc[rows]])
    truth = np.moveaxis(patch_labels(masks), 1, -1)
    store = TokenStore(other / "tokens")
    with torch.no_grad():
        tokens = sae.centred(store.read(rows).float())[:, 1:].flatten(0, 1)
        h = torch.cat([sae.encode(part) for part in tokens.split(4096)]).numpy()
    store.close()
    fired = np.flatnonzero((h > 0).any(axis=0))
    truth = truth.reshape(len(h), -1)
    return {mark: [int(fired[s]) for s in best] for mark, best in standing_for(h[:, fired], truth).items()}


def listed(data: ad.AnnData, standing: dict[str, list[int]]) -> dict[str, dict[str, int]]:
    """Place of the first standing latent of each mark in every list."""
    found: dict[str, dict[str, int]] = {}
    strata = make_strata(data.obs["laboratory"].astype(str), data.n_obs)
    for block, (name, transform) in LISTS.items():
        values = transformed(data, name, transform)
        for disease, marks in disease_concepts.items():
            first = (data.obs["diagnosis"] == disease).to_numpy()
            table = compare(values, first, strata, draws=20, permutations=0)
            table = table.join(compare_reach(values, first, strata, tested=table["tested"], permutations=0))
            for order, column in ORDERS.items():
                ranked = np.argsort(-np.nan_to_num(table[column].to_numpy(), nan=-np.inf), kind="stable")
                for mark in set(marks) & set(standing):
                    place = int(1 + np.flatnonzero(np.isin(ranked, standing[mark])).min())
                    found.setdefault(f"{block} | {order}", {})[f"{disease} | {mark}"] = place
    return found


def _words(values: NDArray[np.float64] | list[float]) -> str:
    one = Estimate.mean(values, 1000)
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def tell(studies: list[dict[str, Any]]) -> None:
    """Print means over the studies; intervals of gains are over the patients of all, those of places over marks."""
    for name in studies[0]["classify"]:
        rows = [study["classify"][name] for study in studies]
        draws = np.mean([row["gain_draws"] for row in rows], axis=0)
        gain = Estimate.from_draws(float(np.mean([row["gain"] for row in rows])), draws)
        each = " ".join(f"{row['gain']:+.3f}" for row in rows)
        mean = np.mean([row["value"] for row in rows])
        print(f"{name}: {mean:.3f}, gain {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}); each {each}")
    for name in studies[0]["lists"]:
        places = np.array([place for study in studies for place in study["lists"][name].values()])
        shares = ", ".join(f"first {n} {_words((places <= n).astype(float))}" for n in (10, 50))
        print(f"{name}: median place {np.median(places):.0f}, {shares}, {len(places)} marks")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found = []
    for place, study in enumerate(given.studies):
        path = given.output / f"{study.name}.json"
        if not path.is_file():
            with threadpool_limits(1):
                barcodes = given.output / f"{study.name}.h5ad"
                make_barcodes([study / "concepts"], barcodes)
                data = read_barcodes(barcodes)
                other = given.studies[place - 1]
                marks = {} if other == study else listed(data, standing(study, other))
                path.write_text(json.dumps({"classify": classified(data), "lists": marks}), encoding="utf-8")
        found.append(json.loads(path.read_text(encoding="utf-8")))
    tell(found)


if __name__ == "__main__":
    main()
