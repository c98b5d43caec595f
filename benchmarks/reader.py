"""Does training wait for tokens? Images a second that the reader gives, against those that a step takes."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.timing import medians
from cytosae.cells import COLUMNS, write_cells
from cytosae.cells.table import FILE_COLUMNS
from cytosae.sae import TrainConfig
from cytosae.sae.state import new_state
from cytosae.sae.step import step
from cytosae.tokens import Layout, TokenStore, shuffled_batches
from cytosae.tokens.store import CELLS, Shard, write_manifest, write_shard

N_TOKENS, PER_SHARD = 257, 256


def random_store(folder: Path, n_cells: int, d_model: int) -> TokenStore:
    """A store of random tokens, written by the real writer."""
    layout = Layout({"grid": [16, 16]}, N_TOKENS, d_model, "float16", PER_SHARD, 32)
    shards = []
    for start in range(0, n_cells, PER_SHARD):
        stop = min(start + PER_SHARD, n_cells)
        tokens = torch.randn(stop - start, N_TOKENS, d_model).half()
        name = f"shard-{start // PER_SHARD:05d}.safetensors"
        shards.append(Shard(name, start, stop, "", write_shard(folder / name, tokens)))
    table = pd.DataFrame({column: pd.array([None] * n_cells, dtype="string") for column in COLUMNS})
    table["cell_id"] = table["path"] = pd.array([f"{i}" for i in range(n_cells)], dtype="string")
    for column in FILE_COLUMNS:
        table[column] = "" if column.endswith("sha256") else 0
    write_cells(table, folder / CELLS)
    write_manifest(folder, layout, shards, complete=True)
    return TokenStore(folder)


def measure(n_cells: int = 1024, d_model: int = 768, expansion: int = 4, batches: int = 4) -> dict[str, Any]:
    """Images a second of reader and training step, at the width of DinoBloom-B and a small expansion.

    A wider autoencoder makes the step slower and the reader's share smaller.
    """
    config = TrainConfig(expansion=expansion, dead_latent_loss="none")
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder), n_cells, d_model)
        state = new_state(config, d_model, torch.device("cpu"))
        tokens = next(store.stream(shuffled_batches(np.arange(n_cells), config.batch_images, 0))).float().flatten(0, 1)

        def read() -> None:
            stream = store.stream(shuffled_batches(np.arange(n_cells), config.batch_images, 0))
            for batch in islice(stream, batches):
                batch.to(torch.float32)
            stream.close()

        seconds = medians({"reader": read, "step": lambda: step(state, tokens, config)}, rounds=3)
        store.close()
    rate = {"reader": batches * config.batch_images / seconds["reader"], "step": config.batch_images / seconds["step"]}
    return {
        "d_model": d_model,
        "n_latents": expansion * d_model,
        "reader_images_per_second": rate["reader"],
        "step_images_per_second": rate["step"],
        "reader_over_step": rate["reader"] / rate["step"],
    }
