"""Does a latent mean the same elsewhere: in another data set, or after the image was changed?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray


def column_correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Pearson correlation of the columns of two arrays ``(n, n_columns)``; NaN where either is constant or n is below 3."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(x) < 3:
        return np.full(x.shape[1], np.nan)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    usable = scale > 1e-20
    return np.divide((x * y).sum(axis=0), scale, out=np.full(x.shape[1], np.nan), where=usable)


def label_profiles(mean_activation: sp.spmatrix, labels: ArrayLike, wanted: list[str]) -> NDArray[np.float64]:
    """Mean of m_i[s] over the cells of each label, ``(n_labels, n_latents)``.

    Parameters
    ----------
    mean_activation
        ``(n_cells, n_latents)``.
    labels
        Name of each cell's label, None where unknown.
    wanted
        The labels, in this order; each must have a cell.
    """
    names = np.asarray(labels, dtype=object)
    member = np.stack([names == label for label in wanted]).astype(np.float64)
    return (sp.csr_matrix(member) @ mean_activation.tocsr()).toarray() / member.sum(axis=1, keepdims=True)


def consistency(profiles: Mapping[str, NDArray[np.floating]], shift: int = 0) -> NDArray[np.float64]:
    """Does a latent prefer the same labels everywhere: correlation of its label profiles, mean over pairs of data sets.

    Parameters
    ----------
    profiles
        By data set: mean activation of each latent by label, over the same labels, ``(n_labels, n_latents)``.
    shift
        Compare each latent with the one so many places further: the null.

    Returns
    -------
    ``(n_latents,)``; NaN where a latent is silent, or equally active on all labels, in all but one of the data sets.
    """
    arrays = list(profiles.values())
    correlations = [
        column_correlation(a, np.roll(b, shift, axis=1)) for i, a in enumerate(arrays) for b in arrays[i + 1 :]
    ]
    known = np.isfinite(correlations)
    count = known.sum(axis=0)
    return np.divide(
        np.where(known, correlations, 0).sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0
    )
