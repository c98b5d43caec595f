"""The nucleated cell in the middle of an image."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cytosae.segmentation.contour import enclosing_contour, inside_contour
from cytosae.segmentation.evidence import inside_evidence
from cytosae.segmentation.nuclei import Guess, guess_nucleus, nucleus_within
from cytosae.segmentation.optics import Optics, measure_optics
from cytosae.segmentation.red_cells import RedCells, find_red_cells

Mask = NDArray[np.bool_]

EDGE = 160
"""Longest edge of the image in which the cell is looked for, in pixels; larger ones are made smaller."""
_REACH = 2.6
"""Farthest outline from the middle of the nucleus, in square roots of its area."""
_NOISE, _LEAST = 4.0, 0.012
"""Density up to which a pixel is background: so many standard deviations, or this."""
_INDISTINCT, _AGREEMENT, _CROWDED, _EMPTY = 0.68, 0.85, 0.9, 0.02
_PLATELET, _SMALL = 0.25, 0.01

DOUBTS = MappingProxyType(
    {
        "no nucleus": "nothing in the middle is stained like a nucleus; there are no masks",
        "small nucleus": f"smaller than {_PLATELET:g} of a red cell's area, or without red cells {_SMALL:.0%} of the image: "
        "a platelet, a fragment, or stain",
        "indistinct nucleus": f"its border depends on the threshold (eta below {_INDISTINCT:g}, or Dice of two thresholds "
        f"below {_AGREEMENT:g}): a smudge, many granules, a cell out of focus",
        "cut by the border": "the cell reaches the border of the image: its size is a lower bound",
        "uneven outline": f"not convex (solidity below {_CROWDED:g}): a neighbour may be in it, or the cell is torn",
        "no background": f"less than {_EMPTY:.0%} of the image is empty: densities are against its brightest part",
    }
)
"""What can be doubted of a found cell -> what it means."""


@dataclass(frozen=True)
class FoundCell:
    """Where a cell is, at the size of its image."""

    nucleus: Mask
    """``(height, width)``."""
    lobes: Mask
    """Its darker part, in which lobes are counted; all of it where the segmentation came with the data."""
    cell: Mask
    """Nucleus and cytoplasm."""
    optics: Optics
    """Densities of the image in which it was found, its longest edge at most `EDGE`."""
    empty: Mask
    """Where that image is background."""
    others: Mask
    """Where it shows nuclei of other cells, platelets or precipitated stain."""
    red_cells: RedCells
    """Whole red cells around it and their diameter, which is a scale."""
    flags: tuple[str, ...]
    """What can be doubted, see `DOUBTS`."""

    @property
    def cytoplasm(self) -> Mask:
        """The cell without its nucleus."""
        return self.cell & ~self.nucleus

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """Left, top, right and bottom of the cell, as Pillow's `crop` takes them; None without a cell."""
        rows, columns = (np.flatnonzero(self.cell.any(axis=axis)) for axis in (1, 0))
        if not rows.size:
            return None
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def tissues(self) -> NDArray[np.uint8]:
        """As a mask image: 255 nucleus, 128 cytoplasm, 0 background."""
        return np.where(self.nucleus, 255, np.where(self.cell, 128, 0)).astype(np.uint8)


def find_cell(
    pixels: NDArray[np.uint8], *, tissues: NDArray[np.uint8] | None = None, centre: tuple[float, float] | None = None
) -> FoundCell:
    """Find the nucleated cell in the middle of an image.

    1. Optical density against the image's own background (`measure_optics`).
    2. The most strongly stained thing near the middle, and its lobes (`guess_nucleus`).
    3. Which colours are more frequent around it than elsewhere (`inside_evidence`).
    4. The closed contour that encloses the most such evidence (`enclosing_contour`).
    5. The nucleus within it (`nucleus_within`).

    Nothing is trained; numbers in the code were chosen on one laboratory and on drawn cells (docs/how-to/morphometry.md).

    Parameters
    ----------
    pixels
        RGB, ``(height, width, 3)``.
    tissues
        A segmentation that comes with the data, ``(height, width)``: 255 nucleus, 128 cytoplasm, 0 background. It is taken
        as it is; red cells are still looked for.
    centre
        Row and column near which the cell is; the middle of the image if None.

    Returns
    -------
    Masks at the size of the image. Where there is no cell they are empty and ``flags`` says so.

    Raises
    ------
    ValueError
        An array of another shape, or a segmentation of another size.

    Examples
    --------
    >>> from cytosae.synthetic import random_cells
    >>> found = find_cell(random_cells(3, seed=0)[0][2])
    >>> found.flags, bool(found.nucleus.sum() < found.cell.sum())
    ((), True)
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or min(pixels.shape[:2]) < 8:
        raise ValueError(f"pixels of shape {pixels.shape}; expected (height, width, 3), at least 8 x 8")
    size = pixels.shape[0], pixels.shape[1]
    if tissues is not None and tissues.shape != size:
        raise ValueError(f"a segmentation of {tissues.shape} for an image of {size}")
    factor = min(1.0, EDGE / max(size))
    small = _resized(pixels, factor)
    optics = measure_optics(small)
    empty = empty_places(optics)
    middle = ((size[0] - 1) / 2, (size[1] - 1) / 2) if centre is None else centre
    guess = guess_nucleus(optics.stain, empty, (middle[0] * factor, middle[1] * factor))
    none = np.zeros(size, bool)
    flags = ["no background"] if optics.background < _EMPTY else []
    if tissues is not None:
        cell, nucleus = tissues > 64, tissues > 192
        lobes = nucleus
        little = _enlarged(cell, small.shape[:2])
    elif guess is None:
        red = find_red_cells(empty, np.zeros_like(empty), 1 / factor)
        return FoundCell(none, none, none, optics, empty, np.zeros_like(empty), red, ("no nucleus", *flags))
    else:
        little = outline(optics, guess, empty)
        inner = nucleus_within(optics.stain, little)
        cell = _enlarged(little, size)
        nucleus, lobes = (_enlarged(mask, size) & cell for mask in (inner.mask, inner.lobes))
        if nucleus.any() and (inner.eta < _INDISTINCT or inner.agreement < _AGREEMENT):
            flags.append("indistinct nucleus")
    others = (np.zeros_like(empty) if guess is None else guess.others | guess.nucleus) & ~little
    red = find_red_cells(empty, little | others, 1 / factor)
    return FoundCell(nucleus, lobes, cell, optics, empty, others, red, (*_doubts(nucleus, cell, red), *flags))


def read_tissues(mask: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask image (0 background, 128 cytoplasm, 255 nucleus) at the size (height, width) of its cell's image."""
    return np.asarray(mask.convert("L").resize(size[::-1], Image.Resampling.NEAREST))


def empty_places(optics: Optics) -> Mask:
    """Where an image is background."""
    thickness = ndimage.gaussian_filter(optics.density.mean(axis=2), 1)
    return np.asarray(thickness < max(_LEAST, _NOISE * optics.noise))


def outline(optics: Optics, guess: Guess, empty: Mask) -> Mask:
    """The cell around a nucleus."""
    nucleus = guess.nucleus
    evidence = inside_evidence(optics.stain, nucleus, guess.others, empty)
    centre = ndimage.center_of_mass(nucleus)
    farthest = float(np.hypot(*(np.argwhere(nucleus) - centre).T).max())
    reach = max(min(_REACH * float(np.sqrt(nucleus.sum())), 0.75 * max(nucleus.shape)), 1.3 * farthest + 2)
    return inside_contour(nucleus.shape, centre, enclosing_contour(evidence, centre, reach))


def _doubts(nucleus: Mask, cell: Mask, red: RedCells) -> list[str]:
    """Flags that follow from the masks."""
    if not nucleus.any():
        return ["no nucleus"]
    flags = []
    smallest = _PLATELET * np.pi * red.diameter**2 / 4 if red.count else _SMALL * nucleus.size
    if nucleus.sum() < smallest:
        flags.append("small nucleus")
    if cell[0].any() or cell[-1].any() or cell[:, 0].any() or cell[:, -1].any():
        flags.append("cut by the border")
    if solidity(cell) < _CROWDED:
        flags.append("uneven outline")
    return flags


def solidity(mask: Mask) -> float:
    """Area over that of the convex hull; 1 for what is convex."""
    from skimage.measure import regionprops

    (part,) = regionprops(mask.astype(np.uint8))
    return float(part.solidity)


def _resized(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    if factor == 1:
        return pixels
    height, width = (max(8, round(edge * factor)) for edge in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


def _enlarged(mask: Mask, size: tuple[int, ...]) -> Mask:
    """A mask at another size, its outline smoothed."""
    if mask.shape == size:
        return mask
    soft = Image.fromarray(ndimage.gaussian_filter(mask.astype(np.float32), 0.7))
    return np.asarray(soft.resize((size[1], size[0]), Image.Resampling.BILINEAR)) > 0.5
