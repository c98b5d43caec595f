"""Cells of a field of any size: large ones are searched tile by tile."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cytosae.segmentation.field import LARGEST, FieldObject, find_field_cells
from cytosae.settings import FieldConfig

TILE = 250.0
"""Edge of a tile without its overlap, in micrometres."""


def find_in_tiles(pixels: NDArray[np.uint8], mpp: float, config: FieldConfig) -> list[FieldObject]:
    """As `find_field_cells`, tile by tile with an overlap of the largest cell; an object belongs to the tile of its middle.

    A field of up to one and a half tiles is searched whole. Memory beyond the image does not grow with it.
    """
    height, width = pixels.shape[:2]
    core, overlap = round(TILE / mpp), round(LARGEST / mpp)
    boxes = []
    for top, bottom in _divided(height, core):
        for left, right in _divided(width, core):
            rows = slice(max(0, top - overlap), min(height, bottom + overlap))
            columns = slice(max(0, left - overlap), min(width, right + overlap))
            for one in find_field_cells(np.ascontiguousarray(pixels[rows, columns]), mpp, config):
                x0, y0, x1, y1 = one.box
                box = x0 + columns.start, y0 + rows.start, x1 + columns.start, y1 + rows.start
                if left <= (box[0] + box[2]) / 2 < right and top <= (box[1] + box[3]) / 2 < bottom:
                    cut = box[0] <= 0 or box[1] <= 0 or box[2] >= width or box[3] >= height
                    boxes.append(replace(one, box=box, at_border=one.at_border and cut))
    return sorted(boxes, key=lambda one: (one.box[1], one.box[0]))


def _divided(length: int, core: int) -> list[tuple[int, int]]:
    if length <= 1.5 * core:
        return [(0, length)]
    count = -(-length // core)
    edges = [round(length * k / count) for k in range(count + 1)]
    return list(pairwise(edges))
