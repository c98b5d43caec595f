"""The closed contour around a centre that encloses the most evidence: dynamic programming in polar coordinates."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

ANGLES, RADII = 96, 72
"""Samples of the polar grid."""
STEP = 2
"""Radii by which the contour may change from one angle to the next."""


@njit(cache=True)
def _best_radii(gain: NDArray[np.float64], step: int, stiffness: float) -> NDArray[np.int64]:  # pragma: no cover
    """Radius per angle that maximises the summed gain; the row of angles is walked twice, the middle of it returned."""
    angles, radii = gain.shape
    length = 2 * angles
    total = gain[0].copy()
    came = np.zeros((length, radii), np.int64)
    for k in range(1, length):
        row = gain[k % angles]
        fresh = np.empty(radii)
        for r in range(radii):
            best, where = -np.inf, r
            for d in range(-step, step + 1):
                q = r + d
                if 0 <= q < radii:
                    value = total[q] - stiffness * d * d
                    if value > best:
                        best, where = value, q
            fresh[r] = best + row[r]
            came[k, r] = where
        total = fresh
    path = np.empty(length, np.int64)
    path[length - 1] = np.argmax(total)
    for k in range(length - 1, 0, -1):
        path[k - 1] = came[k, path[k]]
    result = np.empty(angles, np.int64)
    half = angles // 2
    for k in range(half, half + angles):
        result[k % angles] = path[k]
    return result


def enclosing_contour(
    evidence: NDArray[np.float64], centre: tuple[float, float], reach: float, stiffness: float = 0.02
) -> NDArray[np.float64]:
    r"""Distance of the contour from the centre, for `ANGLES` angles.

    Maximises

    .. math:: \sum_\theta \int_0^{r(\theta)} e(\theta, r) r \, dr - s \sum_\theta (\Delta r)^2

    over closed contours whose radius changes by at most `STEP` samples between angles.

    Parameters
    ----------
    evidence
        Above 0 where a pixel looks like the inside, below where it does not, ``(height, width)``. Beyond the image it is a
        little below 0.
    centre
        Row and column.
    reach
        Largest radius in pixels.
    stiffness
        How dear a change of the radius is.

    Returns
    -------
    Radii in pixels, ``(ANGLES,)``.

    Examples
    --------
    >>> y, x = np.mgrid[:64, :64]
    >>> disc = np.where(np.hypot(y - 32, x - 30) < 12, 1.0, -1.0)
    >>> bool(abs(enclosing_contour(disc, (32, 30), 30).mean() - 12) < 1)
    True
    """
    theta = np.arange(ANGLES) * 2 * np.pi / ANGLES
    radius = (np.arange(RADII) + 0.5) * reach / RADII
    rows = centre[0] + np.sin(theta)[:, None] * radius
    columns = centre[1] + np.cos(theta)[:, None] * radius
    sampled = map_coordinates(evidence, [rows, columns], order=1, mode="constant", cval=-0.05)
    gain = np.cumsum(sampled * radius / reach, axis=1)
    return (_best_radii(gain, STEP, stiffness) + 1.0) * reach / RADII


def inside_contour(
    shape: tuple[int, ...], centre: tuple[float, float], radii: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The pixels that a contour of `enclosing_contour` encloses, ``(height, width)``."""
    theta = np.arange(ANGLES + 1) * 2 * np.pi / ANGLES
    y, x = np.mgrid[: shape[0], : shape[1]]
    y, x = y - centre[0], x - centre[1]
    angle = np.arctan2(y, x) % (2 * np.pi)
    return np.asarray(np.hypot(y, x) <= np.interp(angle, theta, np.r_[radii, radii[0]]))
