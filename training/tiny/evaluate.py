"""What is the built-in backbone worth? ``python -m training.tiny.evaluate --data ../shared/data/cells --model DIR``."""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cytosae.backbones import load
from cytosae.cells import load_squashed
from cytosae.cohort import cells_fitter, harmonised, left_out_laboratories
from cytosae.concepts.quality import auroc, recovery
from cytosae.sae.start import initialise
from cytosae.sae.state import new_state
from cytosae.sae.step import step
from cytosae.settings import TrainConfig
from cytosae.tokens import shuffled_batches
from training.tiny.data import split
from training.tiny.model import new_backbone

Features = NDArray[np.float32]

TRAINING = TrainConfig(
    expansion=4,
    matryoshka_levels=9,
    images=12_800,
    batch_images=16,
    l1=4e-5,
    learning_rate=5e-4,
    warmup_steps=50,
    directions_init="tokens",
    init_images=512,
    dead_latent_loss="none",
)
"""Of the autoencoder on real cells."""
SHARED_TYPES = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")
ELSEWHERE = ("segwbc_tecom", "segwbc_cellavision", "bccd_crops")
"""Data sets that are never trained on."""


def probe() -> Any:
    """Standardisation and logistic regression, the same for all features."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=400, C=0.1))


def colour_histograms(images: NDArray[np.uint8]) -> Features:
    """Share of pixels in each of 8 x 8 x 8 boxes of RGB, square root; ``(n, 512)``."""
    boxes = (images // 32).astype(np.int64) @ np.array([64, 8, 1])
    counts = np.stack([np.bincount(box.ravel(), minlength=512) for box in boxes])
    return np.sqrt(counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)


def pooled(model: str, images: NDArray[np.uint8]) -> Features:
    """Mean patch token after the second last block, ``(n, 192)``."""
    backbone = load(model)
    parts = [backbone.tokens(images[i : i + 64])[:, 1:].mean(dim=1) for i in range(0, len(images), 64)]
    return torch.cat(parts).cpu().numpy()


def cross_validated(features: Features, labels: NDArray[Any], seed: int = 0) -> NDArray[Any]:
    """Predicted labels, each from the other four of five stratified folds."""
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return np.asarray(cross_val_predict(probe(), features, labels, cv=folds))


def interval(labels: NDArray[Any], *answers: NDArray[Any], draws: int = 300) -> dict[str, list[float]]:
    """Weighted F1 and its 95 % bootstrap interval; with two predictions that of their difference as well."""
    rng, found = np.random.default_rng(0), []
    codes = np.unique(np.concatenate([labels, *answers]), return_inverse=True)[
        1
    ]  # numbers are scored faster than names
    labels, *predicted = np.split(codes, 1 + len(answers))
    for draw in range(draws + 1):
        rows = rng.integers(0, len(labels), len(labels)) if draw else np.arange(len(labels))
        found.append([f1_score(labels[rows], p[rows], average="weighted") for p in predicted])
    values = np.array(found)
    if len(predicted) == 2:
        values = np.hstack([values[:, :1], values[:, :1] - values[:, 1:]])
    names = ("f1", "gain")[: values.shape[1]]
    return {
        name: [float(v) for v in (column[0], *np.quantile(column[1:], [0.025, 0.975]))]
        for name, column in zip(names, values.T, strict=True)
    }


def elsewhere(features: Features, labels: NDArray[Any], datasets: NDArray[Any], seed: int = 0) -> dict[str, Any]:
    """Cell types learned on 150 pbc cells of each and asked in the laboratories that were never trained on.

    As they are, and with the rows of each laboratory standardised (no label needed); weighted F1 of each laboratory with its
    95 % bootstrap interval.
    """
    rng = np.random.default_rng(seed)
    learned = [rng.permutation(np.flatnonzero((datasets == "pbc") & (labels == one)))[:150] for one in SHARED_TYPES]
    asked = np.flatnonzero(np.isin(datasets, ELSEWHERE) & np.isin(labels, SHARED_TYPES))
    rows = np.concatenate([*learned, asked])
    target = np.searchsorted(SHARED_TYPES, labels[rows].astype(str))
    names, codes = np.unique(datasets[rows].astype(str), return_inverse=True)
    source, n = int(np.searchsorted(names, "pbc")), len(SHARED_TYPES)
    found: dict[str, Any] = {}
    for method in ("none", "standardise"):
        scores = left_out_laboratories(
            lambda out, method=method: harmonised([features[rows]], codes, method, out, only=source, least=20),  # type: ignore[misc]
            target,
            codes,
            np.arange(len(rows)),
            cells_fitter(n),
            n,
            only=source,
        )
        predicted = scores.predictions.probability[0].argmax(axis=1)
        found[method] = {
            str(name): interval(target[codes == code], predicted[codes == code])["f1"]
            for code, name in enumerate(names)
            if code != source
        }
    return found


def masked_tokens(model: str, table: pd.DataFrame, data: Path) -> tuple[Features, NDArray[np.bool_]]:
    """Patch tokens ``(n, 256, 192)`` of images with masks; which are mostly nucleus or cytoplasm, ``(n, 256, 2)``."""
    backbone = load(model)
    tokens, truth = [], []
    for path, mask in zip(table["path"], table["mask"], strict=True):
        tokens.append(backbone.tokens(load_squashed(data / path, 224)[None])[0, 1:].cpu().numpy())
        shown = np.asarray(Image.open(data / mask).convert("L").resize((224, 224), Image.Resampling.NEAREST))
        patches = shown.reshape(16, 14, 16, 14).transpose(0, 2, 1, 3).reshape(256, -1)
        truth.append(np.stack([(patches > 200).mean(1) > 0.5, ((patches > 60) & (patches < 200)).mean(1) > 0.5], 1))
    return np.stack(tokens), np.stack(truth)


def localisation(tokens: Features, truth: NDArray[np.bool_]) -> dict[str, float]:
    """Patch AUROC of a linear probe for nucleus and cytoplasm, trained on one half of the masked images."""
    even = np.arange(len(tokens)) % 2 == 0
    figures = {}
    for column, name in enumerate(("nucleus", "cytoplasm")):
        fitted = probe().fit(tokens[even].reshape(-1, tokens.shape[2]), truth[even][..., column].ravel())
        scores = fitted.decision_function(tokens[~even].reshape(-1, tokens.shape[2]))
        figures[name] = float(auroc(scores[:, None], truth[~even][..., column].reshape(-1, 1))[0, 0])
    return figures


def best_latents(
    model: str, images: NDArray[np.uint8], tokens: Features, truth: NDArray[np.bool_], seed: int = 0
) -> dict[str, float]:
    """Patch AUROC of the best latent for nucleus and cytoplasm, chosen on half of the masked images, judged on the other.

    The autoencoder is trained on 2,000 of all real cells.
    """
    backbone, config = load(model), TRAINING
    rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:2000])
    seen = torch.cat([backbone.tokens(images[rows[i : i + 50]]).cpu().half() for i in range(0, len(rows), 50)])
    state = new_state(config, seen.shape[2], torch.device("cpu"))
    sample = seen[:: len(seen) // config.init_images].flatten(0, 1).float()
    with torch.no_grad():
        initialise(state, sample, config)
    batches = shuffled_batches(np.arange(len(seen)), config.batch_images, config.seed)
    for batch in islice(batches, config.steps):
        step(state, seen[batch].flatten(0, 1).float(), config)
    with torch.no_grad():
        h = state.sae.encode(torch.from_numpy(tokens).flatten(0, 1))
    numbers = np.repeat(np.arange(len(tokens)), tokens.shape[1])
    found = recovery(h[:, (h > 0).any(0)].numpy(), truth.reshape(-1, 2), numbers)
    return {"nucleus": float(found.area[0]), "cytoplasm": float(found.area[1])}


def evaluate(data: Path, model: str, scratch: Path) -> dict[str, Any]:
    """All figures of the model card."""
    table = pd.read_csv(data / "cells.csv")
    images = np.stack([load_squashed(data / path, 224) for path in table["path"]])
    torch.manual_seed(0)
    new_backbone().save_pretrained(scratch / "random")
    features = {
        "tiny": pooled(model, images),
        "colour histograms": colour_histograms(images),
        "random weights": pooled(str(scratch / "random"), images),
    }
    results: dict[str, Any] = {}
    for name in ("pbc", "segwbc_tecom", "segwbc_cellavision", "bccd_crops"):
        rows = ((table["dataset"] == name) & table["label"].notna()).to_numpy()
        counts = table["label"].map(table["label"][rows].value_counts()).fillna(0).to_numpy()
        rows &= counts >= 10
        labels = table["label"][rows].to_numpy()
        predicted = {kind: cross_validated(x[rows], labels) for kind, x in features.items()}
        results[name] = {kind: interval(labels, p) for kind, p in predicted.items()}
        for kind in ("colour histograms", "random weights"):
            results[name][kind]["tiny gains"] = interval(labels, predicted["tiny"], predicted[kind])["gain"]
        results[name]["cells"] = int(rows.sum())
    trained, kept = split(data)
    where = {path: row for row, path in enumerate(table["path"])}
    a, b = ([where[path] for path in part["path"]] for part in (trained, kept))
    results["pbc, unseen tenth"] = {
        kind: interval(kept["label"].to_numpy(), probe().fit(x[a], trained["label"]).predict(x[b]))
        for kind, x in features.items()
    }
    results["pbc to others"] = {
        kind: elsewhere(x, table["label"].to_numpy(object), table["dataset"].to_numpy(object))
        for kind, x in features.items()
    }
    attributes = pd.read_csv(data / "pbc_attributes.csv")
    rows = np.array([where[path] for path in attributes["path"]])
    results["attributes"] = {
        kind: {
            name: float(
                f1_score(attributes[name], cross_validated(x[rows], attributes[name].to_numpy()), average="weighted")
            )
            for name in attributes.columns[2:13]
        }
        for kind, x in features.items()
    }
    for found in results["attributes"].values():
        found["mean"] = float(np.mean(list(found.values())))
    tokens, truth = masked_tokens(model, table[table["mask"].notna()], data)
    results["localisation"] = {
        "linear probe": localisation(tokens, truth),
        "best latent": best_latents(model, images, tokens, truth),
    }
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cells"), help="folder of the real cells")
    parser.add_argument("--model", default="tiny", help="backbone to evaluate")
    parser.add_argument("--out", type=Path, required=True, help="folder to write figures.json into")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    results = evaluate(given.data, given.model, given.out)
    (given.out / "figures.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
