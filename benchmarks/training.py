"""How much of a whole training run is spent in its steps, and what the rest is: ``python -m benchmarks training``."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from cytosae.backbones import load
from cytosae.sae import train, trainer
from cytosae.sae.state import TrainState
from cytosae.settings import TrainConfig
from cytosae.study import list_to, rendered
from cytosae.tokens import TokenStore, embed, store_layout

COHORT = Path("synthetic:patients=10,cells=20,seed=0")


def measure(expansion: int = 32, images: int = 9600) -> dict[str, Any]:
    """Shares of the time of a training on tokens of the built-in backbone, from files, evaluations and checkpoints included.

    The first half of the steps, in which many latents fire, is left out.
    """
    config = TrainConfig(
        expansion=expansion,
        images=images,
        batch_images=16,
        l1=5e-4,
        learning_rate=4e-3,
        warmup_steps=50,
        evaluate_every=200,
    )
    spent: list[tuple[float, float]] = []
    plain = trainer.step

    def timed(state: TrainState, x: torch.Tensor, config: TrainConfig, backend: Any = None) -> Any:
        start = time.perf_counter()
        figures = plain(state, x, config, backend)
        spent.append((start, time.perf_counter()))
        return figures

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cells, _ = list_to(rendered(COHORT, folder), folder / "cells.parquet")
        backbone = load("tiny")
        embed(cells, backbone, folder / "tokens", store_layout(backbone.info))
        store = TokenStore(folder / "tokens")
        trainer.step = timed
        try:
            found = train(store, folder / "sae", config)
        finally:
            trainer.step = plain
            store.close()
    late = spent[len(spent) // 2 :]
    whole = late[-1][1] - late[0][0]
    in_steps = sum(stop - start for start, stop in late)
    return {
        "n_latents": found["n_latents"],
        "l0": found["l0"],
        "seconds_a_step": in_steps / len(late),
        "share_in_steps": in_steps / whole,
    }
