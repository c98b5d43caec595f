"""The scale of a field, from its red cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cytosae.segmentation.cell import empty_places
from cytosae.segmentation.nuclei import nuclear_stain
from cytosae.segmentation.optics import measure_optics
from cytosae.segmentation.red_cells import RedCells, find_red_cells

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
