"""Size and shape of a nucleus and its cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops
from skimage.morphology import convex_hull_image, h_maxima

Mask = NDArray[np.bool_]

_STANDS_OUT = 1 / 7
"""How far the distance to the border has to rise again from one lobe to the next, as a share of the largest distance."""


def shape_of(nucleus: Mask, cell: Mask, lobes: Mask | None = None) -> dict[str, float]:
    """Areas, ratio, eccentricity, solidity, lobes and indentation; see `cytosae.morphometry.MEASUREMENTS`.

    Parameters
    ----------
    nucleus, cell
        ``(height, width)``; the cell with its nucleus.
    lobes
        The part of the nucleus in which lobes are counted; all of it if None or empty.

    Examples
    --------
    >>> y, x = np.mgrid[:80, :80]
    >>> cell = np.hypot(y - 40, x - 40) < 30
    >>> two = (np.hypot(y - 40, x - 28) < 9) | (np.hypot(y - 40, x - 50) < 9)
    >>> found = shape_of(two, cell)
    >>> found["nucleus_lobes"], found["nucleus_parts"], round(found["nuclear_fraction"], 2)
    (2.0, 2.0, 0.18)
    """
    (whole,) = regionprops(cell.astype(np.uint8))
    (inner,) = regionprops(nucleus.astype(np.uint8))
    areas = float(cell.sum()), float(nucleus.sum())
    offset = np.subtract(whole.centroid, inner.centroid)
    return {
        "cell_area": areas[0],
        "nucleus_area": areas[1],
        "cytoplasm_area": areas[0] - areas[1],
        "nuclear_fraction": areas[1] / areas[0],
        "cell_eccentricity": float(whole.eccentricity),
        "cell_solidity": float(whole.solidity),
        "nucleus_lobes": float(count_lobes(nucleus if lobes is None or not lobes.any() else lobes)),
        "nucleus_parts": float(ndimage.label(nucleus, np.ones((3, 3)))[1]),
        "nucleus_indentation": indentation(nucleus),
        "nucleus_eccentricity": float(inner.eccentricity),
        "nucleus_solidity": float(inner.solidity),
        "nucleus_offset": float(np.hypot(*offset) / np.sqrt(areas[0] / np.pi)),
    }


def count_lobes(nucleus: Mask) -> int:
    """Lobes of a nucleus: maxima of the distance to its border that stand out.

    A saddle between two maxima has to be lower than both by `_STANDS_OUT` of the largest distance (h-maxima: Soille,
    Morphological Image Analysis, 2003).
    """
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(np.pad(nucleus, 2)), 1)
    peaks = h_maxima(distance, float(distance.max()) * _STANDS_OUT)
    return int(ndimage.label(peaks, np.ones((3, 3)))[1])


def indentation(nucleus: Mask) -> float:
    """Depth of the deepest notch of a nucleus, in diameters of the circle of its area; 0 where it is convex."""
    hull = convex_hull_image(nucleus)
    depth = ndimage.distance_transform_edt(np.pad(hull, 1))[1:-1, 1:-1]
    notch = hull & ~nucleus
    return float(depth[notch].max() / (2 * np.sqrt(nucleus.sum() / np.pi))) if notch.any() else 0.0
