"""Where on a slide red cells lie side by side: neither bare glass nor several layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytosae.cells import Regions
from cytosae.fields.detecting import Area
from cytosae.segmentation import RedCells, measure_scale
from cytosae.settings import FieldConfig

_DARK = 4.0
"""Added to 8-bit values, so that black has a density."""
_COVERED = 0.05
"""Optical density, the mean of three colours, above which a place is covered."""
_GLASS = 98.0
"""Percentile of brightness that is taken for bare glass."""
_REDUCED, _EDGE, _GRID = 8, 1024, 8
"""Pixels of the slide in one in which it is looked at; edge of a sample in pixels; samples along an edge of the slide."""
_RULERS = 5
"""Samples in which red cells are measured."""
_USUAL = 0.5
"""Share that cells cover in the middle of a monolayer."""

_PARTS, _CROWDED = 4, 0.25
"""Parts along an edge of an area, and the share of them from which it is not searched if they are crowded."""

BARE, CROWDED = "bare region", "crowded region"


def glass(image: Regions) -> NDArray[np.float64]:
    """Brightness of bare glass, per colour, from samples all over a slide."""
    samples = [image.reduced(*_corner(area), _REDUCED).reshape(-1, 3) for area in _samples(image)]
    return np.asarray(np.percentile(np.concatenate(samples), _GLASS, axis=0))


def covered(image: Regions, area: Area, light: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Share of each of 4 x 4 parts of an area on which something lies.

    .. math:: \frac{1}{3} \sum_c \log_{10} \frac{I_{0,c}}{I_c} > 0.05

    Parameters
    ----------
    image, area
        A slide, and left, top, right and bottom of a part of it.
    light
        See `glass`.

    Examples
    --------
    >>> from cytosae.cells import WholeImage
    >>> pixels = np.full((64, 64, 3), 240, np.uint8)
    >>> pixels[:16] = 120
    >>> image = WholeImage(pixels)
    >>> covered(image, (0, 0, 64, 64), glass(image)).mean(axis=1)
    array([1., 0., 0., 0.])
    """
    small = image.reduced(*_corner(area), _REDUCED).astype(np.float64)
    density = np.log10((light + _DARK) / (small + _DARK)).mean(axis=2)
    rows = np.array_split(density > _COVERED, _PARTS)
    return np.array(
        [[part.mean() if part.size else 0.0 for part in np.array_split(row, _PARTS, axis=1)] for row in rows]
    )


def why_no_monolayer(shares: NDArray[np.float64], config: FieldConfig) -> str | None:
    """Why an area is not searched, from the shares of its parts that are covered; None for a monolayer."""
    if shares.mean() < config.least_covered:
        return f"{BARE}: {shares.mean():.0%} covered"
    crowded = float((shares > config.most_covered).mean())
    return f"{CROWDED}: {crowded:.0%} in layers" if crowded > _CROWDED else None


def measure_slide_scale(image: Regions, config: FieldConfig) -> RedCells:
    """Red cells of a slide: of the samples that are most like a monolayer, the one that shows the most."""
    light = glass(image)
    shares = [(covered(image, area, light), area) for area in _samples(image)]
    usable = sorted(
        (abs(float(share.mean()) - _USUAL), area) for share, area in shares if why_no_monolayer(share, config) is None
    )
    rulers = [measure_scale(np.ascontiguousarray(image.read(*_corner(area)))) for _, area in usable[:_RULERS]]
    return max(rulers, key=lambda red: red.count, default=RedCells(0, np.nan, np.nan, np.nan))


def _samples(image: Regions) -> list[Area]:
    """Squares all over an image, or all of a small one."""
    lefts, tops = (_starts(length) for length in (image.width, image.height))
    return [
        (left, top, min(image.width, left + _EDGE), min(image.height, top + _EDGE)) for top in tops for left in lefts
    ]


def _starts(length: int) -> list[int]:
    count = min(_GRID, -(-length // _EDGE))
    return sorted({round(k * max(0, length - _EDGE) / max(1, count - 1)) for k in range(count)})


def _corner(area: Area) -> Area:
    left, top, right, bottom = area
    return left, top, right - left, bottom - top
