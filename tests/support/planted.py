"""Tokens that a test chose, and cells that are their numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from cytosae.backbones import BackboneInfo
from cytosae.cells import list_cells
from cytosae.tokens import LiveTokens, TokenStore, store_layout

MakeStore = Callable[..., TokenStore]
"""The fixture `make_store`."""


def tiny_info(d_model: int = 8, grid: tuple[int, int] = (2, 3), layer: int = 1, fingerprint: str = "f") -> BackboneInfo:
    """Description of a backbone that need not exist."""
    return BackboneInfo(
        name="planted",
        source="test",
        revision=None,
        fingerprint=fingerprint,
        model_type="dinov2",
        d_model=d_model,
        depth=3,
        patch_size=14,
        image_size=224,
        grid=grid,
        n_tokens=1 + grid[0] * grid[1],
        layer=layer,
        dtype="float32",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


class PlantedBackbone:
    """Gives tokens that the test chose, by cell: the first pixel of an image holds the cell's number."""

    def __init__(self, tokens: torch.Tensor, info: BackboneInfo) -> None:
        self.planted, self.info = tokens, info
        self.seen: list[int] = []

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        numbers = images[:, 0, 0, 0].long() * 256 + images[:, 0, 0, 1].long()
        self.seen += numbers.tolist()
        return self.planted[numbers]


def numbered_cells(folder: Path, count: int, **columns: Any) -> pd.DataFrame:
    """Listing of `count` images whose first pixel holds their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.zeros((224, 224, 3), dtype=np.uint8)
        pixels[0, 0] = (number // 256, number % 256, 7)
        Image.fromarray(pixels).save(folder / f"{number:05d}.bmp")
    table = list_cells(folder).cells
    for name, values in columns.items():
        if name != "fingerprint":
            table[name] = pd.array(values, dtype="string")
    return table


def live(tokens: torch.Tensor, folder: Path, **columns: Any) -> LiveTokens:
    """The given tokens, made on the fly."""
    info = tiny_info(tokens.shape[2], (2, (tokens.shape[1] - 1) // 2))
    backbone = PlantedBackbone(tokens, info)
    table = numbered_cells(folder, len(tokens), **columns)
    return LiveTokens(table, lambda: backbone, store_layout(info), workers=0)  # type: ignore[arg-type,return-value]
