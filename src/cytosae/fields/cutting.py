"""One cell cut out of its field, at a physical scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[int, int, int, int]


def cut_out(pixels: NDArray[np.uint8], box: Box, mpp: float, window: float, edge: int) -> NDArray[np.uint8]:
    """A square of `window` micrometres around the middle of a box; beyond the field it is reflected.

    Parameters
    ----------
    pixels
        The field, RGB, ``(height, width, 3)``.
    box
        Left, top, width and height of the cell, in pixels.
    mpp
        Micrometres per pixel of the field.
    window
        Edge of the square, in micrometres.
    edge
        Edge of the image, in pixels.

    Returns
    -------
    RGB, ``(edge, edge, 3)``.

    Examples
    --------
    >>> field = np.zeros((60, 80, 3), np.uint8)
    >>> field[20:30, 30:50] = 255
    >>> cell = cut_out(field, (30, 20, 20, 10), mpp=0.5, window=20.0, edge=40)
    >>> cell.shape, int((cell[..., 0] > 127).sum())
    ((40, 40, 3), 200)
    """
    half = window / mpp / 2
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    left, top, right, bottom = x - half, y - half, x + half, y + half
    height, width = pixels.shape[:2]
    margin = max(0, *(int(np.ceil(gap)) for gap in (-left, -top, right - width, bottom - height)))
    rows = slice(max(0, int(top) - 2), min(height, int(np.ceil(bottom)) + 2))
    columns = slice(max(0, int(left) - 2), min(width, int(np.ceil(right)) + 2))
    part = pixels[rows, columns]
    if margin:
        part = _reflected(part, margin)
    corner_x, corner_y = columns.start - margin, rows.start - margin
    area = left - corner_x, top - corner_y, right - corner_x, bottom - corner_y
    image = Image.fromarray(part).resize((edge, edge), Image.Resampling.BILINEAR, box=_within(area, part.shape))
    return np.asarray(image)


def _reflected(part: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """With a margin that mirrors the image, several times where the image is smaller than the margin."""
    return np.pad(part, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")


def _within(area: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """The area, less what rounding puts beyond the image."""
    return max(0.0, area[0]), max(0.0, area[1]), min(float(shape[1]), area[2]), min(float(shape[0]), area[3])
