"""The built-in backbones: how large they are, what they tell apart, and where they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cytosae.backbones import BUILT_IN, INPUT_SIZE, load
from cytosae.cells import load_squashed


def test_built_in_backbone_is_small_and_tells_places_apart(real_cells: Path) -> None:
    for folder in BUILT_IN.values():
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 8_000_000
    backbone = load("tiny")
    assert (backbone.info.d_model, backbone.info.n_tokens, backbone.info.depth) == (192, 257, 6)
    path = real_cells / "segwbc_cellavision" / "images"
    images = np.stack([load_squashed(p, INPUT_SIZE) for p in sorted(path.iterdir())[:4]])
    tokens = backbone.tokens(images)
    assert torch.isfinite(tokens).all()
    patches = tokens[:, 1:].unflatten(1, (16, 16))
    centre, corner = patches[:, 7:9, 7:9].flatten(1, 2), patches[:, :2, :2].flatten(1, 2)
    apart = (centre.mean(1) - corner.mean(1)).norm(dim=1)
    assert (apart > centre.std(1).norm(dim=1)).all()  # the cell in the middle differs from what surrounds it


def test_tiny_stains_holds_better_in_laboratories_never_seen(real_cells: Path) -> None:
    table = pd.read_csv(real_cells / "cells.csv")
    table = table[table["label"].isin(["eosinophil", "lymphocyte", "monocyte", "neutrophil"])]
    groups = table[table["dataset"].isin(["pbc", "segwbc_tecom", "bccd_crops"])].groupby(["dataset", "label"])
    cells = groups.sample(frac=1, random_state=0).groupby(["dataset", "label"]).head(20)
    images = np.stack([load_squashed(real_cells / path, INPUT_SIZE) for path in cells["path"]])
    learned = (cells["dataset"] == "pbc").to_numpy()
    right = {}
    for name in ("tiny", "tiny-stains"):
        backbone = load(name)
        parts = [backbone.tokens(images[i : i + 32])[:, 1:].mean(dim=1) for i in range(0, len(images), 32)]
        features = torch.cat(parts).float().numpy()
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=400))
        model.fit(features[learned], cells["label"][learned])
        right[name] = model.score(features[~learned], cells["label"][~learned])
    assert right["tiny-stains"] > right["tiny"] + 0.1
