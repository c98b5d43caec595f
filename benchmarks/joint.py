"""Eight autoencoders trained together over the same eight one after the other, in one process, in turn.

``python -m benchmarks.joint --tokens STORE`` takes a store of real tokens (`cytosae embed`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from cytosae.artefacts import WEIGHTS
from cytosae.sae import train
from cytosae.sae.joint import Member, train_together
from cytosae.settings import BackboneConfig, TrainConfig
from cytosae.study import load_backbone
from cytosae.tokens import LiveTokens, TokenSource, TokenStore

MEMBERS = 8


def members(folder: Path, expansion: int, images: int, batch_images: int) -> list[Member]:
    """Eight of equal size that differ in lambda."""
    configs = (
        TrainConfig(
            expansion=expansion,
            images=images,
            batch_images=batch_images,
            l1=5e-4 * 1.2**number,
            learning_rate=4e-3,
            warmup_steps=20,
            directions_init="tokens",
            dead_latent_loss="none",
        )
        for number in range(MEMBERS)
    )
    return [Member(str(number), folder / str(number), config) for number, config in enumerate(configs)]


def measure(source: TokenSource, expansion: int, images: int, batch_images: int = 64) -> dict[str, Any]:
    """Seconds of both, and by how much the weights differ at most, as a share of the largest."""
    with tempfile.TemporaryDirectory() as scratch:
        alone = members(Path(scratch) / "alone", expansion, images, batch_images)
        together = members(Path(scratch) / "together", expansion, images, batch_images)
        begun = time.perf_counter()
        for member in alone:
            train(source, member.folder, member.config)
        in_turn = time.perf_counter() - begun
        begun = time.perf_counter()
        train_together(source, together)
        joint = time.perf_counter() - begun
        pairs = [
            (load_file(one.folder / WEIGHTS), load_file(other.folder / WEIGHTS))
            for one, other in zip(alone, together, strict=True)
        ]
    return {
        "expansion": expansion,
        "images": images,
        "one_after_the_other": in_turn,
        "together": joint,
        "ratio": joint / in_turn,
        "difference": max(float((a[name] - b[name]).abs().max() / a[name].abs().max()) for a, b in pairs for name in a),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=Path, required=True, help="folder of a token store")
    parser.add_argument("--expansion", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--batch-images", type=int, default=64)
    parser.add_argument("--backbone", help="make the tokens on the fly with it instead, of the same cells")
    given = parser.parse_args()
    torch.set_num_threads(2)
    store = TokenStore(given.tokens)
    source: TokenSource = store
    if given.backbone:
        model = load_backbone(BackboneConfig(given.backbone))
        source = LiveTokens(store.cells, lambda: model, store.layout)
    for expansion in given.expansion:
        print(json.dumps(measure(source, expansion, given.images, given.batch_images)), flush=True)


if __name__ == "__main__":
    main()
