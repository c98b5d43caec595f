"""Which pixels look like the cell around a nucleus: colours that are more frequent near it than elsewhere in the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_NEAR, _FAR = 0.3, 0.9
"""How far "near" the nucleus reaches and where "elsewhere" begins, in square roots of its area."""
_BINS, _MOST = 12, 1.6
"""Bins of the square root of the density of each colour, up to this density."""
_BLUR = 0.8
"""By which histograms are smoothed, in bins."""
_RARE = 5e-4
"""Share of pixels below which a colour says nothing."""
_SURE = 2.5
"""Largest evidence."""
_EMPTY = -1.0
"""Evidence of background, at most."""
_NEARER, _ANOTHERS = 2.0, -0.5
"""Places that many times nearer to the nucleus of another cell than to this one, and their evidence, at most."""


def inside_evidence(
    stain: NDArray[np.float64], nucleus: NDArray[np.bool_], others: NDArray[np.bool_], empty: NDArray[np.bool_]
) -> NDArray[np.float64]:
    r"""Log ratio of how frequent each pixel's colour is near the nucleus and elsewhere.

    .. math:: e(x) = \log \frac{p_{near}(c(x)) + \epsilon}{p_{far}(c(x)) + \epsilon}

    from smoothed histograms of colour; red cells and background are everywhere, the cytoplasm only here. The surroundings of
    other nuclei count as neither.

    Parameters
    ----------
    stain
        Densities, ``(height, width, 3)``.
    nucleus, others
        The nucleus, and those of other cells, which are evidence against.
    empty
        Background, ``(height, width)``.

    Returns
    -------
    ``(height, width)``, within plus and minus 2.5.
    """
    size = float(np.sqrt(nucleus.sum()))
    distance = ndimage.distance_transform_edt(~nucleus)
    near = np.exp(-((distance / (_NEAR * size + 3)) ** 2))
    far = 1 - np.exp(-((distance / (_FAR * size + 3)) ** 4))
    anothers = np.zeros(nucleus.shape, bool)
    if others.any():
        away = ndimage.distance_transform_edt(~others)
        anothers = _NEARER * away < distance
        far *= 1 - np.exp(-((away / (_NEAR * size + 3)) ** 2))
    bins = np.minimum((np.sqrt(stain / _MOST) * _BINS).astype(int), _BINS - 1)
    codes = (bins[..., 0] * _BINS + bins[..., 1]) * _BINS + bins[..., 2]
    ratio = np.log((_histogram(codes, near) + _RARE) / (_histogram(codes, far) + _RARE))
    evidence = np.clip(ndimage.gaussian_filter(ratio[codes], 1), -_SURE, _SURE)
    evidence[empty] = np.minimum(evidence[empty], _EMPTY)
    evidence[anothers] = np.minimum(evidence[anothers], _ANOTHERS)
    evidence[others] = -_SURE
    evidence[nucleus] = _SURE
    return evidence


def _histogram(codes: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.bincount(codes.ravel(), weights.ravel(), minlength=_BINS**3).reshape(_BINS, _BINS, _BINS)
    smooth = ndimage.gaussian_filter(counts, _BLUR).ravel()
    return np.asarray(smooth / max(smooth.sum(), 1e-9))
