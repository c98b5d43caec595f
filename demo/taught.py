"""What an expert could teach the demonstration's study: here the clicks come from what was planted, and stand for one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from cytosae.analysis.teaching_views import views_of
from cytosae.backbones import load
from cytosae.cohort import (
    CountSums,
    Products,
    candidates,
    chosen_predictions,
    classification_task,
    given_folds,
    stratified_folds,
)
from cytosae.sae import SAE
from cytosae.sae.taught import THRESHOLD
from cytosae.settings import ClassifyConfig, TeachConfig
from cytosae.synthetic import CONCEPTS, patch_labels, read_concept_masks
from cytosae.teaching import Background, Learner, marks_table, usable_marks
from cytosae.tokens import TokenStore
from demo.study import BACKBONE, STUDY

CLICKS = 10
_JUDGED = 250  # cells of the other laboratories


def teach_planted() -> dict[str, Any]:
    """Teach every planted structure by ten clicks, all in one laboratory; the study stays as it is.

    Returns
    -------
    Mean AUROC of the concepts on cells of the other laboratories; weighted F1 of telling the patients' groups from barcodes
    of these concepts alone, within laboratories and with one left out, by how the barcodes are transformed.
    """
    store = TokenStore(STUDY / "tokens")
    cells = store.cells
    masks = (read_concept_masks(STUDY / "cohort" / path) for path in cells["concepts"])
    truth = np.stack([patch_labels(mask).reshape(len(CONCEPTS), -1).T for mask in masks])
    laboratories = cells["laboratory"].astype(str).to_numpy()
    taught_in = sorted(set(laboratories))[0]
    weights, bias = _learned(store, truth, laboratories == taught_in)
    rng = np.random.default_rng(1)
    others = np.sort(rng.permutation(np.flatnonzero(laboratories != taught_in))[:_JUDGED])
    z = store.read(others)[:, 1:].float().flatten(0, 1).numpy() @ weights + bias
    areas = [roc_auc_score(shown, score) for shown, score in zip(truth[others].reshape(len(z), -1).T, z.T, strict=True)]
    data = _barcodes(store, weights, bias)
    store.close()
    return {"laboratory": taught_in, "clicks": CLICKS, "auroc": float(np.mean(areas)), "methods": _told(data)}


def _learned(
    store: TokenStore, truth: NDArray[np.bool_], given: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights ``(d_model, n_structures)`` and biases of the concepts, each from clicks on cells that show it."""
    sae, rows = SAE.from_pretrained(STUDY / "sae"), np.random.default_rng(2).permutation(np.flatnonzero(given))
    views = views_of(store, np.sort(rows[: TeachConfig().views]), sae, load(BACKBONE))
    learner = Learner.on(Background.draw(store, sae, views=views))
    learned = []
    for structure, name in enumerate(CONCEPTS):
        rng = np.random.default_rng([structure, 3])
        shows = rng.permutation(np.flatnonzero(truth[:, :, structure].any(axis=1) & given))[:CLICKS]
        places = [int(rng.choice(np.flatnonzero(truth[row, :, structure]))) for row in shows]
        clicked = zip(store.cells["cell_id"].iloc[shows], places, strict=True)
        table = marks_table((name, cell, place, "this") for cell, place in clicked)
        (marks,) = usable_marks(table, store.cells, truth.shape[1])
        learned.append(learner.learn(marks))
    return np.stack([one.weights for one in learned], axis=1), np.array([one.bias for one in learned], np.float32)


def _barcodes(store: TokenStore, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> ad.AnnData:
    """Barcodes of the patients that count these concepts alone."""
    cells = store.cells
    codes, names = pd.factorize(cells["patient"].astype(str), sort=True)
    sums = CountSums.empty(len(names), len(bias))
    batches = np.array_split(np.arange(len(cells)), len(cells) // 32)
    for rows, tokens in zip(batches, store.stream(batches), strict=True):
        shown = tokens[:, 1:].float().numpy() @ weights + bias > THRESHOLD
        sums.add(sp.csr_matrix(shown.sum(axis=1, dtype=np.int32)), codes[rows])
    first = cells.groupby(codes).first()
    obs = pd.DataFrame({name: first[name].astype(str) for name in ("patient", "diagnosis", "laboratory")})
    obs.index = pd.Index(names)
    return ad.AnnData(sums.barcodes(), obs, layers=sums.layers())


def _told(data: ad.AnnData) -> list[dict[str, Any]]:
    task, rows = classification_task(data, "diagnosis"), []
    laboratories = task.data.obs["laboratory"].astype(str)
    for title, transform, groups in (
        ("taught concepts", "log1p", None),
        ("taught concepts, log-ratios", "log-ratio", None),
        ("taught concepts, centred by laboratory", "log1p", laboratories),
    ):
        config = replace(ClassifyConfig(repeats=3), transform=transform)
        products = Products.from_barcodes(task.data, candidates(config), groups)
        row: dict[str, Any] = {"method": title}
        for name, folds in (
            ("within", stratified_folds(task.target, task.patients, config.splits, config.repeats, config.seed)),
            ("left_out", given_folds(laboratories, task.target, task.patients, "laboratory")),
        ):
            f1 = chosen_predictions(task, folds, products, config).predictions.f1(config.bootstrap, config.seed)
            row[name] = {"value": f1.value, "low": f1.low, "high": f1.high}
        rows.append(row)
    return rows


def tell_taught(found: dict[str, Any]) -> None:
    """Print the figures, and where the clicks come from."""
    print(
        f"\n{len(CONCEPTS)} structures, each taught by {found['clicks']} clicks in one laboratory ({found['laboratory']})"
    )
    print("(the clicks come from what was planted, in place of an expert's)")
    print(f"mean AUROC on cells of the other laboratories  {found['auroc']:.3f}")
    print("weighted F1 of telling the five groups, within laboratories and with one left out")
    for row in found["methods"]:
        within, left = (
            f"{one['value']:.2f} ({one['low']:.2f} to {one['high']:.2f})" for one in (row["within"], row["left_out"])
        )
        print(f"  {row['method']:<40} {within}   {left}")
