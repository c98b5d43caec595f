"""All nucleated cells of a field, and what else is stained like a nucleus with the reason why it is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import filters

from cytosae.segmentation.cell import empty_places, outline, solidity
from cytosae.segmentation.clumps import label_means, nuclear_parts, nuclei_of_parts
from cytosae.segmentation.lobes import Outline, lobes_of_cells
from cytosae.segmentation.nuclei import Guess, chromatin_stain
from cytosae.segmentation.optics import Optics, measure_optics
from cytosae.settings import FieldConfig

Mask = NDArray[np.bool_]

SCALE = 0.2
"""Micrometres per pixel at which cells are looked for."""
LARGEST = 24.0
"""Largest cell, in micrometres: what lies within one region's overlap."""
_SMOOTHING = 0.25
"""Of the nuclear stain, in micrometres."""
_NEAR = 0.6
"""Cells whose outlines come this close touch, in micrometres."""
_PALE = 0.62
"""A small nucleus paler than this share of the field's large nuclei is a platelet's granules."""
_SMALL = 22.0
"""Area up to which a pale or lone nucleus may be none, in square micrometres."""
_ABOVE, _BELOW = 1.8, 0.55
"""Least stain of a nucleus: that many times the red cells', at most this share of the nuclei's."""
_MOST, _CLEAR = 0.6, 3.0
"""Nuclei cover less of what is stained, or are that many times as dark as the rest."""
_EMPTY = 0.2
"""Background is thinner than this share of what is stained."""
_PIECE, _WITHIN = 30.0, 0.2
"""A smaller nucleus, in square micrometres, is cytoplasm if this share of its outline lies within that of a larger one."""
_ALIKE, _UNKNOWN = 3, 1.13
"""The field's nuclei tell how thick a cell should be, if there are so many; else a thing counts as that much thicker."""
_RAGGED, _HUES = 0.1, 3.0
"""Share of the convex hull that is compared with, and degrees beyond which a rim has another hue than its core."""
_ODDS = MappingProxyType(
    {"constant": 5.5, "ragged": 7.8, "border": 13.0, "its square": -24.0, "thick": -12.3, "hue": -5.0}
)
"""Log odds of a smudge (`_smudge_odds`), for logarithms of what is measured."""
_SURE = 4.0
"""Log odds of a smudge by which its margin changes e-fold."""
_RIM, _CORE = (0.8, 1.8), 60
"""The rim lies so far within a cell's outline, in micrometres; its core is deeper than this percentage of its places."""

REASONS = MappingProxyType(
    {
        "platelet": "small, and paler than the nuclei of the field",
        "stain deposit": "small and dark, without cytoplasm",
        "smudge": "a broken cell: its border wide, its outline ragged, thinner than the nuclei of the field, in one hue",
        "part of a cell": "small, and its outline lies in that of a larger nucleus: granules, deeply stained cytoplasm",
        "too faint": "stained less than `--faintest`, or hardly more than the red cells of the field",
    }
)
"""Why something that is stained like a nucleus is no nucleated cell -> what it means."""


@dataclass(frozen=True)
class FieldObject:
    """Something in a field that is stained like a nucleus."""

    box: tuple[int, int, int, int]
    """Left, top, right and bottom of the cell, in pixels of the field, as Pillow's `crop` takes them."""
    score: float
    """How far from being rejected: 0 on the border of a rule, near 1 far from all."""
    reason: str | None
    """Why it is no nucleated cell, see `REASONS`; None for one."""
    touching: bool
    """Whether its outline meets that of another cell."""
    at_border: bool
    """Whether the field's border cuts it."""
    nucleus: float
    """Area of its nucleus, in square micrometres."""
    stain: float
    """Mean nuclear stain, in optical density."""
    border: float
    """Width of the nucleus's border, in micrometres."""
    cytoplasm: float
    """Area of the cell over that of its nucleus."""


def find_field_cells(pixels: NDArray[np.uint8], mpp: float, config: FieldConfig | None = None) -> list[FieldObject]:
    """Find all nucleated cells of a field.

    1. Optical density against the field's own background, at 0.2 micrometres per pixel (`measure_optics`).
    2. What is stained like a nucleus, cut where it narrows (`nuclear_parts`): watershed of the distance transform.
    3. Parts that together make one nucleus of lobes (`nuclei_of_parts`).
    4. The outline of each cell, as `find_cell` finds it.
    5. Platelets, deposits of stain and smudges separated by area, stain, border and cytoplasm.

    Parameters
    ----------
    pixels
        RGB, ``(height, width, 3)``.
    mpp
        Micrometres per pixel.
    config
        Settings; the defaults if None.

    Returns
    -------
    Nucleated cells and rejected objects, from top to bottom.

    Examples
    --------
    >>> from cytosae.synthetic import FieldSpec, render_field
    >>> field = render_field(FieldSpec(width=480, height=360, cells=10), seed=1)
    >>> found = [one for one in find_field_cells(field.pixels, field.mpp) if one.reason is None]
    >>> len(found) == len(field.cells)
    True
    """
    config = config or FieldConfig()
    height, width = pixels.shape[:2]
    factor = mpp / SCALE
    size = max(8, round(width * factor)), max(8, round(height * factor))
    method = Image.Resampling.BOX if factor < 1 else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(pixels).resize(size, method))
    optics = measure_optics(small)
    empty = _background(optics)
    chromatin = chromatin_stain(optics.stain, _SMOOTHING / SCALE)
    faintest = _least_stain(chromatin, empty, config.faintest)
    parts = nuclear_parts(chromatin, faintest, SCALE)
    labels = nuclei_of_parts(parts, empty, SCALE, config)
    if not labels.any():
        return []
    labels, cells = _cells(optics, labels, chromatin, empty)
    count = len(cells)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:] * SCALE**2
    means = label_means(chromatin, labels, count)
    large = means[areas > _SMALL]
    typical = float(np.median(large)) if large.size else 0.0
    colours = ndimage.gaussian_filter(optics.density, (_SMOOTHING / SCALE, _SMOOTHING / SCALE, 0))
    thickness = colours.mean(axis=2)
    thick = label_means(thickness, labels, count)
    thick = thick / np.median(thick[areas > _SMALL]) if large.size >= _ALIKE else np.full(count, _UNKNOWN)
    objects = []
    for number, (window, cell) in enumerate(cells, 1):
        nucleus = labels[window] == number
        border = min(_border_width(chromatin[window], nucleus), _border_width(thickness[window], cell))
        filled = float(cell.sum() / max(1, nucleus.sum()))
        values = (float(areas[number - 1]), float(means[number - 1]), border, filled)
        hue = _hue_of_rim(colours[window], cell)
        odds = _smudge_odds(border / config.border_width, 1 - solidity(cell), float(thick[number - 1]), hue)
        reason, score = _judged(values, odds, typical, faintest, config)
        rows, columns = np.flatnonzero(cell.any(axis=1)), np.flatnonzero(cell.any(axis=0))
        top, left = window[0].start + rows[0], window[1].start + columns[0]
        bottom, right = window[0].start + rows[-1] + 1, window[1].start + columns[-1] + 1
        box = (
            max(0, round(left * width / size[0])),
            max(0, round(top * height / size[1])),
            min(width, round(right * width / size[0])),
            min(height, round(bottom * height / size[1])),
        )
        border_cut = top == 0 or left == 0 or bottom == size[1] or right == size[0]
        objects.append(FieldObject(box, score, reason, False, bool(border_cut), *values))
    return _with_neighbours(objects, cells)


def _background(optics: Optics) -> Mask:
    """Where there is nothing, also in a field whose light varies so much that its noise is as high as cells are dark."""
    thickness = ndimage.gaussian_filter(optics.density.mean(axis=2), 1)
    if np.ptp(thickness) < 1e-6:
        return empty_places(optics)
    stained = thickness[thickness > filters.threshold_otsu(thickness)]
    return empty_places(optics) & (thickness < _EMPTY * float(np.median(stained)))


def _least_stain(chromatin: NDArray[np.float64], empty: Mask, faintest: float) -> float:
    """Stain above which something may be a nucleus: well above that of the field's red cells, well below its nuclei's."""
    values = chromatin[~empty]
    if values.size < 100 or np.ptp(values) < 1e-6:
        return max(faintest, 1e-3)
    threshold = filters.threshold_otsu(values)
    dark = values > threshold
    red, nuclei = float(np.median(values[~dark])), float(np.median(values[dark]))
    if dark.mean() > _MOST and nuclei < _CLEAR * red:  # no nuclei: the darker are red cells, the paler their centres
        return max(faintest, _ABOVE * nuclei)
    return max(faintest, min(_ABOVE * red, _BELOW * nuclei), 1e-3)


def _cells(
    optics: Optics, labels: NDArray[np.int32], chromatin: NDArray[np.float64], empty: Mask
) -> tuple[NDArray[np.int32], list[Outline]]:
    """The outline of every cell, and the nuclei with lobes of one cell joined."""
    cells = [_one_cell(optics, labels, number, empty) for number in range(1, int(labels.max()) + 1)]
    joined = lobes_of_cells(labels, cells, label_means(chromatin, labels, int(labels.max())), empty, SCALE)
    numbers = ndimage.maximum(joined, labels, np.arange(1, len(cells) + 1)).astype(int)
    parts, known = np.bincount(numbers), dict(zip(numbers.tolist(), cells, strict=True))
    return joined, [
        known[number] if parts[number] == 1 else _one_cell(optics, joined, number, empty)
        for number in range(1, int(joined.max()) + 1)
    ]


def _one_cell(optics: Optics, labels: NDArray[np.int32], number: int, empty: Mask) -> Outline:
    """The outline of a cell within a window around its nucleus."""
    rows, columns = ndimage.find_objects((labels == number).astype(np.int8))[0]
    reach = round(LARGEST / 2 / SCALE)
    y, x = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
    top, left = max(0, min(rows.start, y - reach)), max(0, min(columns.start, x - reach))
    bottom, right = max(rows.stop, y + reach), max(columns.stop, x + reach)
    window = slice(top, min(labels.shape[0], bottom)), slice(left, min(labels.shape[1], right))
    near = labels[window]
    part = Optics(optics.density[window], optics.noise, optics.background)
    cell = outline(part, Guess(near == number, (near > 0) & (near != number)), empty[window])
    return window, cell | (near == number)


def _border_width(values: NDArray[np.float64], shape: Mask) -> float:
    """Range of the stain over its steepest slope on a border, in micrometres; the median of its points."""
    rim = ndimage.binary_dilation(shape, iterations=2) & ~ndimage.binary_erosion(shape, iterations=2)
    around = ndimage.binary_dilation(shape, iterations=5) & ~shape
    if not rim.any() or not around.any():
        return 0.0
    slope = np.hypot(*np.gradient(values)) / SCALE
    steep = ndimage.maximum_filter(np.where(rim, slope, 0), 5)[rim]
    span = float(np.median(values[shape]) - np.percentile(values[around], 20))
    return span / max(1e-6, float(np.median(steep)))


def _hue_of_rim(colours: NDArray[np.float64], cell: Mask) -> float:
    """Angle between the mean optical densities of a cell's rim and of its core, in degrees; NaN if it has no rim.

    Cytoplasm has another hue than the nucleus. A smudge has the same everywhere.
    """
    depth = ndimage.distance_transform_edt(cell) * SCALE
    rim = (depth > _RIM[0]) & (depth < _RIM[1])
    if not rim.any():
        return float("nan")
    core = depth >= np.percentile(depth[cell], _CORE)
    first, second = colours[rim].mean(axis=0), colours[core].mean(axis=0)
    cosine = first @ second / max(1e-9, float(np.linalg.norm(first) * np.linalg.norm(second)))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _smudge_odds(border: float, lacking: float, thick: float, hue: float) -> float:
    """Log odds that something is a smudge: a border of about `--border-width`, ragged, thin and of one hue.

    A logistic regression on drawn fields (seeds 2000 to 5800; 135 smudges of 2,744 things), its constant 1.5 lower: to
    lose a cell is worse than to keep a smudge.

    Parameters
    ----------
    border
        Width of the border, in ``--border-width``.
    lacking
        Share of the convex hull that is not filled.
    thick
        Mean stain of the nucleus over that of the field's nuclei.
    hue
        Of `_hue_of_rim`.
    """
    width = np.log(max(border, 0.05))
    measured = {
        "constant": 1.0,
        "ragged": np.log((lacking + 0.005) / _RAGGED),
        "border": width,
        "its square": width**2,
        "thick": np.log(max(thick, 0.05)),
        "hue": np.log(1 + min(0.0 if np.isnan(hue) else hue, _HUES)),
    }
    return float(sum(_ODDS[name] * value for name, value in measured.items()))


def _judged(
    values: tuple[float, float, float, float],
    smudge: float,
    typical: float,
    faintest: float,
    config: FieldConfig,
) -> tuple[str | None, float]:
    """Why an object is no nucleated cell, or None; and how far it is from the nearest rule."""
    area, stain, *_ = values
    pale = stain / (_PALE * typical) if typical else 2.0
    margins = {
        "too faint": stain / faintest,
        "platelet": max(area / _SMALL, pale),
        "stain deposit": area / config.smallest_nucleus if config.smallest_nucleus else 2.0,
        "smudge": float(np.exp(np.clip(-smudge / _SURE, -5, 5))),
    }
    reason, margin = min(margins.items(), key=lambda item: item[1])
    if margin >= 1:
        return None, 1 - 1 / margin
    return ("platelet" if area < config.smallest_nucleus and pale < 1 else reason), 1 - margin


def _with_neighbours(objects: list[FieldObject], cells: list[Outline]) -> list[FieldObject]:
    """Mark nucleated cells whose outlines come near each other, and small things within another's; from top to bottom."""
    cell_numbers = [number for number, one in enumerate(objects) if one.reason is None]
    steps = max(1, round(_NEAR / SCALE))
    touching, pieces = set(), set()
    for index, first in enumerate(cell_numbers):
        window, cell = cells[first]
        place = window[0].start - steps, window[1].start - steps
        padded = np.pad(cell, steps)
        wide = ndimage.binary_dilation(padded, iterations=steps)
        for second in cell_numbers[index + 1 :]:
            (rows, columns), shape = cells[second]
            if not _shared((place, wide), ((rows.start, columns.start), shape)):
                continue
            touching |= {first, second}
            small = min(first, second, key=lambda number: objects[number].nucleus)
            if objects[small].nucleus < _PIECE:
                shared = _shared((place, padded), ((rows.start, columns.start), shape))
                if shared > _WITHIN * cells[small][1].sum():
                    pieces.add(small)
    marked = [
        replace(one, touching=number in touching, reason="part of a cell" if number in pieces else one.reason)
        for number, one in enumerate(objects)
    ]
    return sorted(marked, key=lambda one: (one.box[1], one.box[0]))


def _shared(first: tuple[tuple[int, int], Mask], second: tuple[tuple[int, int], Mask]) -> int:
    """Pixels of a field that lie in both of two masks, each with the row and column of its corner."""
    (top, left), mine = first
    (upper, fore), its = second
    rows = max(top, upper), min(top + mine.shape[0], upper + its.shape[0])
    columns = max(left, fore), min(left + mine.shape[1], fore + its.shape[1])
    if rows[0] >= rows[1] or columns[0] >= columns[1]:
        return 0
    one = mine[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left]
    other = its[rows[0] - upper : rows[1] - upper, columns[0] - fore : columns[1] - fore]
    return int((one & other).sum())
