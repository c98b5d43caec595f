"""Where nuclei are: from the first guess over the whole image to the outline within a cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import filters

Mask = NDArray[np.bool_]
Plane = NDArray[np.float64]

_OVERALL = np.array([0.5, 1.0, -0.5])
"""Weights of the densities of red, green and blue that tell nuclei from red cells: thiazines take red and green light."""
_WITHIN = np.array([-0.25, 1.0, -0.5])
"""Weights that tell a nucleus from its cytoplasm, blue ones included."""
_SMOOTHING = 0.7
_CENTRE = 0.25
"""Width of the middle of the image in which the cell is looked for, in edges (standard deviation)."""
_FAINT = 0.25
"""Blueness below which nothing is a nucleus; the faintest of 320 real and drawn ones have 0.33."""
_SMALLEST = 0.0015
"""Smallest nucleus, as a share of the image."""
_GAP = 0.5
"""Lobes whose gap is below this, in square roots of the area of the nucleus, are of one nucleus."""
_LOBE = 0.04
"""Smallest lobe, as a share of the nucleus."""
_LEVEL = 0.33
"""Where between the means of cytoplasm (0) and nucleus (1) the nucleus begins."""
_LOBES = 0.4
"""The same for its lobes: their bridges are paler than they are."""
_STRICT = (0.28, 0.55)
"""Two such levels: the nucleus is in doubt where they give different ones."""
_NARROW = 0.05
"""Bridges and rims narrower than twice this, in square roots of the cell's area, are none of the nucleus."""
_PART = 0.1
"""Smallest part of a nucleus, as a share of the largest."""
_HOLE = 0.04
"""Holes up to this share of the nucleus are filled: nucleoli, not the hole of a ring."""


@dataclass(frozen=True)
class Guess:
    """The nucleus in the middle, and nuclei and platelets of others."""

    nucleus: Mask
    others: Mask


def guess_nucleus(stain: NDArray[np.float64], background: Mask, centre: tuple[float, float]) -> Guess | None:
    """The most strongly stained thing near a place, with its lobes; None where nothing is stained like a nucleus.

    Parameters
    ----------
    stain
        Densities, ``(height, width, 3)``.
    background
        Where there is nothing.
    centre
        Row and column.
    """
    blueness = nuclear_stain(stain)
    dark = ndimage.binary_opening(blueness > _upper_of_three(blueness))
    labels, n_labels = ndimage.label(dark)
    areas = np.bincount(labels.ravel())
    large = areas >= max(8, _SMALLEST * labels.size)
    large[0] = False
    if not large.any():
        return None
    height, width = labels.shape
    y, x = np.mgrid[:height, :width]
    near = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * (_CENTRE * max(height, width)) ** 2))
    mass = ndimage.sum_labels(blueness * near, labels, np.arange(n_labels + 1))
    main = int(np.where(large, mass, -np.inf).argmax())
    if blueness[labels == main].mean() < _FAINT:
        return None
    edge = np.zeros(n_labels + 1, bool)
    edge[np.unique(np.r_[labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    candidates = [int(k) for k in np.flatnonzero(large) if k != main and (edge[main] or not edge[k])]
    nucleus = _with_lobes(labels, main, candidates, background)
    return Guess(nucleus, large[labels] & ~nucleus)


def nuclear_stain(stain: NDArray[np.float64], smoothing: float = 1.0) -> Plane:
    """How much more a pixel is stained like a nucleus than like a red cell, ``(height, width)``; smoothing in pixels."""
    return np.asarray(ndimage.gaussian_filter(stain @ _OVERALL, smoothing))


def chromatin_stain(stain: NDArray[np.float64], smoothing: float) -> Plane:
    """The same for a nucleus against cytoplasm, also a deep blue one, and red cells."""
    return np.asarray(ndimage.gaussian_filter(stain @ _WITHIN, smoothing))


def _upper_of_three(values: Plane) -> float:
    """Threshold between the darkest of three classes and the rest (Liao et al., J Inf Sci Eng 2001)."""
    try:
        return float(filters.threshold_multiotsu(values, 3, nbins=64)[1])
    except ValueError:  # fewer than three different values
        return np.inf


def _with_lobes(labels: NDArray[np.int32], main: int, candidates: list[int], background: Mask) -> Mask:
    """A nucleus and the parts near it to which the straight line crosses no background."""
    nucleus = labels == main
    for _ in range(2):
        distance, nearest = ndimage.distance_transform_edt(~nucleus, return_indices=True)
        size = np.sqrt(nucleus.sum())
        for k in [k for k in candidates if not nucleus[labels == k].any()]:
            part = np.argwhere(labels == k)
            gaps = distance[part[:, 0], part[:, 1]]
            if gaps.min() >= _GAP * size or len(part) <= _LOBE * size**2:
                continue
            start = part[gaps.argmin()]
            line = np.linspace(start, nearest[:, start[0], start[1]], 12).round().astype(int)
            if not background[line[:, 0], line[:, 1]].any():
                nucleus = nucleus | (labels == k)
    return nucleus


@dataclass(frozen=True)
class Nucleus:
    """The nucleus of a cell."""

    mask: Mask
    lobes: Mask
    """Its darker part, in which lobes are counted."""
    eta: float
    """Share of the variance that is between nucleus and cytoplasm: 1 for two colours, about 0.65 for a smooth transition."""
    agreement: float
    """Dice coefficient of the nuclei that two other thresholds (`_STRICT`) give: 1 for a sharp border."""


def nucleus_within(stain: NDArray[np.float64], cell: Mask) -> Nucleus:
    """The nucleus of a cell, and how distinct it is.

    The threshold lies between the means of two classes (Otsu, IEEE Trans SMC 1979); what is narrow (rims, granules) goes.
    """
    tone = ndimage.gaussian_filter(stain @ _WITHIN, _SMOOTHING)
    values = tone[cell]
    if np.ptp(values) < 1e-6:
        return Nucleus(np.zeros_like(cell), np.zeros_like(cell), 0.0, 0.0)
    threshold = filters.threshold_otsu(values)
    above = values > threshold
    low, high, share = values[~above].mean(), values[above].mean(), above.mean()
    eta = float(share * (1 - share) * (high - low) ** 2 / values.var())
    loose, strict = (int((values > low + level * (high - low)).sum()) for level in _STRICT)
    radius = _NARROW * np.sqrt(cell.sum())
    nucleus, lobes = (_wide_parts(cell & (tone > low + level * (high - low)), radius) for level in (_LEVEL, _LOBES))
    return Nucleus(nucleus, lobes, eta, 2 * strict / max(1, loose + strict))


def _wide_parts(dark: Mask, radius: float) -> Mask:
    """Parts that are not narrow and not small beside the largest, their small holes filled."""
    core = ndimage.distance_transform_edt(dark) > radius
    wide = dark & (ndimage.distance_transform_edt(~core) <= radius + 1) if core.any() else dark
    labels, _ = ndimage.label(wide)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    nucleus = (areas >= max(1, _PART * areas.max()))[labels]
    holes, _ = ndimage.label(ndimage.binary_fill_holes(nucleus) & ~nucleus)
    sizes = np.bincount(holes.ravel())
    small = sizes < _HOLE * nucleus.sum()
    small[0] = False
    return nucleus | small[holes]
