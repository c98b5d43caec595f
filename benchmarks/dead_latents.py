"""What a dead-latent loss, visiting dead latents rarely, and a product in bfloat16 do to a training, over seeds.

``python -m benchmarks.dead_latents --data ../shared/data/cells --scratch DIR`` trains on real cells with the
built-in backbone; what is in DIR already is not done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from cytosae.backbones import load
from cytosae.concepts import encode
from cytosae.sae import SAE, TrainConfig, train
from cytosae.study import list_to
from cytosae.tokens import TokenStore, embed, store_layout

BASE = TrainConfig(
    expansion=32, images=9_600, batch_images=16, l1=5e-4, learning_rate=4e-3, warmup_steps=50, encoder="bfloat16",
    evaluate_every=10_000, log_every=100,
    dead_after_tokens=64 * 16 * 257,
)  # fmt: skip
"""The highest learning rate of the paper's grid: with it many latents die soon."""
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"dead_latent_loss": "none"},
    "ghost": {},
    "ghost, float32": {"encoder": "float32"},
    "ghost, every 8": {"dead_every": 8},
    "auxk": {"dead_latent_loss": "auxk"},
    "auxk, every 8": {"dead_latent_loss": "auxk", "dead_every": 8},
    "auxk, every 16": {"dead_latent_loss": "auxk", "dead_every": 16},
}
FIGURES = ("explained_variance", "l0", "dead", "concepts", "seconds")


def one(store: TokenStore, folder: Path, config: TrainConfig) -> dict[str, float]:
    """Figures of one training: those on held-out cells, concepts discovered in all cells, seconds that it took."""
    about = folder / "figures.json"
    if not about.is_file():
        start = time.monotonic()
        found = train(store, folder, config)
        seconds = time.monotonic() - start
        concepts = encode(store, SAE.from_pretrained(folder), folder / "concepts")
        figures = {name: found[name] for name in FIGURES if name in found}
        figures |= {"concepts": sum(one["concepts"] for one in concepts.values()), "seconds": seconds}
        about.write_text(json.dumps(figures), encoding="utf-8")
    return json.loads(about.read_text(encoding="utf-8"))


def measure(data: Path, scratch: Path, cells: int = 2000, seeds: int = 3, base: TrainConfig = BASE) -> dict[str, Any]:
    """Mean and standard deviation over seeds of every figure, by variant."""
    table, _ = list_to(data / "cells.csv", scratch / "cells.parquet")
    chosen = table[table["dataset"] == "pbc"].sample(cells, random_state=0).sort_index().reset_index(drop=True)
    backbone = load("tiny")
    embed(chosen, backbone, scratch / "tokens", store_layout(backbone.info))
    store = TokenStore(scratch / "tokens")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for seed in range(seeds):
        for name, changed in VARIANTS.items():
            folder = scratch / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            found[name].append(one(store, folder, replace(base, seed=seed, **changed)))
            print(name, seed, json.dumps(found[name][-1]), flush=True)
    store.close()
    return {
        name: {
            figure: [statistics.mean(values), statistics.stdev(values) if seeds > 1 else 0.0]
            for figure in FIGURES
            for values in [[run[figure] for run in runs]]
        }
        for name, runs in found.items()
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cells"), help="folder of the real cells")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for tokens and trainings")
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    print(json.dumps(measure(given.data, given.scratch, given.cells, given.seeds), indent=1))


if __name__ == "__main__":
    main()
