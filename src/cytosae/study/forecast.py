"""How long a run will take on this machine, measured on a little of its work and said before it begins."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch

from cytosae.backbones import INPUT_SIZE, Backbone
from cytosae.console import duration
from cytosae.sae.cost import SETTLED_L0, seconds, step_seconds
from cytosae.settings import TrainConfig
from cytosae.tokens import Layout

IMAGES = 4
"""Images on which a unit of work is measured."""
LONG = 2_000
"""Images to embed and to train on, together, above which it is worth the seconds that measuring takes."""


def embed_seconds(backbone: Backbone, device: torch.device) -> float:
    """Seconds that the backbone takes for an image, without reading it."""
    shape = (IMAGES, INPUT_SIZE, INPUT_SIZE, 3)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    return seconds(partial(backbone.tokens, pixels), device) / IMAGES


def training_seconds(config: TrainConfig, n_tokens: int, d_model: int, device: torch.device) -> float:
    """Seconds of a whole training on images of `n_tokens` tokens, without reading them.

    Steps are measured on random tokens of a few images; they are linear in the tokens
    (docs/explanation/benchmarks.md). With an L1 norm the steps of the warm-up are dense.
    """
    x = torch.randn(IMAGES * n_tokens, d_model, generator=torch.Generator().manual_seed(0)).to(device)
    in_batch = config.seeds * config.batch_images / IMAGES
    if config.objective in ("topk", "batchtopk", "archetypal"):
        return config.steps * in_batch * step_seconds(config, x, config.k)
    dense = min(config.steps, config.warmup_steps)
    taken = dense * step_seconds(config, x, None) + (config.steps - dense) * step_seconds(config, x, SETTLED_L0)
    return taken * in_batch


def forecast(
    to_embed: int, backbone: Callable[[], Backbone], layout: Layout, device: torch.device, config: TrainConfig | None
) -> str | None:
    """What a run is about to do and how long that takes; None where it is too little to be worth measuring.

    Parameters
    ----------
    to_embed
        Cells that have no tokens yet.
    backbone
        Loads the backbone, which is asked for only where cells have none.
    layout
        Of the tokens.
    device
        Where backbone and training run.
    config
        Of the training, scaled to the study (`TrainConfig.scaled_to`); None where none is due.
    """
    if to_embed + (config.images if config else 0) < LONG:
        return None
    parts, total = list[str](), 0.0
    if to_embed:
        taken = to_embed * embed_seconds(backbone(), device)
        parts.append(f"tokens of {to_embed:,} images {duration(taken)}")
        total += taken
    if config:
        taken = training_seconds(config, layout.n_tokens, layout.d_model, device)
        parts.append(f"training on {config.images:,} images {duration(taken)}")
        total += taken
    shorter = "; --images sets the length of the training" if config and total > 600 else ""
    return f"about {duration(total)} on this machine ({', '.join(parts)}), and some more for the report{shorter}"


def described(cells: pd.DataFrame, backbone: str) -> str:
    """What a run has understood of the cells, and with which backbone it looks at them."""
    counts = [f"{len(cells):,} cell{'' if len(cells) == 1 else 's'}"]
    for column, one, several in (
        ("label", "label", "labels"),
        ("patient", "patient", "patients"),
        ("diagnosis", "diagnosis", "diagnoses"),
    ):
        if column == "diagnosis" and not (column in cells and cells["patient"].notna().any()):
            continue
        number = cells[column].nunique()
        counts.append(f"{number:,} {one if number == 1 else several}" if number else f"no {several}")
    toy = ", a small one to try things with: results that matter need DinoBloom (`cytosae backbones list`)"
    return f"{', '.join(counts)}; backbone {backbone}{toy if backbone == 'tiny' else ''}"
