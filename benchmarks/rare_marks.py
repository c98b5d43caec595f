"""A structure in one of sixty cells: does `compare` list a latent for it, and does the classifier find the patients?

``python -m benchmarks.rare_marks -o FOLDER`` trains an autoencoder on drawn patients of another seed and draws healthy
patients with sixty cells each. In half of them one cell gives way to a cell with the structure: an Auer rod in a blast,
a bundle of them in a promyelocyte, dark granules in an eosinophil. In the **controls** no cell gives way, or one to a
cell of the same type without the structure. In one kind the other half gets that cell, so that the structure alone
differs. Latents
that stand for the structure are chosen on other cells. A cohort is a line of ``FOLDER/places.jsonl`` and of
``FOLDER/auroc.jsonl``; what is there is not made again. The intervals are over cohorts.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from cytosae.backbones import Backbone, load
from cytosae.cohort import (
    REACH_Z,
    CountSums,
    Products,
    candidates,
    chosen_predictions,
    classification_task,
    compare,
    compare_reach,
    stratified_folds,
    transformed,
    without_components,
)
from cytosae.concepts import cell_activations
from cytosae.concepts.quality.resampling import Estimate
from cytosae.sae import SAE, train
from cytosae.settings import PRESETS, ClassifyConfig
from cytosae.study import list_to, rendered
from cytosae.synthetic import CONCEPTS, PROFILES, REFERENCE, patch_labels, render_cell
from cytosae.synthetic.profiles import drawn_profile
from cytosae.synthetic.recipes import CELL_TYPES
from cytosae.tokens import TokenStore, embed, store_layout

TRAINED_ON = "synthetic:patients=60,cells=40,seed=100"
PATIENTS, CELLS, SPARE, TAU = 60, 60, 120, 0.2
STRUCTURES = {
    "auer_rod": ("blast", {"auer_rod": 1.0}, {"auer_rod": 0.0}),
    "faggot": ("promyelocyte", {"faggot": 1.0, "auer_rod": 0.0}, {"faggot": 0.0, "auer_rod": 0.0}),
    "basophilic_granules": ("eosinophil", {"basophilic_granules": 1.0}, {"basophilic_granules": 0.0}),
}
"""Type of the cell with each structure, and the traits with and without it."""
KINDS = ("structure", "same cell in all", "cell without it", "nothing")
"""What the first half of the patients has that the others lack; in the second the others have the cell without it."""
COMPARED = {
    "counts": ("count", "none"),
    "counts, log1p": ("count", "log1p"),
    "share, log1p": ("share", "log1p"),
    "top, log1p": ("top", "log1p"),
    "strongest, log1p": ("strongest", "log1p"),
}
COMPONENTS = (5, 10)
"""Principal components of the patients that are taken out."""
CLASSIFIED = {
    "counts (paper's features)": ("counts", "none"),
    "default": ("choose", "log1p"),
    "top": ("top", "log1p"),
    "strongest cell": ("strongest", "log1p"),
}


@dataclass(frozen=True)
class Ground:
    """The autoencoder and the cells."""

    folder: Path

    @cached_property
    def backbone(self) -> Backbone:
        """Makes tokens."""
        return load("tiny", dtype="float32", device="cpu")

    @cached_property
    def sae(self) -> SAE:
        """Trained on patients of another seed."""
        return self.trained(0)

    def trained(self, seed: int) -> SAE:
        """The same cells, trained with a seed."""
        folder = self.folder / ("sae" if seed == 0 else f"sae-{seed}")
        if not (folder / "model.safetensors").is_file():
            if not (self.folder / "tokens" / "manifest.json").is_file():
                cells, _ = list_to(rendered(Path(TRAINED_ON), self.folder / "drawn"), self.folder / "drawn.parquet")
                embed(cells, self.backbone, self.folder / "tokens", store_layout(self.backbone.info), workers=0)
            train(TokenStore(self.folder / "tokens"), folder, replace(PRESETS["recommended"], seed=seed), device="cpu")
        return SAE.from_pretrained(folder)

    def tokens(self, pictures: list[NDArray[np.uint8]]) -> torch.Tensor:
        """Tokens of some cells as the autoencoder takes them, ``(n_cells, n_tokens, d_model)``."""
        return self.sae.centred(self.backbone.tokens(np.stack(pictures)))

    def counts(self, name: str, cells: list[tuple[str, dict[str, float], int]]) -> sp.csr_matrix:
        """Counts of drawn cells (type, traits, number of the generator), kept in a file."""
        path = self.folder / f"{name}.npz"
        if not path.is_file():
            parts = []
            for start in range(0, len(cells), 32):
                pictures = [self.picture(*cell)[0] for cell in cells[start : start + 32]]
                parts.append(cell_activations(self.sae, self.tokens(pictures), TAU)[0])
            sp.save_npz(path, sp.csr_matrix(sp.vstack(parts)))
        return sp.csr_matrix(sp.load_npz(path))

    def picture(
        self, cell_type: str, traits: dict[str, float], number: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """One drawn cell and its structures."""
        return render_cell(cell_type, np.random.default_rng([977, number]), laboratory=REFERENCE, traits=traits)

    def healthy(self, seed: int) -> sp.csr_matrix:
        """Counts of the cells of healthy patients, patient by patient."""
        cells: list[tuple[str, dict[str, float], int]] = []
        for patient in range(PATIENTS):
            rng = np.random.default_rng([seed, patient])
            fractions, rates = drawn_profile(PROFILES["healthy"], rng)
            for cell in range(CELLS):
                kind = CELL_TYPES[int(rng.choice(len(CELL_TYPES), p=fractions))]
                cells.append((kind, dict(rates.get(kind, {})), (seed * 1000 + patient) * 1000 + cell))
        return self.counts(f"healthy-{seed}", cells)

    def spare(self, structure: str, seed: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Counts of cells with a structure and of cells of the same type without it."""
        kind, *traits = STRUCTURES[structure]
        start = (500 + seed) * 10**7 + 10**5 * list(STRUCTURES).index(structure)
        both = [
            self.counts(f"{structure}-{seed}-{side}", [(kind, one, start + SPARE * side + i) for i in range(SPARE)])
            for side, one in enumerate(traits)
        ]
        return both[0], both[1]

    def standing_for(self, structure: str) -> list[int]:
        """The three latents with the best average precision on patches of cells of their own."""
        path = self.folder / f"latents-{structure}.json"
        if not path.is_file():
            kind, own, others = STRUCTURES[structure]
            pictures = [self.picture(kind, own if i % 2 else others, 10**6 + i) for i in range(80)]
            with torch.no_grad():
                h = self.sae.encode(self.tokens([image for image, _ in pictures])[:, 1:].flatten(0, 1)).numpy()
            truth = patch_labels(np.stack([masks for _, masks in pictures]))[:, CONCEPTS.index(structure)].ravel()
            fired = np.flatnonzero((h[truth] > 0).any(axis=0))
            precision = [average_precision_score(truth, h[:, latent]) for latent in fired]
            best = np.argsort(precision)[::-1][:3]
            path.write_text(json.dumps({"latents": fired[best].tolist(), "precision": [precision[b] for b in best]}))
        return list(json.loads(path.read_text())["latents"])


def cohort(ground: Ground, structure: str, kind: str, seed: int, draw: int) -> ad.AnnData:
    """Barcodes of 60 healthy patients, the first half of whom, drawn anew, is marked."""
    rng = np.random.default_rng([seed, draw, list(STRUCTURES).index(structure)])
    cells, (own, without) = ground.healthy(seed), ground.spare(structure, seed)
    marked = rng.permutation(np.arange(PATIENTS) % 2 == 0)
    takes_place = rng.integers(0, CELLS, PATIENTS) + CELLS * np.arange(PATIENTS)
    spare = rng.permutation(SPARE)[:PATIENTS]
    rows = []
    for patient in range(PATIENTS):
        source = {
            "structure": own if marked[patient] else None,
            "same cell in all": own if marked[patient] else without,
            "cell without it": without if marked[patient] else None,
            "nothing": None,
        }[kind]
        place = takes_place[patient]
        block = cells[patient * CELLS : (patient + 1) * CELLS]
        if source is not None:
            kept = np.delete(np.arange(CELLS), place - patient * CELLS)
            block = sp.vstack([block[kept], source[spare[patient]]])
        rows.append(block)
    sums = CountSums.empty(PATIENTS, cells.shape[1])
    sums.add(sp.csr_matrix(sp.vstack(rows)), np.repeat(np.arange(PATIENTS), CELLS))
    names = [f"P{i}" for i in range(PATIENTS)]
    obs = pd.DataFrame({"patient": names, "n_cells": CELLS, "group": np.where(marked, "marked", "others")}, index=names)
    return ad.AnnData(sums.barcodes(), obs, layers=sums.layers())


def places(ground: Ground, structure: str, kind: str, seed: int, draw: int) -> dict[str, Any]:
    """Best place of a standing latent in the lists of `compare`, its false-discovery rate, and how many latents have one of
    at most 0.1.
    """
    data = cohort(ground, structure, kind, seed, draw)
    latents, first = ground.standing_for(structure), (data.obs["group"] == "marked").to_numpy()
    found: dict[str, Any] = {}
    blocks = {name: transformed(data, block, transform) for name, (block, transform) in COMPARED.items()}
    for name, values in blocks.items():
        table = compare(values, first, draws=20, permutations=1000, prevalence=0.02)
        table = table.join(compare_reach(values, first, tested=table["tested"], permutations=1000))
        for by, fdr in (("difference", "fdr"), ("effect", ""), (REACH_Z, "reach_fdr")):
            order = np.argsort(-np.nan_to_num(table[by].to_numpy(), nan=-np.inf), kind="stable")
            found[f"place by {by} | {name}"] = int(1 + np.flatnonzero(np.isin(order, latents)).min())
            if fdr:
                found[f"{fdr} | {name}"] = float(np.nanmin(table[fdr].to_numpy()[latents], initial=1.0))
                found[f"latents with {fdr} of 0.1 | {name}"] = int((table[fdr] <= 0.1).sum())
        for components in COMPONENTS:
            left = without_components(values, components, np.zeros(len(first)))
            table = compare(left, first, occurring=values, draws=20, permutations=0, prevalence=0.02)
            shown = np.where(table["tested"], table["effect"], -np.inf)
            order = np.argsort(-np.nan_to_num(shown, nan=-np.inf), kind="stable")
            place = int(1 + np.flatnonzero(np.isin(order, latents)).min())
            found[f"place by effect | {name}, less {components} components"] = place
    return found


def areas(ground: Ground, structure: str, kind: str, seed: int, draw: int) -> dict[str, Any]:
    """AUROC of the classifier."""
    data = cohort(ground, structure, kind, seed, draw)
    found: dict[str, Any] = {}
    task = classification_task(data, "group")
    folds = stratified_folds(task.target, task.patients, 5, 2, draw)
    for name, (features, transform) in CLASSIFIED.items():
        config = ClassifyConfig(features=features, transform=transform, permutations=0)
        products = Products.from_barcodes(task.data, candidates(config))
        predictions = chosen_predictions(task, folds, products, config).predictions
        found[f"auroc | {name}"] = predictions.scores(20, 0)["auroc"].value
    return found


PARTS = {"places": places, "auroc": areas}
"""What is measured of each cohort."""


def report(name: str, values: NDArray[np.float64]) -> str:
    """A figure over cohorts, in words."""
    if name.startswith("auroc"):
        area = Estimate.mean(values, 1000)
        return f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})"
    if name.startswith("place"):
        ten = Estimate.mean(values <= 10, 1000)
        first = f"among the first ten in {ten.value:.0%} ({ten.low:.0%} to {ten.high:.0%})"
        return f"median {np.median(values):.0f}, {first}"
    if name.startswith("latents"):
        return f"any in {np.mean(values > 0):.0%}, mean {values.mean():.2f}"
    return f"at most 0.1 in {np.mean(values <= 0.1):.0%}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2, help="sets of healthy patients")
    parser.add_argument("--first-seed", type=int, default=0, help="number of the first; 2 and 3 are to choose on")
    parser.add_argument("--draws", type=int, default=5, help="cohorts of each set")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    ground = Ground(given.output)
    torch.set_num_threads(1)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    cohorts = [
        (s, kind, seed, draw)
        for seed in seeds
        for draw in range(given.draws)
        for s in STRUCTURES
        for kind in given.kinds
    ]
    for part in given.parts:
        path = given.output / f"{part}.jsonl"
        done = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        made = {tuple(line["cohort"]) for line in done}
        with path.open("a") as file, threadpool_limits(1):
            for key in cohorts:
                if key not in made:
                    done.append({"cohort": key, **PARTS[part](ground, *key)})
                    print(json.dumps(done[-1]), file=file, flush=True)
        table = pd.DataFrame([line for line in done if tuple(line["cohort"]) in cohorts])
        table[["structure", "kind"]] = [line["cohort"][:2] for line in done if tuple(line["cohort"]) in cohorts]
        for (structure, kind), rows in table.groupby(["structure", "kind"], sort=False):
            print(f"{structure}, {kind}: {len(rows)} cohorts")
            for name in (str(column) for column in table if " | " in str(column)):
                print(f"  {name}: {report(name, rows[name].to_numpy(float))}")


if __name__ == "__main__":
    main()
