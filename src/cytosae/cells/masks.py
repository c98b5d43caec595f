"""Segmentations of cells: which part of each patch is nucleus, cytoplasm or background."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells.framing import Frame, framed
from cytosae.cells.images import decode, read_bytes
from cytosae.cells.table import readings
from cytosae.storage import resolve_path

TISSUES = ("nucleus", "cytoplasm", "background")
_LEVELS = (64, 192)  # between 0 background, 128 cytoplasm and 255 nucleus


def patch_tissues(
    path: Path, grid: tuple[int, int], edge: int = 224, frame: Frame | None = None, size: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """Share of each patch that is nucleus, cytoplasm and background.

    Parameters
    ----------
    path
        Mask image: 0 background, 128 cytoplasm, 255 nucleus; of any size, squashed as its cell is.
    grid
        Rows and columns of patches.
    edge
        Edge of the squashed image in pixels.
    frame, size
        What is shown of the image, whose width and height is `size`; all of it if None.

    Returns
    -------
    ``(3, rows, columns)`` in the order of `TISSUES`; the three add up to 1.

    Raises
    ------
    UnreadableImage
        The file is missing or damaged.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    whole = decode(read_bytes(path)).convert("L")
    if frame is None:
        grey = whole.resize((edge, edge), Image.Resampling.NEAREST)
    else:
        fitting = whole if size is None else whole.resize(size, Image.Resampling.NEAREST)
        grey = framed(fitting, frame, (edge, edge), Image.Resampling.NEAREST)
    kind = np.digitize(np.asarray(grey), _LEVELS)
    rows, columns = grid
    if edge % rows or edge % columns:
        raise ValueError(f"{edge} pixels do not divide into {rows} x {columns} patches")
    patches = kind.reshape(rows, edge // rows, columns, edge // columns)
    return np.stack([(patches == value).mean(axis=(1, 3)) for value in (2, 1, 0)]).astype(np.float32)


def tissues_of_cells(cells: pd.DataFrame, grid: tuple[int, int]) -> Iterator[NDArray[np.float32]]:
    """`patch_tissues` of the ``mask`` of each cell of a listing, of what is shown of its image.

    Raises
    ------
    UnreadableImage
        A mask is missing or damaged.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    for row, reading in enumerate(readings(cells)):
        path = resolve_path(str(cells["mask"].iloc[row]))
        if reading.frame is None:
            yield patch_tissues(path, grid)
        else:
            size = int(cells["width"].iloc[row]), int(cells["height"].iloc[row])
            yield patch_tissues(path, grid, frame=reading.frame, size=size)
