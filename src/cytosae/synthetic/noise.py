"""Banks of smooth noise and of scattered dots, made once and read at random offsets.

Filtering fresh noise for every cell would cost more than all the rest of a picture.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

SIZE = 224
"""Edge of an image, px."""
_PERIOD = 384
_BANK_SEED = 20_240
_SIGMAS = (0.8, 1.3, 2.0, 3.0, 4.5, 7.0, 11.0, 18.0, 30.0)
_SPACINGS = (4.0, 5.0, 6.0, 7.5, 9.0, 11.0, 14.0)

Field = NDArray[np.float32]


def _nearest(value: float, choices: tuple[float, ...]) -> int:
    return min(range(len(choices)), key=lambda index: abs(np.log(choices[index] / value)))


@cache
def _smooth_bank(index: int) -> Field:
    """Periodic Gaussian noise of unit variance, wrapped so that any offset gives a whole image."""
    rng = np.random.default_rng((_BANK_SEED, index))
    white = rng.standard_normal((_PERIOD, _PERIOD))
    field = gaussian_filter(white, _SIGMAS[index], mode="wrap")
    field = (field - field.mean()) / field.std()
    return np.pad(field, (0, SIZE), mode="wrap").astype(np.float32)


@cache
def _dot_bank(index: int) -> Field:
    """Distance to the nearest dot (px) and two random numbers of that dot, shape (3, edge, edge)."""
    rng = np.random.default_rng((_BANK_SEED, 100 + index))
    per_edge = round(_PERIOD / _SPACINGS[index])
    step = _PERIOD / per_edge
    corners = np.stack(np.meshgrid(np.arange(per_edge), np.arange(per_edge), indexing="ij"), -1).reshape(-1, 2)
    dots = (corners + 0.5 + rng.uniform(-0.38, 0.38, corners.shape)) * step % _PERIOD
    pixels = np.stack(np.meshgrid(np.arange(_PERIOD), np.arange(_PERIOD), indexing="ij"), -1).reshape(-1, 2)
    # The dots repeat on all sides of the tile, so that it can be laid edge to edge.
    shifts = np.array([(i, j) for i in (-_PERIOD, 0, _PERIOD) for j in (-_PERIOD, 0, _PERIOD)])
    distance, nearest = cKDTree((dots + shifts[:, None]).reshape(-1, 2)).query(pixels)
    nearest = nearest % len(dots)
    own = rng.random((2, len(dots)))
    planes = np.stack([distance, own[0][nearest], own[1][nearest]]).reshape(3, _PERIOD, _PERIOD)
    return np.pad(planes, ((0, 0), (0, SIZE), (0, SIZE)), mode="wrap").astype(np.float32)


def _window(bank: Field, rng: np.random.Generator) -> Field:
    top, left, flips = (int(v) for v in rng.integers(0, (_PERIOD, _PERIOD, 8)))
    view = bank[..., top : top + SIZE, left : left + SIZE]
    if flips & 1:
        view = view[..., ::-1, :]
    if flips & 2:
        view = view[..., ::-1]
    if flips & 4:
        view = np.swapaxes(view, -1, -2)
    return view


def smooth_noise(rng: np.random.Generator, sigma: float) -> Field:
    """Gaussian noise of unit variance whose grain is about `sigma` px; float32, shape (224, 224)."""
    return _window(_smooth_bank(_nearest(sigma, _SIGMAS)), rng)


def scattered_dots(rng: np.random.Generator, spacing: float) -> tuple[Field, Field, Field]:
    """Irregularly scattered dots, about `spacing` px apart.

    Returns
    -------
    Distance of each pixel to its nearest dot in px, and two uniform random numbers that belong to that dot;
    each float32 of shape (224, 224).
    """
    distance, first, second = _window(_dot_bank(_nearest(spacing, _SPACINGS)), rng)
    return distance, first, second
