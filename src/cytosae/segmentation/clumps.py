"""Which parts of what is stained like nuclei make one nucleus: clumps are cut, lobes are joined."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError, cKDTree
from skimage import filters, measure, segmentation
from skimage.morphology import h_maxima

from cytosae.settings import FieldConfig

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]

_LEAST = 1.5
"""Smallest part that is looked at, in square micrometres."""
_DEPTH = 0.35
"""How much narrower a neck is than the parts that it joins, in micrometres of their half width."""
_NECK = 0.72
"""A neck wider than this share of the narrower part's width joins one nucleus."""
_ONE = 2.2
"""Largest round nucleus, in multiples of the largest lobed one."""
_TINY = 9.0
"""A part up to this area joins its nearest neighbour, in square micrometres."""
_PALER = 0.6
"""A nucleus in a clump may be this much paler than those of the field."""
_PALE, _DUSKY, _BESIDE = 0.58, 0.8, 3.0
"""A part paler than this share of the field's nuclei (the second: if ragged) is cytoplasm if a nucleus is so near, in
micrometres."""
_RAGGED = 0.8
"""Solidity below which a part is ragged."""
_LOWEST = 0.75
"""Where a stained region ends, as a share of the least stain of a nucleus."""
_CLOSED = 0.4
"""Gaps in a nucleus that are closed, in micrometres of half their width."""
_CONTRAST = 0.15
"""Least difference of nucleus and cytoplasm, in optical density."""
_LEVEL = 0.45
"""Where between cytoplasm (0) and nucleus (1) of what is stained a nucleus begins."""


def nuclear_parts(chromatin: NDArray[np.float64], faintest: float, scale: float) -> Labels:
    """Parts of what is stained like a nucleus, cut where they narrow, ``(height, width)``; 0 elsewhere.

    Parameters
    ----------
    chromatin
        Nuclear stain, see `cytosae.segmentation.nuclei.chromatin_stain`.
    faintest
        Least stain.
    scale
        Micrometres per pixel.
    """
    lowest = _LOWEST * faintest
    regions, count = ndimage.label(chromatin > lowest)
    strong = np.bincount(regions[chromatin > faintest], minlength=count + 1) * scale**2 >= _LEAST
    levels = []
    for number, window in enumerate(ndimage.find_objects(regions), 1):
        values = chromatin[window][regions[window] == number] if strong[number] else None
        levels.append(np.inf if values is None else _nuclear_level(values, lowest))
    dark = chromatin > np.array([np.inf, *levels])[regions]
    typical = float(np.median(chromatin[dark])) if dark.any() else 0.0
    highest = max(lowest, _PALER * typical)  # in a clump, of the palest of its nuclei
    dark = (
        chromatin
        > np.array([np.inf, *(min(level, highest) if np.isfinite(level) else level for level in levels)])[regions]
    )
    dark = ndimage.binary_closing(np.pad(dark, 4, mode="edge"), iterations=max(1, round(_CLOSED / scale)))[4:-4, 4:-4]
    dark = ndimage.binary_opening(ndimage.binary_fill_holes(dark), iterations=max(1, round(0.2 / scale)))
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(dark) * scale, 0.2 / scale)
    markers, _ = ndimage.label(h_maxima(depth, _DEPTH))
    parts = segmentation.watershed(-depth, markers, mask=dark)
    sizes = np.bincount(parts.ravel())
    small = sizes * scale**2 < _LEAST
    parts[small[parts]] = 0
    parts = _without_cytoplasm(parts, chromatin, typical, scale)
    relabelled, _, _ = segmentation.relabel_sequential(parts)
    return np.asarray(relabelled, np.int32)


def _without_cytoplasm(parts: Labels, chromatin: NDArray[np.float64], typical: float, scale: float) -> Labels:
    """Leave out pale parts beside a dark one: deeply stained cytoplasm."""
    count = int(parts.max(initial=0))
    means = np.zeros(count + 1)
    means[1:] = label_means(chromatin, parts, count)
    faint = means < _PALE * typical
    for part in measure.regionprops(parts):
        faint[part.label] |= bool(means[part.label] < _DUSKY * typical and part.solidity < _RAGGED)
    faint[0] = False
    is_dark = (parts > 0) & ~faint[parts]
    if not is_dark.any() or not faint.any():
        return parts
    away = ndimage.distance_transform_edt(~is_dark) * scale
    nearest = np.asarray(ndimage.minimum(away, parts, np.arange(count + 1)))
    cytoplasm = faint & (nearest < _BESIDE)
    return np.where(cytoplasm[parts], 0, parts)


def label_means(values: NDArray[np.float64], labels: Labels, count: int) -> NDArray[np.float64]:
    """Mean over each label from 1 on; 0 where a label is nowhere."""
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return np.bincount(labels.ravel(), values.ravel(), minlength=count + 1)[1:] / np.maximum(sizes, 1)


def _nuclear_level(values: NDArray[np.float64], faintest: float) -> float:
    """Where the nucleus begins in a region that may have deeply stained cytoplasm."""
    if np.ptp(values) < 0.05:
        return faintest
    threshold = filters.threshold_otsu(values)
    low, high = float(values[values <= threshold].mean()), float(values[values > threshold].mean())
    return max(faintest, low + _LEVEL * (high - low)) if high - low > _CONTRAST else faintest


def nuclei_of_parts(parts: Labels, empty: Mask, scale: float, config: FieldConfig) -> Labels:
    """Join the parts that make one nucleus, nearest first.

    Two are joined if the gap is at most ``lobe_gap``, no background lies between, and the whole is no larger than
    ``largest_nucleus`` and ``nucleus_reach``; and where the neck between them is nearly as wide as they are.

    Parameters
    ----------
    parts
        Of `nuclear_parts`.
    empty
        Where the field is background.
    scale
        Micrometres per pixel.
    config
        Settings.
    """
    count = int(parts.max(initial=0))
    places = ndimage.find_objects(parts)
    corners = [np.array([window[0].start, window[1].start]) for window in places]
    points = [np.argwhere(parts[window] == k) + corners[k - 1] for k, window in enumerate(places, 1)]
    rims = [_rim(parts[window] == k) + corners[k - 1] for k, window in enumerate(places, 1)]
    trees = [cKDTree(rim) for rim in rims]
    middles = np.array([p.mean(axis=0) for p in points]).reshape(-1, 2)
    near = cKDTree(middles).query_pairs((config.nucleus_reach + config.lobe_gap) / scale) if count > 1 else set()
    pairs = []
    for first, second in sorted(near):
        distance, nearest = trees[second].query(rims[first])
        gap = float(distance.min())
        if (gap - 1) * scale > config.lobe_gap:
            continue
        start = rims[first][distance.argmin()]
        there = rims[second][nearest[distance.argmin()]]
        line = np.linspace(start, there, 12).round().astype(int)
        if empty[line[:, 0], line[:, 1]].any():
            continue
        neck = float((distance < 2).sum()) * scale
        pairs.append((gap, first, second, neck))
    group = list(range(count))
    members = {k: [k] for k in range(count)}

    def joined(first: int, second: int, neck: float, gap: float) -> bool:
        together = np.concatenate([points[k] for k in members[first] + members[second]])
        areas = [sum(len(points[k]) for k in members[one]) * scale**2 for one in (first, second)]
        width = 2 * float(np.sqrt(min(areas) / np.pi))
        extent = _extent(together) * scale
        if gap < 2 and neck > _NECK * width and sum(areas) < _ONE * config.largest_nucleus:
            return True
        if min(areas) < _TINY:
            return extent < config.nucleus_reach + 2
        return sum(areas) <= config.largest_nucleus and extent <= config.nucleus_reach

    for gap, first, second, neck in sorted(pairs):
        a, b = group[first], group[second]
        if a != b and joined(a, b, neck, gap):
            members[a] += members.pop(b)
            for k in members[a]:
                group[k] = a
    numbers = {leader: window for window, leader in enumerate(sorted(members), 1)}
    lookup = np.array([0, *(numbers[leader] for leader in group)], np.int32)
    return lookup[parts]


def _rim(shape: Mask) -> NDArray[np.int64]:
    return np.argwhere(shape & ~ndimage.binary_erosion(shape))


def _extent(points: NDArray[np.int64]) -> float:
    """Largest distance between two points."""
    try:
        corners = points[ConvexHull(points).vertices].astype(float)
    except QhullError:
        corners = points.astype(float)
    return float(np.hypot(*(corners[:, None] - corners[None]).T).max()) + 1
