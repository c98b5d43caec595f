"""Barcodes of made-up patients, and concepts of which barcodes are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch

from cytosae.concepts import encode
from cytosae.sae import SAE
from cytosae.settings import ClassifyConfig, EncodeConfig
from cytosae.tokens import TokenStore

QUICK = ClassifyConfig(splits=4, repeats=2, step=1.0, permutations=19, bootstrap=200)


def encoded(make_store: Callable[..., TokenStore], name: str, seed: int = 0, **columns: Any) -> Path:
    """A folder of concepts of 40 cells."""
    generator = torch.Generator().manual_seed(seed)
    store = make_store(torch.randn(40, 7, 8, generator=generator), name, **columns)
    sae = SAE(8, 24)
    with torch.no_grad():
        torch.manual_seed(1)
        sae.W_enc.copy_(torch.randn(8, 24) / 3)
    folder = store.folder.parent / f"{name}-concepts"
    encode(store, sae, folder, EncodeConfig(references=3))
    return folder


def people(count: int = 40, patients: int = 8, **more: Any) -> dict[str, list[Any]]:
    owners = [i % patients for i in range(count)]
    base = {"patient": [f"P{p}" for p in owners], "diagnosis": [("AML", "healthy")[p % 2] for p in owners]}
    return {**base, "label": [("blast", "monocyte")[i % 3 == 0] for i in range(count)], **more}


def cohort(seed: int = 0, n: int = 60, n_latents: int = 400, signal: float = 2.0, **columns: Any) -> ad.AnnData:
    """Barcodes of patients of three classes, in which the first ten latents of each class are raised."""
    rng = np.random.default_rng(seed)
    target = np.arange(n) % 3
    share = rng.uniform(0.05, 0.9, n_latents)
    active = rng.binomial(50, share, (n, n_latents)).astype(np.float64)
    for c in range(3):
        raised = slice(10 * c, 10 * c + 10)
        active[target == c, raised] = np.minimum(50, active[target == c, raised] * signal)
    level = 10 ** rng.uniform(-5, 1, n_latents)
    barcodes = (active / 50 * 20 * (level > 1e-3)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "patient": pd.Categorical([f"P{i}" for i in range(n)]),
            "dataset": pd.Categorical(["d"] * n),
            "n_cells": 50,
            "diagnosis": pd.Categorical([("AML", "APL", "healthy")[c] for c in target]),
            "laboratory": pd.Categorical([f"L{(i // 3) % 3}" for i in range(n)]),
            **columns,
        },
        index=[f"P{i}" for i in range(n)],
    )
    data = ad.AnnData(barcodes, obs)
    data.layers["active_cells"] = active.astype(np.int32)
    data.layers["mean_activation"] = (level * active / 50).astype(np.float32)
    data.layers["standard_error"] = np.full_like(barcodes, 0.1)
    data.layers["share"] = (active / 50).astype(np.float32)
    data.layers["top"] = (20 * (active > 0) * (level > 1e-3)).astype(np.float32)
    data.layers["strongest"] = data.layers["top"] + (active > 40)
    data.uns["cytosae"] = {"stage": "barcodes"}
    return data
