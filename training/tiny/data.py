"""Pixels to pre-train on, decoded once, and the views that training sees of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from cytosae.cells import load_squashed
from cytosae.cells.synthetic import random_cells

SIZE = 224


def split(cells: Path, seed: int = 0, share: float = 0.9) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pbc cells to pre-train on, and those kept out for its figures; the other data sets are never trained on."""
    table = pd.read_csv(cells / "cells.csv")
    table = table[table["dataset"] == "pbc"].reset_index(drop=True)
    order = np.random.default_rng(seed).permutation(len(table))
    cut = round(share * len(table))
    return table.iloc[np.sort(order[:cut])], table.iloc[np.sort(order[cut:])]


def pixels(cells: Path, paths: list[str], cache: Path, synthetic: int, seed: int) -> Tensor:
    """Real images and after them synthetic ones, uint8 ``(n, 224, 224, 3)``, memory-mapped; made once in `cache`."""
    if not cache.is_file():
        partial = cache.with_suffix(".partial")
        array = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(paths) + synthetic, SIZE, SIZE, 3))
        for row, path in enumerate(paths):
            array[row] = load_squashed(cells / path, SIZE)
        if synthetic:
            array[len(paths) :] = random_cells(synthetic, seed)[0]
        array.flush()
        partial.rename(cache)
    return torch.from_numpy(np.load(cache, mmap_mode="r+"))


def view(images: Tensor, generator: torch.Generator) -> Tensor:
    """A random view of every image: crop, turn, flip, stain and illumination, focus.

    Parameters
    ----------
    images
        uint8 ``(n, 224, 224, 3)``.

    Returns
    -------
    float32 ``(n, 3, 224, 224)`` from 0 to 1.
    """
    n = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    x = images.permute(0, 3, 1, 2).float().div_(255)
    scale = uniform(0.65, 1.0).sqrt()
    angle = uniform(0, 2 * torch.pi)
    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    shift = uniform(-1, 1, 2) * (1 - scale)[:, None] * 0.7
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    rotation = torch.stack([torch.stack([cos * flip, -sin], -1), torch.stack([sin * flip, cos], -1)], 1)
    theta = torch.cat([rotation, shift[:, :, None]], dim=2)
    x = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), "bilinear", "reflection", False)
    density = -torch.log(x.clamp_min(1 / 255))  # stains act on the optical density (Beer-Lambert)
    density = density * uniform(0.8, 1.25, 3, 1, 1) * uniform(0.8, 1.25, 1, 1, 1) + uniform(-0.08, 0.08, 3, 1, 1)
    x = torch.exp(-density).clamp(0, 1)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
    amount = uniform(0, 1, 1, 1, 1) * (torch.rand(n, 1, 1, 1, generator=generator) < 0.4)
    return x.lerp(blurred, amount)
