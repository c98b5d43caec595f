"""How much do a few clicks teach? Drawn cells, whose structures are known, and an expert who clicks on them.

``python -m benchmarks.teaching -o FOLDER`` draws cohorts and writes one table a question: structures, judged on patients who
gave no mark, beside a plain logistic regression and the best latent chosen with all truth; and the diagnoses of patients
from barcodes of concepts that were taught in one laboratory. Settings were chosen on the cohort of seed 100, whose
autoencoder serves all; figures are of others. Every question is a line of ``FOLDER/teaching.jsonl``; what is there is not
asked again.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
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
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from cytosae.analysis.teaching_views import views_of
from cytosae.backbones import load
from cytosae.cohort import (
    ClassificationTask,
    CountSums,
    Folds,
    Products,
    candidates,
    chosen_predictions,
    classification_task,
    given_folds,
    stratified_folds,
)
from cytosae.concepts import cell_activations
from cytosae.concepts.quality import auroc
from cytosae.sae import SAE, train
from cytosae.sae.taught import Taught, with_taught
from cytosae.settings import CHOOSE, PRESETS, ClassifyConfig, TeachConfig
from cytosae.study import list_to, rendered
from cytosae.synthetic import CONCEPTS, patch_labels, read_concept_masks
from cytosae.teaching import Background, Learner, Views, marks_table, usable_marks
from cytosae.tokens import TokenStore, embed, store_layout

CHOSEN_ON, JUDGED_ON = 100, (201, 202, 203)
MARKS, WRONG = (5, 10, 20, 50), (0.0, 0.05, 0.1)
CELLS = 250  # of judged patients, all their patches
RANDOM, STRENGTH = 20_000, 0.01  # of the plain regression: the best C on the cohort that settings were chosen on
CONFIG = TeachConfig()


@dataclass(frozen=True)
class Cohort:
    """Drawn patients with tokens and truth."""

    folder: Path
    seed: int

    @classmethod
    def make(cls, folder: Path, seed: int) -> Cohort:
        """Draw and embed it; what is there is not made again."""
        own = folder / f"s{seed}"
        spec = Path(f"synthetic:patients=60,cells=40,seed={seed}")
        cells, _ = list_to(rendered(spec, own / "cohort"), own / "cells.parquet")
        model = load("tiny")
        embed(cells, model, own / "tokens", store_layout(model.info), workers=0)
        return cls(own, seed)

    @cached_property
    def store(self) -> TokenStore:
        return TokenStore(self.folder / "tokens")

    @property
    def cells(self) -> pd.DataFrame:
        return self.store.cells

    @cached_property
    def truth(self) -> NDArray[np.bool_]:
        """Whether each patch shows each structure, ``(n_cells, n_patches, n_structures)``."""
        masks = (read_concept_masks(self.folder / "cohort" / path) for path in self.cells["concepts"])
        return np.stack([patch_labels(mask).reshape(len(CONCEPTS), -1).T for mask in masks])

    @cached_property
    def first_half(self) -> NDArray[np.bool_]:
        """Cells of the patients who give marks."""
        patients = self.cells["patient"].astype(str)
        return patients.isin(sorted(patients.unique())[: patients.nunique() // 2]).to_numpy()

    def views(self, sae: SAE, among: NDArray[np.int64]) -> Views:
        """How the tokens of some of these cells change where they are turned and restained."""
        rows = np.sort(np.random.default_rng([CONFIG.teach_seed, 15]).permutation(among)[: CONFIG.views])
        return views_of(self.store, rows, sae, load("tiny"))

    def clicks(
        self, structure: int, count: int, wrong: float, among: NDArray[np.bool_], seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cells and patches that an expert clicks on; a share of the clicks hits any patch of the cell instead."""
        rng = np.random.default_rng([self.seed, structure, seed])
        shows = np.flatnonzero(self.truth[:, :, structure].any(axis=1) & among)
        rows = np.resize(rng.permutation(shows), count)
        patches = np.array([rng.choice(np.flatnonzero(self.truth[row, :, structure])) for row in rows])
        missed = rng.random(count) < wrong
        patches[missed] = rng.integers(0, self.truth.shape[1], int(missed.sum()))
        return rows, patches


def plain_regression(this: NDArray[np.float32], random: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weights of a logistic regression on standardised tokens, marks against random patches."""
    mean, spread = random.mean(axis=0), random.std(axis=0)
    x = (np.concatenate([this, random]) - mean) / spread
    y = np.repeat([1, 0], [len(this), len(random)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(LogisticRegression(C=STRENGTH, max_iter=100).fit(x, y).coef_[0] / spread)


def structures(cohort: Cohort, sae: SAE) -> list[dict[str, Any]]:
    """A row for each structure, number of marks and share of wrong clicks."""
    rng = np.random.default_rng([cohort.seed, 1])
    judged = np.sort(rng.permutation(np.flatnonzero(~cohort.first_half))[:CELLS])
    patches = cohort.store.read(judged)[:, 1:].float().flatten(0, 1).numpy()
    truth = cohort.truth[judged].reshape(len(patches), -1)
    with torch.no_grad():
        h = sp.vstack(
            [sp.csr_matrix(sae.encode(torch.from_numpy(part)).numpy()) for part in np.array_split(patches, 16)]
        )
    best = np.nanmax(auroc(h.tocsc(), truth), axis=0)
    marking = np.flatnonzero(cohort.first_half)
    source = Rows(cohort.store, marking)
    views = cohort.views(sae, marking)
    learner = Learner.on(Background.draw(source, sae, views=views))  # type: ignore[arg-type]
    some = np.sort(rng.permutation(marking)[:1000])
    random = cohort.store.read(some)[:, 1:].float().numpy()
    random = random[:, rng.permutation(random.shape[1])[: RANDOM // len(some)]].reshape(-1, random.shape[2])
    rows = []
    for structure, name in enumerate(CONCEPTS):
        for wrong in WRONG:
            for count in MARKS:
                cells, places = cohort.clicks(structure, count, wrong, cohort.first_half, seed=0)
                clicked = zip(cohort.cells["cell_id"].iloc[cells], places.tolist(), strict=True)
                table = marks_table((name, cell, place, "this") for cell, place in clicked)
                (marks,) = usable_marks(table, source.cells, truth.shape[0] // len(judged))
                start = time.perf_counter()
                learned = learner.learn(marks, CONFIG)
                seconds = time.perf_counter() - start
                tokens = cohort.store.read(cells).float().numpy()[np.arange(len(cells)), 1 + places]
                score = patches @ learned.weights
                plain = patches @ plain_regression(tokens, random)
                area, of_plain = (roc_auc_score(truth[:, structure], values) for values in (score, plain))
                shown = truth[:, structure]
                active = score + learned.bias > 0.2
                rows.append(
                    {
                        "structure": name, "marks": count, "wrong": wrong, "auroc": area, "plain": of_plain,
                        "best_latent": best[structure], "share": shown.mean(),
                        "ap": average_precision_score(shown, score), "plain_ap": average_precision_score(shown, plain),
                        "precision": shown[active].mean() if active.any() else np.nan, "recall": active[shown].mean(),
                        "cv": learned.auroc.value, "cv_low": learned.auroc.low, "cv_high": learned.auroc.high,
                        "against_random": area * (1 - shown.mean()) + shown.mean() / 2, "seconds": seconds,
                    }
                )  # fmt: skip
    return rows


class Rows:
    """Some cells of a store, as a source of tokens of their own."""

    def __init__(self, store: TokenStore, rows: NDArray[np.int64]) -> None:
        self.rows, self.layout, self._store = rows, store.layout, store
        self.cells = store.cells.iloc[rows].reset_index(drop=True)
        self.n_cells = len(rows)

    def stream(self, batches: Any, **options: Any) -> Any:
        """Tokens of each batch."""
        return self._store.stream((self.rows[batch] for batch in batches), **options)


def patients(cohort: Cohort, sae: SAE) -> dict[str, Any]:
    """Weighted F1 of the diagnoses, within laboratories and with one left out, by method."""
    laboratories = cohort.cells["laboratory"].astype(str)
    given = (laboratories == sorted(laboratories.unique())[0]).to_numpy()
    learner = Learner.on(Background.draw(cohort.store, sae, views=cohort.views(sae, np.flatnonzero(given))))
    taught = Taught.empty(learner.background.frame, sae.d_model)
    for structure, name in enumerate(CONCEPTS):
        cells, places = cohort.clicks(structure, 10, 0.0, given, seed=0)
        clicked = zip(cohort.cells["cell_id"].iloc[cells], places.tolist(), strict=True)
        table = marks_table((name, cell, place, "this") for cell, place in clicked)
        (marks,) = usable_marks(table, cohort.cells, cohort.truth.shape[1])
        taught = learner.learn(marks, CONFIG).add_to(taught, CONFIG)
    task = barcodes(cohort, with_taught(sae, taught))
    config = ClassifyConfig(repeats=3)
    divisions = {
        "within": stratified_folds(task.target, task.patients, config.splits, config.repeats, config.seed),
        "left out": given_folds(task.data.obs["laboratory"].astype(str), task.target, task.patients, "laboratory"),
    }
    is_taught = np.arange(task.data.n_vars) >= sae.n_latents
    figures: dict[str, Any] = {}
    for kind, keep in (("taught", is_taught), ("all", np.ones(len(is_taught), bool)), ("own latents", ~is_taught)):
        data = task.data[:, keep].copy()
        for centred in (False, True):
            groups = task.data.obs["laboratory"] if centred else None
            products = Products.from_barcodes(data, candidates(config), groups)
            figures[kind + (", centred" if centred else "")] = _scores(task, divisions, products, config)
        for transform in ("log-ratio", CHOOSE) if kind != "all" else ():
            given = replace(config, transform=transform)
            products = Products.from_barcodes(data, candidates(given))
            figures[f"{kind}, {transform}"] = _scores(task, divisions, products, given)
    types = Products.from_features(np.nan_to_num(task.data.obsm["cell_types"]))
    figures["cell-type fractions (experts)"] = _scores(task, divisions, types, config)
    return figures


def _scores(
    task: ClassificationTask, divisions: dict[str, Folds], products: Products, config: ClassifyConfig
) -> dict[str, list[float]]:
    found = {}
    for name, folds in divisions.items():
        estimate = chosen_predictions(task, folds, products, config).predictions.f1(config.bootstrap, config.seed)
        found[name] = [estimate.value, estimate.low, estimate.high]
    return found


def barcodes(cohort: Cohort, sae: SAE, rows: NDArray[np.int64] | None = None) -> ClassificationTask:
    """Barcodes of the patients from these cells (all, if None), with what a classification needs of them."""
    rows = np.arange(len(cohort.cells)) if rows is None else rows
    cells = cohort.cells.iloc[rows]
    codes, names = pd.factorize(cells["patient"].astype(str), sort=True)
    sums, start = CountSums.empty(len(names), sae.n_latents), 0
    for tokens in cohort.store.stream(np.array_split(rows, len(rows) // 32)):
        counts, _ = cell_activations(sae, tokens)
        sums.add(counts, codes[start : start + len(tokens)])
        start += len(tokens)
    first = cells.groupby(codes).first()
    obs = pd.DataFrame({name: first[name].astype(str) for name in ("patient", "diagnosis", "laboratory")})
    obs.index = pd.Index(names)
    data = ad.AnnData(sums.barcodes(), obs, layers=sums.layers())
    types = pd.crosstab(codes, cells["label"].astype(str))
    data.obsm["cell_types"] = types.div(types.sum(axis=1), axis=0).to_numpy()
    return classification_task(data, "diagnosis")


def tables(folder: Path) -> None:
    """Print what was found: means over cohorts with the least and the largest of them; gains with a 95 % t interval over
    structures.
    """
    lines = [json.loads(line) for line in (folder / "teaching.jsonl").read_text(encoding="utf-8").splitlines()]
    found = pd.concat(
        [pd.DataFrame(line["rows"]).assign(seed=line["seed"]) for line in lines if line["question"] == "structures"]
    )
    for wrong in WRONG:
        print(f"\nwrong clicks {wrong:.0%}")
        for count in MARKS:
            some = found[(found["wrong"] == wrong) & (found["marks"] == count)]
            by_seed = some.groupby("seed")[["auroc", "plain", "ap", "plain_ap", "precision", "recall"]].mean()
            mean = some.groupby("structure")[["auroc", "plain", "best_latent", "ap", "plain_ap"]].mean()
            inside = some["against_random"].between(some["cv_low"], some["cv_high"]).mean()
            ahead = (mean["auroc"] > mean["best_latent"]).sum()
            print(
                f"{count:3d} marks: AUROC {_range(by_seed['auroc'])}, plain {_range(by_seed['plain'])}, gain "
                f"{_gain(mean['auroc'] - mean['plain'])}; AP {_range(by_seed['ap'])}, plain {_range(by_seed['plain_ap'])}, "
                f"gain {_gain(mean['ap'] - mean['plain_ap'])}; at 0.95 {(mean['auroc'] >= 0.95).sum()}, plain "
                f"{(mean['plain'] >= 0.95).sum()}; ahead of the best latent {ahead}; precision "
                f"{by_seed['precision'].mean():.2f}, recall {by_seed['recall'].mean():.2f}; interval holds the truth "
                f"{inside:.0%}; {some['seconds'].median():.2f} s"
            )
    latents = found.groupby(["seed", "structure"])["best_latent"].first().unstack()
    print(f"best latent {_range(latents.mean(axis=1))}, at 0.95 {(latents.mean() >= 0.95).sum()}")
    cohorts = [line for line in lines if line["question"] == "patients"]
    for method in cohorts[0]["figures"] if cohorts else ():
        of_seeds = {kind: [line["figures"][method][kind] for line in cohorts] for kind in ("within", "left out")}
        shown = "; ".join(
            f"{kind} {np.mean([v[0] for v in values]):.2f} ("
            + ", ".join(f"{value:.2f} [{low:.2f} to {high:.2f}]" for value, low, high in values)
            + ")"
            for kind, values in of_seeds.items()
        )
        print(f"{method:32s} {shown}")


def _range(values: pd.Series) -> str:
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"


def _gain(values: pd.Series) -> str:
    half = student.ppf(0.975, len(values) - 1) * values.std() / len(values) ** 0.5
    return f"{values.mean():+.3f} ({values.mean() - half:+.3f} to {values.mean() + half:+.3f})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(JUDGED_ON))
    folder = parser.parse_args().output
    seeds = parser.parse_args().seeds
    chosen_on = Cohort.make(folder, CHOSEN_ON)
    if not (chosen_on.folder / "sae" / "manifest.json").is_file():
        train(chosen_on.store, chosen_on.folder / "sae", PRESETS["recommended"])
    sae = SAE.from_pretrained(chosen_on.folder / "sae").requires_grad_(False)
    path = folder / "teaching.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    done = {(line["question"], line["seed"]) for line in lines}
    for seed in seeds:
        cohort = Cohort.make(folder, seed)
        for question in ("patients", "structures"):
            if (question, seed) in done:
                continue
            answer = {"figures": patients(cohort, sae)} if question == "patients" else {"rows": structures(cohort, sae)}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"question": question, "seed": seed, **answer}) + "\n")
    tables(folder)


if __name__ == "__main__":
    main()
