"""All measurements of one cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cytosae.morphometry.shape import shape_of
from cytosae.morphometry.stain import stain_of
from cytosae.morphometry.texture import texture_of
from cytosae.segmentation import FoundCell
from cytosae.segmentation.registry import MEASUREMENTS

_MARGIN = 3
"""Pixels around the cell that are looked at with it."""


def measure_cell(segmented: FoundCell, mpp: float | None = None) -> dict[str, float]:
    """Measure a cell.

    Parameters
    ----------
    segmented
        The cell, from `cytosae.segmentation.find_cell`.
    mpp
        Micrometres in a pixel, if known.

    Returns
    -------
    A value for every one of `MEASUREMENTS`; NaN where it cannot be measured.

    Examples
    --------
    >>> from cytosae.segmentation import find_cell
    >>> from cytosae.synthetic import random_cells
    >>> values = measure_cell(find_cell(random_cells(3, seed=0)[0][2]), mpp=0.1)
    >>> values["nucleus_lobes"], values["cell_area_um2"] == values["cell_area"] * 0.1**2
    (1.0, True)
    """
    values = dict.fromkeys((m.name for m in MEASUREMENTS), float("nan"))
    red = segmented.red_cells
    values |= {
        "red_cells": float(red.count),
        "red_cell_diameter": red.diameter,
        "red_cell_diameter_low": red.low,
        "red_cell_diameter_high": red.high,
        "mpp_from_red_cells": red.mpp,
    }
    values["background_share"] = segmented.optics.background
    if segmented.box is None or not segmented.nucleus.any():
        return values
    left, top, right, bottom = segmented.box
    masks = (mask[top:bottom, left:right] for mask in (segmented.nucleus, segmented.cell, segmented.lobes))
    values |= shape_of(*masks)
    if mpp is not None:
        values |= {f"{part}_area_um2": values[f"{part}_area"] * mpp**2 for part in ("cell", "nucleus", "cytoplasm")}
    if red.count:
        values["cell_size_in_red_cells"] = values["cell_area"] / (np.pi * red.diameter**2 / 4)
    nucleus, cell = (_shrunk(mask, segmented.optics.density.shape[:2]) for mask in (segmented.nucleus, segmented.cell))
    rows, columns = (np.flatnonzero(cell.any(axis=axis)) for axis in (1, 0))
    if not (rows.size and nucleus.any()):
        return values
    window = tuple(slice(max(0, a[0] - _MARGIN), a[-1] + 1 + _MARGIN) for a in (rows, columns))
    density, nucleus, cytoplasm = segmented.optics.stain[window], nucleus[window], (cell & ~nucleus)[window]
    values |= stain_of(density, nucleus, cytoplasm) | texture_of(density, nucleus, cytoplasm)
    values["sharpness"] = _sharpness(density.mean(axis=2), cell[window])
    return values


def _sharpness(mean: NDArray[np.float64], cell: NDArray[np.bool_]) -> float:
    """Steepest density in the cell over the range of its density."""
    steep = ndimage.gaussian_gradient_magnitude(mean, 0.7)[cell]
    low, high = np.percentile(mean[cell], [5, 95])
    return float(np.percentile(steep, 95) / max(high - low, 0.02))


def _shrunk(mask: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    if mask.shape == size:
        return mask
    return (
        np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((size[1], size[0]), Image.Resampling.BOX)) > 127
    )
