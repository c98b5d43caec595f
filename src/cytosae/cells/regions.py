"""Images of any size, read region by region: slides, TIFF too large to be held, and what is held whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REGION_WISE = "read region by region"
"""In the note on a file that is not held whole."""
_FINEST, _COARSEST = 0.02, 2.0
"""Micrometres per pixel within which a file's own scale is believed; beyond are screens and printers."""


class Level(NamedTuple):
    """A copy of an image in its file."""

    width: int
    height: int
    factor: float
    """Pixels of the image in one of the copy."""


class Regions(ABC):
    """An image of which regions are read; the memory that is needed is that of the region."""

    mpp: float | None = None
    """Micrometres per pixel, as the file states them."""

    def __init__(self, levels: list[Level]) -> None:
        self.levels = levels
        self.width, self.height = levels[0].width, levels[0].height

    @abstractmethod
    def _read(self, level: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels of a level, all within it."""

    def read(self, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels of a region, RGB, ``(height, width, 3)``; it has to lie within the image."""
        return self._read(0, left, top, width, height)

    def reduced(self, left: int, top: int, width: int, height: int, factor: float) -> NDArray[np.uint8]:
        """A region with one pixel for `factor` of the image, made from the smallest copy that is large enough."""
        level = max(k for k, one in enumerate(self.levels) if one.factor <= max(1.0, factor))
        source = self.levels[level]
        x, y = min(int(left / source.factor), source.width - 1), min(int(top / source.factor), source.height - 1)
        w, h = (max(1, round(edge / source.factor)) for edge in (width, height))
        part = self._read(level, x, y, min(w, source.width - x), min(h, source.height - y))
        size = max(1, round(width / factor)), max(1, round(height / factor))
        return np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BOX))


class WholeImage(Regions):
    """An image that is held in memory.

    Examples
    --------
    >>> image = WholeImage(np.zeros((20, 30, 3), np.uint8))
    >>> image.width, image.read(5, 0, 10, 20).shape, image.reduced(0, 0, 30, 20, 2).shape
    (30, (20, 10, 3), (10, 15, 3))
    """

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        super().__init__([Level(pixels.shape[1], pixels.shape[0], 1.0)])
        self.pixels = pixels

    def _read(self, level: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        return self.pixels[top : top + height, left : left + width]


def believed(mpp: float | None) -> float | None:
    """A scale that a file states, if a microscope can have it."""
    return mpp if mpp is not None and np.isfinite(mpp) and _FINEST <= mpp <= _COARSEST else None
