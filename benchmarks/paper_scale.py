"""Can the paper be run on a laptop? Each stage at its size: DinoBloom-B's shape with random weights, 49,152 latents.

``python -m benchmarks.paper_scale --cells ../shared/data/cells/cells.csv --folder DIR`` embeds 200 real images, trains 20
steps of 64 with the paper's settings, encodes them, and tells time and peak memory of each command. A training starts with
half of all latents active, which is the slowest that it ever is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.explorer import D_MODEL, EXPANSION
from cytosae.artefacts import make_folder

STEPS, BATCH = 20, 64


def weights(folder: Path) -> Path:
    """A model of DinoBloom-B's shape with random weights."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=D_MODEL, num_hidden_layers=12, num_attention_heads=12, image_size=224, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    return folder


def chosen(table: Path, images: int, folder: Path) -> Path:
    """A table of real cells, drawn from all classes."""
    cells = pd.read_csv(table).sample(images, random_state=0)
    cells["path"] = [str((table.parent / path).resolve()) for path in cells["path"]]
    if "mask" in cells:
        cells = cells.drop(columns="mask")
    path = folder / "cells.csv"
    cells.to_csv(path, index=False)
    return path


def command(*arguments: object) -> dict[str, float]:
    """Seconds and peak memory in GiB of a command."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "cytosae", *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"cytosae {arguments[0]} ended with {status}")
    return {"seconds": time.perf_counter() - begun, "peak_gib": used.ru_maxrss / 2**20}


def measure(table: Path, folder: Path, images: int = 200) -> dict[str, Any]:
    """Figures of each command."""
    make_folder(folder)
    backbone, cells = weights(folder / "backbone"), chosen(table, images, folder)
    tokens, sae = folder / "tokens", folder / "sae"
    figures: dict[str, Any] = {"images": images, "latents": D_MODEL * EXPANSION}
    listing = folder / "cells.parquet"
    figures["cells"] = command("cells", cells, "-o", listing)
    figures["embed"] = command("embed", listing, "-o", tokens, "--backbone", backbone)
    figures["train"] = command("train", tokens, "-o", sae, "--images", STEPS * BATCH, "--log-every", 1)
    lines = [json.loads(line) for line in (sae / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line and "step" in line]
    figures["last_l0"] = logged[-1]["l0"] if logged else None
    figures["encode"] = command("encode", listing, "--sae", sae, "--tokens", tokens, "-o", folder / "concepts")
    figures["images_per_second"] = {name: images / figures[name]["seconds"] for name in ("embed", "encode")}
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=Path, required=True, help="table of real cells")
    parser.add_argument("--folder", type=Path, required=True, help="where everything goes")
    parser.add_argument("--images", type=int, default=200)
    given = parser.parse_args()
    print(json.dumps(measure(given.cells, given.folder.absolute(), given.images), indent=1))


if __name__ == "__main__":
    main()
