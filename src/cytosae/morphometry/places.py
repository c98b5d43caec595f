"""Where in the picture what lies: a small map of places for every cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.morphology import convex_hull_image

from cytosae.cells.framing import Frame, framed_array
from cytosae.morphometry.stain import unmix
from cytosae.segmentation import FoundCell

PLACES = (
    "background",
    "red cell",
    "stained beside",
    "cytoplasm",
    "cell border",
    "nuclear border",
    "nucleus",
    "nuclear notch",
    "platelet",
)
"""Values of a map of places, from 0. ``red cell`` is whatever is not empty outside the cell; ``stained beside`` is what is
stained like a nucleus there: platelets, nuclei of other cells. ``nuclear notch`` is cytoplasm within the convex hull of the
nucleus: the bay of an indented one, the gaps between lobes. ``platelet`` is all of a cell with a `small nucleus` or none."""
EDGE = 64
"""Edge of the map of a square (squashed) picture."""
LOOKS = ("azure", "eosin", "dark spots", "pale spots", "needles")
"""What a map of looks has: density of azure and eosin; what stands out darkly or palely as granules or vacuoles do; and what
of the dark is drawn out into lines, as Auer rods are."""
LOOK_EDGE = 16
"""Edge of a map of looks."""
_LOOK_STEP = (0.005, 0.005, 0.0015, 0.0015, 0.0005)
"""Densities of one level of a map of looks; the highest is 255 of them."""
_GRANULE, _VACUOLE = 0.03, 0.08
"""Radii of what stands out, in diameters of the cell."""
_BORDER = 0.05
"""Half the width of a border, in diameters of the cell."""
_NOTCH = 0.03
"""Half the width of the narrowest notch, in diameters of the cell."""
_NEEDLE = 0.012
"""Width (standard deviation) of a needle, in diameters of the cell."""


def place_map(segmented: FoundCell, frame: Frame | None = None) -> NDArray[np.uint8]:
    """Places of a cell's picture, or of what a frame shows of it, ``(EDGE, EDGE)``, numbers of `PLACES`."""
    places = np.where(segmented.empty, 0, 1).astype(np.uint8)
    places[segmented.others] = 2
    size = places.shape
    cell, nucleus = (_shrunk(mask, size) for mask in (segmented.cell, segmented.nucleus))
    if cell.any():
        width = max(1.0, _BORDER * 2 * float(np.sqrt(cell.sum() / np.pi)))
        if "small nucleus" in segmented.flags or not nucleus.any():
            places[cell | _border(cell, width)] = 8
        else:
            places[cell] = 3
            places[_border(cell, width)] = 4
            places[nucleus] = 6
            places[_border(nucleus, width) & cell] = 5
            places[_notch(nucleus, width * _NOTCH / _BORDER) & cell] = 7
    if frame is not None:
        return np.asarray(framed_array(places, frame, _own_size(segmented), EDGE), np.uint8)
    return np.asarray(Image.fromarray(places).resize((EDGE, EDGE), Image.Resampling.NEAREST))


def look_map(segmented: FoundCell, frame: Frame | None = None) -> NDArray[np.uint8]:
    """Looks of the same, ``(len(LOOKS), LOOK_EDGE, LOOK_EDGE)``, in levels of `_LOOK_STEP`."""
    stain = segmented.optics.stain
    mean = stain.mean(axis=2)
    cell = _shrunk(segmented.cell, mean.shape)
    diameter = 2 * float(np.sqrt(cell.sum() / np.pi)) if cell.any() else 0.4 * max(mean.shape)
    fine, coarse = (2 * max(1, round(radius * diameter)) + 1 for radius in (_GRANULE, _VACUOLE))
    spots = ndimage.white_tophat(mean, size=(fine, fine)), ndimage.black_tophat(mean, size=(coarse, coarse))
    planes = [*np.moveaxis(unmix(stain), 2, 0), *spots, _needles(spots[0], max(0.7, _NEEDLE * diameter))]
    levels = [np.clip(plane / step, 0, 255) for plane, step in zip(planes, _LOOK_STEP, strict=True)]
    if frame is not None:
        levels = [framed_array(plane, frame, _own_size(segmented), 8 * LOOK_EDGE) for plane in levels]
    size = (LOOK_EDGE, LOOK_EDGE)
    small = [Image.fromarray(plane.astype(np.float32)).resize(size, Image.Resampling.BOX) for plane in levels]
    return np.stack([np.asarray(plane).round().astype(np.uint8) for plane in small])


def patch_looks(maps: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Maps of looks at another grid, as densities: ``(n_cells, len(LOOKS), rows, columns)``."""
    rows, columns = (np.arange(edge) * LOOK_EDGE // edge for edge in grid)
    steps = np.array(_LOOK_STEP, np.float32)[:, None, None]
    return np.asarray(maps[:, :, rows[:, None], columns].astype(np.float32) * steps)


def patch_places(maps: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Share of each patch that each place has.

    Parameters
    ----------
    maps
        Of `place_map`, ``(n_cells, EDGE, EDGE)``.
    grid
        Rows and columns of patches.

    Returns
    -------
    ``(n_cells, n_places, rows, columns)``; the places of a patch add up to 1.

    Examples
    --------
    >>> maps = np.zeros((1, EDGE, EDGE), np.uint8)
    >>> maps[0, :8] = 6
    >>> patch_places(maps, (4, 4))[0, :, 0, 0].tolist()
    [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]
    """
    rows, columns = (np.arange(EDGE) * edge // EDGE for edge in grid)
    members = (maps[:, None] == np.arange(len(PLACES), dtype=np.uint8)[:, None, None]).astype(np.float32)
    starts = [np.searchsorted(index, np.arange(edge)) for index, edge in zip((rows, columns), grid, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(members, starts[0], axis=2), starts[1], axis=3)
    return np.asarray(sums / sums.sum(axis=1, keepdims=True))


def _notch(nucleus: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """What lies within the convex hull of the nucleus but outside it, and is nowhere narrower than twice `least` pixels."""
    outside = convex_hull_image(nucleus) & ~nucleus if nucleus.any() else np.zeros(nucleus.shape, bool)
    if not outside.any():
        return outside
    deep = ndimage.distance_transform_edt(outside) >= least
    return np.asarray(outside & (ndimage.distance_transform_edt(~deep) <= least)) if deep.any() else deep


def _needles(dark: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """How much more dark stands out across a line than along it: the Hessian's eigenvalues (Frangi et al. 1998)."""
    orders = ((2, 0), (0, 2), (1, 1))
    rr, cc, rc = (ndimage.gaussian_filter(dark, width, order) * width**2 for order in orders)
    middle, apart = (rr + cc) / 2, np.hypot((rr - cc) / 2, rc)
    across, along = middle - apart, middle + apart
    return np.asarray(np.maximum(-across - 2 * np.abs(along), 0))


def _border(mask: NDArray[np.bool_], width: float) -> NDArray[np.bool_]:
    inner = ndimage.distance_transform_edt(mask) <= width
    outer = ndimage.distance_transform_edt(~mask) <= width
    return np.asarray(inner & outer | (mask & inner) | (~mask & outer))


def _own_size(segmented: FoundCell) -> tuple[int, int]:
    """Width and height of the image, in which frames are given."""
    height, width = segmented.cell.shape
    return width, height


def _shrunk(mask: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    if mask.shape == size:
        return mask
    return (
        np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((size[1], size[0]), Image.Resampling.BOX)) > 127
    )
