"""Images of any size, read region by region: slides, TIFF too large to be held, and what is held whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells.images import MOST_PIXELS, SLIDES, decode, read_bytes
from cytosae.cells.samples import UnreadableImage
from cytosae.storage import StoredPath, resolve_path

REGION_WISE = "read region by region"
"""In the note on a file that is not held whole."""
_TIFF = frozenset({".tif", ".tiff"})
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


def open_regions(path: str, intensity: str | None = None) -> Regions:
    """Open an image of any size: one that is too large is read region by region, others whole.

    Parameters
    ----------
    path
        File or URL.
    intensity
        Scaling of an image that is held whole, see `cytosae.settings.ImageConfig`.

    Raises
    ------
    UnreadableImage
        With the reason.
    """
    file = resolve_path(path)
    return open_large(file) or WholeImage(np.asarray(decode(read_bytes(file), intensity)))


def open_large(path: Path) -> Regions | None:
    """A slide, or a TIFF that is too large to be held or has smaller copies in tiles; None for other files.

    Raises
    ------
    UnreadableImage
        OpenSlide is not installed, or the file is of a kind that is not read region by region.
    """
    ending = path.suffix.lower()
    if ending not in SLIDES and ending not in _TIFF:
        return None
    if isinstance(path, StoredPath):
        if ending in SLIDES:
            raise UnreadableImage("a slide at a URL: copy it to this machine first")
        return None
    if not path.is_file():
        raise UnreadableImage("file is missing")
    if ending in SLIDES:
        from cytosae.cells.slides import Slide

        return Slide(path)
    from cytosae.cells.tiled import open_tiled

    return open_tiled(path, MOST_PIXELS)


def believed(mpp: float | None) -> float | None:
    """A scale that a file states, if a microscope can have it."""
    return mpp if mpp is not None and np.isfinite(mpp) and _FINEST <= mpp <= _COARSEST else None
