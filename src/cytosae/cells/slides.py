"""Whole slides of scanners, through OpenSlide, which is an extra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytosae.cells.regions import Level, Regions, believed
from cytosae.cells.samples import UnreadableImage


class Slide(Regions):
    """A slide that OpenSlide reads; what was not scanned is white.

    Raises
    ------
    UnreadableImage
        OpenSlide is not installed or does not read the file.
    """

    def __init__(self, path: Path) -> None:
        try:
            from openslide import OpenSlide, OpenSlideError
        except ImportError:
            raise UnreadableImage("a whole slide, and OpenSlide is missing: pip install 'cytosae[slides]'") from None
        try:
            self._slide = OpenSlide(path)
        except (OpenSlideError, OSError) as error:
            raise UnreadableImage(f"a slide that OpenSlide does not read ({error})") from None
        self._error = OpenSlideError
        sizes = zip(self._slide.level_dimensions, self._slide.level_downsamples, strict=True)
        super().__init__([Level(width, height, float(factor)) for (width, height), factor in sizes])
        stated = self._slide.properties.get("openslide.mpp-x")
        self.mpp = believed(float(stated)) if stated else None

    def _read(self, level: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        factor = self.levels[level].factor
        corner = round(left * factor), round(top * factor)
        try:
            values = np.asarray(self._slide.read_region(corner, level, (width, height)))
        except self._error as error:
            raise UnreadableImage(f"damaged: {error}") from None
        alpha = values[..., 3:].astype(np.uint16)
        return ((values[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
