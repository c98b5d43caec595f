"""Nuclei that lie in one cell: lobes too far apart to be joined by their distance alone, but in one outline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError, cKDTree

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]
Outline = tuple[tuple[slice, slice], Mask]
"""Window of a field and the cell in it."""

_GAP, _REACH = 6.0, 17.0
"""Widest gap between two lobes, and largest extent of both, in micrometres."""
_LONGEST, _ELONGATED, _SOLID = 20.0, 1.7, 0.7
"""Longest extent of a cell in micrometres, that over the shortest, and the least share of its convex hull: two cells that
touch are longer, or narrow in the middle."""
_ALIKE = 0.6
"""The paler lobe's stain over that of the darker one; a platelet on a cell is paler."""
_DIRECTIONS = 30


def lobes_of_cells(
    labels: Labels, outlines: Sequence[Outline], means: NDArray[np.float64], empty: Mask, scale: float
) -> Labels:
    """Give nuclei that lie in one cell the same number; numbers are from 1 on without gaps.

    Two are of one cell if no background lies between them and the outlines found around both together are no longer, no
    narrower and no less convex than a cell.

    Parameters
    ----------
    labels
        Nuclei, ``(height, width)``.
    outlines
        Of the cell around each.
    means
        Mean stain of each.
    empty
        Where the field is background.
    scale
        Micrometres per pixel.
    """
    count = len(outlines)
    places = ndimage.find_objects(labels)
    points = [
        np.argwhere(labels[place] == k) + np.array([place[0].start, place[1].start])
        for k, place in enumerate(places, 1)
    ]
    if count < 2:
        return labels
    middles = np.array([own.mean(axis=0) for own in points])
    leader = np.arange(count)
    members = {k: [k] for k in range(count)}
    candidates = []
    for first, second in cKDTree(middles).query_pairs(_REACH / scale):
        distance, nearest = cKDTree(points[second]).query(points[first])
        closest = distance.argmin()
        line = np.linspace(points[first][closest], points[second][nearest[closest]], 12).round().astype(int)
        alike = min(means[first], means[second]) >= _ALIKE * max(means[first], means[second])
        if alike and distance.min() * scale <= _GAP and empty[line[:, 0], line[:, 1]].mean() <= 0.1:
            candidates.append((float(distance.min()), first, second))
    for _, first, second in sorted(candidates):
        a, b = int(leader[first]), int(leader[second])
        if a != b and _is_one(members[a] + members[b], points, outlines, scale, labels.shape):
            members[a] += members.pop(b)
            leader[members[a]] = a
    numbers = {old: new for new, old in enumerate(sorted(members), 1)}
    return np.array([0, *(numbers[int(k)] for k in leader)], np.int32)[labels]


def _is_one(
    group: list[int],
    points: Sequence[NDArray[np.int64]],
    outlines: Sequence[Outline],
    scale: float,
    shape: tuple[int, ...],
) -> bool:
    if _extents(np.concatenate([points[k] for k in group]))[0] * scale > _REACH:
        return False
    top = min(outlines[k][0][0].start for k in group)
    left = min(outlines[k][0][1].start for k in group)
    bottom = max(outlines[k][0][0].stop for k in group)
    right = max(outlines[k][0][1].stop for k in group)
    both = np.zeros((bottom - top, right - left), bool)
    for k in group:
        (rows, columns), cell = outlines[k]
        both[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] |= cell
    where = np.argwhere(both) + np.array([top, left])
    longest, shortest, solid = _extents(where)
    cut = bool((where == 0).any() or (where == np.array(shape) - 1).any())
    return longest * scale <= _LONGEST and (cut or longest <= _ELONGATED * shortest) and solid >= _SOLID


def _extents(points: NDArray[np.int64]) -> tuple[float, float, float]:
    """Longest and shortest extent in pixels, and the share of the convex hull."""
    try:
        hull = ConvexHull(points)
    except QhullError:  # in one line
        return float(np.ptp(points, axis=0).max()) + 1, 1.0, 1.0
    angles = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    along = points[hull.vertices] @ np.stack([np.sin(angles), np.cos(angles)])
    widths = np.ptp(along, axis=0) + 1
    pixels = hull.volume + hull.area / 2 + 1  # in two dimensions Qhull calls the area volume, the rim area
    return float(widths.max()), float(widths.min()), float(len(points) / pixels)
