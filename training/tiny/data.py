"""Pixels to pre-train on, decoded once, and the views that training sees of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cytosae.cells import load_squashed

SIZE = 224
Pixels = NDArray[np.uint8]


def split(cells: Path, seed: int = 0, share: float = 0.9) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pbc cells to pre-train on, and those kept out for its figures; the other data sets are never trained on.

    Raises
    ------
    SystemExit
        `cells` holds no table, or no pbc cells.
    """
    if not (cells / "cells.csv").is_file():
        raise SystemExit(f"{cells}: holds no cells.csv; give the folder of the real cells with --data.")
    table = pd.read_csv(cells / "cells.csv")
    table = table[table["dataset"] == "pbc"].reset_index(drop=True)
    if table.empty:
        raise SystemExit(f"{cells / 'cells.csv'}: lists no cell of data set pbc, the one that is trained on.")
    order = np.random.default_rng(seed).permutation(len(table))
    cut = round(share * len(table))
    return table.iloc[np.sort(order[:cut])], table.iloc[np.sort(order[cut:])]


def pixels(cells: Path, paths: list[str], cache: Path, drawn: Callable[[], Pixels], synthetic: int) -> Pixels:
    """Real images and after them `synthetic` drawn ones, uint8 ``(n, 224, 224, 3)``, memory-mapped; made once in `cache`."""
    n = len(paths) + synthetic
    if not cache.is_file():
        partial = cache.with_suffix(".partial")
        array = np.lib.format.open_memmap(partial, "w+", np.uint8, (n, SIZE, SIZE, 3))
        for row, path in enumerate(paths):
            array[row] = load_squashed(cells / path, SIZE)
        if synthetic:
            array[len(paths) :] = drawn()
        array.flush()
        partial.rename(cache)
    found: Pixels = np.load(cache, mmap_mode="r")
    if found.shape != (n, SIZE, SIZE, 3):
        raise SystemExit(f"{cache}: holds {found.shape[0]} images, expected {n}. Delete it, and it is made again.")
    return found


@dataclass(frozen=True)
class Geometry:
    """Where in the image a view lies, and which of the eight symmetries of the square was applied to it."""

    box: tuple[float, float, float, float]
    """Left, upper, right, lower, as shares of the edge; below 0 and above 1 the image is reflected."""
    turns: int
    """Quarter turns against the clock, before the flip."""
    flip: bool
    """Mirrored left to right."""

    def oriented(self, x: NDArray[Any]) -> NDArray[Any]:
        """Apply turn and flip to an array of rows, columns and channels."""
        x = np.rot90(x, self.turns)
        return x[:, ::-1] if self.flip else x


def random_view(image: Pixels, rng: np.random.Generator, smallest: float) -> tuple[Pixels, Geometry]:
    """A random view of a cell: crop, turn, flip, stain and light, focus.

    Pillow's resize and a table of 256 grey values cost a tenth of the same on float images in torch.

    Parameters
    ----------
    image
        ``(224, 224, 3)``.
    rng
        Source of all randomness.
    smallest
        Share of the area that a crop has at least.

    Returns
    -------
    view
        uint8 ``(224, 224, 3)``.
    geometry
        What was done to the positions, for targets that have to follow.
    """
    side, aspect = np.sqrt(rng.uniform(smallest, 1.0)), np.exp(rng.uniform(-0.08, 0.08))
    width, height = min(side * aspect, 1.0), min(side / aspect, 1.0)
    left, upper = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    geometry = Geometry((left, upper, left + width, upper + height), int(rng.integers(4)), bool(rng.integers(2)))
    box = (SIZE * left, SIZE * upper, SIZE * (left + width), SIZE * (upper + height))
    view = Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.4:
        view = view.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 1.3)))
    # Stain acts on the optical density (Beer-Lambert), light on the intensity; both are a table for each colour.
    density = np.exp(rng.uniform(-0.2, 0.2) + rng.uniform(-0.07, 0.07, 3))
    light = np.exp(rng.uniform(-0.05, 0.05) + rng.uniform(-0.03, 0.03, 3))
    table = 255 * light[:, None] * (np.arange(256) / 255) ** density[:, None]
    view = view.point(table.clip(0, 255).round().astype(int).ravel().tolist())
    return np.ascontiguousarray(geometry.oriented(np.asarray(view))), geometry
