"""Do the patches that activate a latent lie together? (Moran, 1950)"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def spatial_coherence(maps: ArrayLike) -> NDArray[np.float64]:
    r"""Moran's I of concept maps over neighbours that share an edge.

    .. math:: I = \frac{n}{\sum_{ij} w_{ij}} \frac{\sum_{ij} w_{ij} (h_i - \bar h)(h_j - \bar h)}{\sum_i (h_i - \bar h)^2}

    Near 1 for one connected patch, near 0 (:math:`-1/(n-1)`) for activations scattered at random, negative for a chessboard.

    Parameters
    ----------
    maps
        ``(..., rows, columns)``.

    Returns
    -------
    ``(...)``; NaN for a map that is the same everywhere.
    """
    values = np.asarray(maps, np.float64)
    rows, columns = values.shape[-2:]
    z = values - values.mean(axis=(-2, -1), keepdims=True)
    products = (z[..., 1:, :] * z[..., :-1, :]).sum(axis=(-2, -1)) + (z[..., 1:] * z[..., :-1]).sum(axis=(-2, -1))
    neighbours = (rows - 1) * columns + rows * (columns - 1)
    square = (z**2).sum(axis=(-2, -1))
    flat = square <= 1e-12 * np.maximum((values**2).sum(axis=(-2, -1)), 1e-30)
    return np.divide(products * rows * columns / neighbours, square, out=np.full(square.shape, np.nan), where=~flat)
