"""Images a second through a backbone of DinoBloom-B's shape, in float32 and bfloat16, and what bfloat16 costs."""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.timing import medians
from cytosae.backbones import load


def measure(images: int = 16, hidden: int = 768, depth: int = 12) -> dict[str, Any]:
    """Random weights: the figures are of speed and rounding, not of content."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=hidden, num_hidden_layers=depth, num_attention_heads=hidden // 64, image_size=224, patch_size=14
    )
    pixels = np.random.default_rng(0).integers(0, 256, (images, 224, 224, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        Dinov2Model(config).save_pretrained(folder)
        models = {dtype: load(folder, dtype=dtype) for dtype in ("float32", "bfloat16")}
        seconds = medians({dtype: partial(model.tokens, pixels) for dtype, model in models.items()}, rounds=3)
        exact, rough = (model.tokens(pixels) for model in models.values())
    rates = {f"{dtype}_images_per_second": images / value for dtype, value in seconds.items()}
    return {
        "d_model": hidden,
        "depth": depth,
        **rates,
        "bfloat16_over_float32": seconds["float32"] / seconds["bfloat16"],
        "bfloat16_relative_error": float((exact - rough).norm() / exact.norm()),
    }
