"""Segmentations of cells: which part of each patch is nucleus, cytoplasm or background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells.images import decode, read_bytes

TISSUES = ("nucleus", "cytoplasm", "background")
_LEVELS = (64, 192)  # between 0 background, 128 cytoplasm and 255 nucleus


def patch_tissues(path: Path, grid: tuple[int, int], edge: int = 224) -> NDArray[np.float32]:
    """Share of each patch that is nucleus, cytoplasm and background.

    Parameters
    ----------
    path
        Mask image: 0 background, 128 cytoplasm, 255 nucleus; of any size, squashed as its cell is.
    grid
        Rows and columns of patches.
    edge
        Edge of the squashed image in pixels.

    Returns
    -------
    ``(3, rows, columns)`` in the order of `TISSUES`; the three add up to 1.

    Raises
    ------
    UnreadableImage
        The file is missing or damaged.
    """
    grey = decode(read_bytes(path)).convert("L").resize((edge, edge), Image.Resampling.NEAREST)
    kind = np.digitize(np.asarray(grey), _LEVELS)
    rows, columns = grid
    if edge % rows or edge % columns:
        raise ValueError(f"{edge} pixels do not divide into {rows} x {columns} patches")
    patches = kind.reshape(rows, edge // rows, columns, edge // columns)
    return np.stack([(patches == value).mean(axis=(1, 3)) for value in (2, 1, 0)]).astype(np.float32)
