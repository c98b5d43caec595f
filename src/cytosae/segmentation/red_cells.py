"""Red cells around a nucleated one, and the scale that their size gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure, segmentation

from cytosae.segmentation.registry import RED_CELL_DIAMETER

_SPREAD = 0.08
"""Coefficient of variation of red cells' diameters assumed where fewer than three are seen."""
_SMALLEST = 0.0008
"""Smallest area, as a share of the image, at which something can be a red cell."""


@dataclass(frozen=True)
class RedCells:
    """Whole red cells of an image."""

    count: int
    """Red cells that are seen whole and stand alone or can be parted from their neighbours."""
    diameter: float
    """Median of their diameters (of the circle of equal area), in pixels; NaN where there is none."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end of it."""

    @property
    def mpp(self) -> float:
        """Micrometres in a pixel if the median red cell has `RED_CELL_DIAMETER`; NaN where there is none."""
        return RED_CELL_DIAMETER / self.diameter


def find_red_cells(
    background: NDArray[np.bool_], apart: NDArray[np.bool_], scale: float = 1.0, smallest: float | None = None
) -> RedCells:
    """Count whole red cells and measure them.

    What is neither background nor part of a nucleated cell or a platelet is cut where it narrows (watershed of the distance
    transform); of its parts those count that do not touch the image's border and are round and full.

    Parameters
    ----------
    background
        Where there is nothing, ``(height, width)``.
    apart
        Nucleated cells, nuclei and platelets.
    scale
        Pixels of the image in one of these.
    smallest
        Least area of a red cell in these pixels; a share of the image if None.

    Examples
    --------
    >>> y, x = np.mgrid[:100, :100]
    >>> disc = np.hypot(y - 30, x - 30) < 12
    >>> red = find_red_cells(~disc, np.zeros_like(disc), scale=2)
    >>> red.count, abs(red.diameter - 48) < 2
    (1, True)
    """
    shape = ndimage.binary_fill_holes(~background & ~apart) & ~ndimage.binary_dilation(apart, iterations=2)
    shape = ndimage.binary_opening(shape, iterations=2)
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(shape), 1.5)
    peaks = (depth == ndimage.maximum_filter(depth, size=9)) & (depth > 2)
    parts = segmentation.watershed(-depth, ndimage.label(peaks)[0], mask=shape)
    inner = np.zeros_like(parts, dtype=bool)
    inner[1:-1, 1:-1] = True
    cut = set(np.unique(parts[~inner]).tolist())
    least = _SMALLEST * parts.size if smallest is None else smallest
    diameters = []
    for part in measure.regionprops(parts):
        if part.label in cut or part.area < least:
            continue
        if part.eccentricity < 0.75 and part.solidity > 0.9:
            diameters.append(float(part.equivalent_diameter_area) * scale)
    if len(diameters) > 3:  # of what is left over between cells, and of what is two
        middle = float(np.median(diameters))
        diameters = [d for d in diameters if 0.7 * middle < d < 1.4 * middle]
    if not diameters:
        return RedCells(0, np.nan, np.nan, np.nan)
    median, count = float(np.median(diameters)), len(diameters)
    spread = float(np.std(diameters, ddof=1)) if count > 2 else _SPREAD * median
    error = float(1.96 * 1.2533 * max(spread, 0.02 * median) / np.sqrt(count))
    return RedCells(count, median, median - error, median + error)
