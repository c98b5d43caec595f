"""Cells of a field of any size: large ones are searched region by region."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cytosae.cells import Regions, WholeImage
from cytosae.segmentation.field import LARGEST, FieldObject, find_field_cells
from cytosae.settings import FieldConfig

TILE = 250.0
"""Edge of a region without its overlap, in micrometres."""

Area = tuple[int, int, int, int]


def find_in_tiles(pixels: NDArray[np.uint8], mpp: float, config: FieldConfig) -> list[FieldObject]:
    """As `find_field_cells`, region by region.

    A field of up to one and a half regions is searched whole. Memory beyond the image does not grow with it.
    """
    image = WholeImage(pixels)
    objects = [one for area in areas(image.width, image.height, mpp) for one in find_in_area(image, area, mpp, config)]
    return sorted(objects, key=lambda one: (one.box[1], one.box[0]))


def find_in_area(image: Regions, area: Area, mpp: float, config: FieldConfig) -> list[FieldObject]:
    """The objects whose middle lies in an area (left, top, right, bottom), found with an overlap of the largest cell."""
    left, top, right, bottom = area
    overlap = round(LARGEST / mpp)
    x, y = max(0, left - overlap), max(0, top - overlap)
    pixels = image.read(x, y, min(image.width, right + overlap) - x, min(image.height, bottom + overlap) - y)
    objects = []
    for one in find_field_cells(np.ascontiguousarray(pixels), mpp, config):
        x0, y0, x1, y1 = one.box
        box = x0 + x, y0 + y, x1 + x, y1 + y
        if left <= (box[0] + box[2]) / 2 < right and top <= (box[1] + box[3]) / 2 < bottom:
            cut = box[0] <= 0 or box[1] <= 0 or box[2] >= image.width or box[3] >= image.height
            objects.append(replace(one, box=box, at_border=one.at_border and cut))
    return objects


def areas(width: int, height: int, mpp: float) -> list[Area]:
    """The areas (left, top, right, bottom) of about `TILE` micrometres that make up an image, from top to bottom."""
    core = max(1, round(TILE / mpp))
    columns, rows = _divided(width, core), _divided(height, core)
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _divided(length: int, core: int) -> list[tuple[int, int]]:
    if length <= 1.5 * core:
        return [(0, length)]
    count = -(-length // core)
    edges = [round(length * k / count) for k in range(count + 1)]
    return list(pairwise(edges))
