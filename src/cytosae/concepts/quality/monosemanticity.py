"""Are the images that activate a latent alike? (Pach et al., 2025)"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


def monosemanticity(mean_activation: sp.spmatrix, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    r"""Mean similarity of pairs of images, weighted by how strongly both activate a latent.

    .. math:: MS_s = \sum_{i<j} \tilde m_i[s] \tilde m_j[s] \cos(e_i, e_j) \,/\, \sum_{i<j} \tilde m_i[s] \tilde m_j[s]

    with :math:`\tilde m` the activations of a latent scaled to 0..1 over the images. Embeddings are centred first:
    what all cells have in common is no similarity, and random images score about 0. Computed without a pair in memory:
    the numerator is :math:`(\lVert\sum_i \tilde m_i e_i\rVert^2 - \sum_i \tilde m_i^2) / 2` for unit vectors.

    Parameters
    ----------
    mean_activation
        m_i[s], ``(n_cells, n_latents)``.
    embeddings
        One vector per cell, ``(n_cells, n_dimensions)``.

    Returns
    -------
    ``(n_latents,)``; NaN for a latent that is equally active on all cells, or on fewer than two.
    """
    a = sp.csc_matrix(mean_activation, dtype=np.float64)
    n, n_latents = a.shape
    if n < 2:
        return np.full(n_latents, np.nan)
    low, high = a.min(axis=0).toarray().ravel(), a.max(axis=0).toarray().ravel()
    unit = np.asarray(embeddings, np.float64) - np.mean(embeddings, axis=0)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    # (m - low) / (high - low): subtracting the least activation of a latent that is never silent keeps its column full.
    sums = a.T @ unit - low[:, None] * unit.sum(axis=0)
    plain = np.asarray(a.sum(axis=0)).ravel()
    total = plain - n * low
    squares = np.asarray(a.multiply(a).sum(axis=0)).ravel() - 2 * low * plain + n * low**2
    pairs = total**2 - squares
    length = (unit**2).sum(axis=1)  # 1, or 0 for a cell that lies in the very middle
    alone = a.multiply(a).T @ length - 2 * low * (a.T @ length) + low**2 * length.sum()
    spread = high - low
    usable = (spread > 1e-9 * np.maximum(high, 1e-30)) & (pairs > 1e-9 * np.maximum(total, 1e-30) ** 2)
    return np.divide((sums**2).sum(axis=1) - alone, pairs, out=np.full(n_latents, np.nan), where=usable)
