"""The scale of a field, or of the images of single cells of a laboratory, from red cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cytosae.segmentation.cell import empty_places
from cytosae.segmentation.nuclei import nuclear_stain
from cytosae.segmentation.optics import measure_optics
from cytosae.segmentation.red_cells import RedCells, find_red_cells
from cytosae.segmentation.registry import RED_CELL_DIAMETER

MOST = 2048
"""Longest edge of the part of a field, its middle, in which red cells are measured, in pixels."""
_DIAMETERS = (14.0, 44.0)
"""Diameters of red cells that are measured well, in pixels of the reduced image."""
_BEST = 30.0
_FACTORS = (1.0, 0.5, 0.25, 0.125)
_FEW = 3
_NUCLEUS = 0.28
"""Nuclear stain above which a place is none of a red cell, in optical density."""
_RIM = 0.5
"""Where a red cell ends: at this share of the median density of all that is stained like one."""
_SMOOTHING = 0.7
"""In pixels."""
NUCLEATED_DIAMETER = 14.0
"""Longer edge of the median nucleated cell's outline, in micrometres, where no red cell gives a scale."""
_NUCLEATED_ERROR = 0.2
"""How far a laboratory's median nucleated cell may be from that, as a share: 12.9 to 16.3 micrometres in three where
red cells tell."""
_PLAUSIBLE = (0.4, 0.9)
"""Diameters of a red cell, in edges of the laboratory's median nucleated cell; others are scraps, clumps, or stain."""
_ENOUGH = 10
"""Red cells from which a laboratory has a scale."""
_DRAWS = 200


@dataclass(frozen=True)
class Ruler:
    """Micrometres per pixel of the images of single cells of a laboratory."""

    mpp: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    source: str
    """``red cells`` or ``nucleated cells``."""
    count: int
    """Of these."""


def scale_of_cells(
    edges: NDArray[np.floating], counts: NDArray[np.integer], diameters: NDArray[np.floating], seed: int = 0
) -> Ruler | None:
    """The scale of images of one laboratory: from whole red cells, else from the nucleated cells themselves.

    Parameters
    ----------
    edges
        Longer edge of the outline of each image's nucleated cell, in pixels, NaN where none was found; ``(n_images,)``.
    counts, diameters
        Whole red cells of each image and their median diameter in pixels (`find_cell`), ``(n_images,)``.

    Returns
    -------
    With a bootstrap interval over images. Of nucleated cells the interval is what laboratories differ by. None where there
    are neither.

    Examples
    --------
    >>> scale_of_cells(np.full(9, 140.0), np.full(9, 3), np.full(9, 72.0)).mpp
    0.1
    >>> scale_of_cells(np.full(9, 140.0), np.zeros(9, int), np.full(9, np.nan)).source
    'nucleated cells'
    """
    usable = np.isfinite(edges)
    if not usable.any():
        return None
    middle = float(np.median(edges[usable]))
    low, high = (share * middle for share in _PLAUSIBLE)
    whole = (counts > 0) & (diameters > low) & (diameters < high)
    n_red = int(counts[whole].sum())
    if n_red < _ENOUGH:
        mpp = NUCLEATED_DIAMETER / middle
        error = _NUCLEATED_ERROR * mpp
        return Ruler(mpp, mpp - error, mpp + error, "nucleated cells", int(usable.sum()))
    own = diameters[whole]
    rows = np.random.default_rng([seed, 15]).integers(0, len(own), (_DRAWS, len(own)))
    ends = np.quantile(RED_CELL_DIAMETER / np.median(own[rows], axis=1), (0.025, 0.975))
    return Ruler(RED_CELL_DIAMETER / float(np.median(own)), float(ends[0]), float(ends[1]), "red cells", n_red)


def measure_scale(pixels: NDArray[np.uint8]) -> RedCells:
    """Whole red cells of a field and their median diameter, in pixels of the field.

    The image is reduced by halves until most red cells are found, then once more so that they are 30 pixels wide.

    Parameters
    ----------
    pixels
        RGB, ``(height, width, 3)``.

    Examples
    --------
    >>> from cytosae.synthetic import FieldSpec, render_field
    >>> field = render_field(FieldSpec(width=480, height=360), seed=1)
    >>> red = measure_scale(field.pixels)
    >>> red.count > 5, bool(abs(red.mpp / field.mpp - 1) < 0.1)
    (True, True)
    """
    height, width = pixels.shape[:2]
    top, left = max(0, (height - MOST) // 2), max(0, (width - MOST) // 2)
    middle = pixels[top : top + MOST, left : left + MOST]
    tried = [_at(middle, factor) for factor in _FACTORS if min(middle.shape[:2]) * factor >= 48]
    fitting = [red for red in tried if red.count >= _FEW] or tried
    best = max(fitting, key=lambda red: red.count, default=RedCells(0, np.nan, np.nan, np.nan))
    if best.count < _FEW:
        return best
    factor = min(1.0, _BEST / best.diameter)
    again = _at(middle, factor)
    return again if again.count >= _FEW else best


def _at(pixels: NDArray[np.uint8], factor: float) -> RedCells:
    height, width = (max(8, round(edge * factor)) for edge in pixels.shape[:2])
    small = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))
    optics = measure_optics(small)
    low = np.pi * _DIAMETERS[0] ** 2 / 4
    stained, nuclear = ~empty_places(optics), nuclear_stain(optics.stain) > _NUCLEUS
    density = ndimage.gaussian_filter(optics.density.mean(axis=2), _SMOOTHING)
    pale = stained & ~nuclear
    rim = _RIM * float(np.median(density[pale])) if pale.any() else 0.0
    red = find_red_cells(density < rim, nuclear, 1 / factor, low)
    if red.count and red.diameter * factor > _DIAMETERS[1]:
        return RedCells(0, np.nan, np.nan, np.nan)
    return red
