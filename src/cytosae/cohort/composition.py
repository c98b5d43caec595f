"""What patients have in common in all concepts at once, taken out of each: the mix of their cells drowns a rare mark.

Patients differ most in which cells they have, and every concept of a cell type follows. The first principal components of
the patients, found without their groups, hold this; what is left of a concept is what its patients have beyond it. Leek and
Storey (2007) call such components surrogate variables. As they are functions of the barcodes alone, permutations of the
groups stay valid. They also hold a diagnosis that moves many concepts: this is for rare marks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LEAST = 1e-6
"""Share of a latent's deviation below which what is left of it is rounding."""


def without_components(values: NDArray[np.floating], components: int, strata: ArrayLike) -> NDArray[np.float32]:
    """Barcodes less their first principal components.

    Parameters
    ----------
    values
        Of a block, ``(n_patients, n_latents)``.
    components
        How many are taken out, of the patients' deviations from the mean of their stratum, each latent in units of its own
        standard deviation; at most as many as there are.
    strata
        Patients that are compared only with one another, ``(n_patients,)``.

    Returns
    -------
    ``(n_patients, n_latents)``: the mean of the stratum and what is left of the patient's deviation, so that a difference
    between groups has the unit of the block. Values may be negative.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> mix, own = rng.normal(size=(40, 1)), rng.normal(size=(40, 30))
    >>> left = without_components(mix * np.arange(1, 31) + 0.01 * own, 1, np.zeros(40))
    >>> bool(left.std(axis=0).max() < 0.02)
    True
    """
    mean = np.zeros(values.shape)
    codes = np.unique(np.asarray(strata), return_inverse=True)[1]
    for stratum in range(codes.max(initial=-1) + 1):
        mean[codes == stratum] = values[codes == stratum].mean(axis=0, dtype=np.float64)
    apart = values - mean
    deviation = apart.std(axis=0)
    scaled = np.divide(apart, deviation, out=np.zeros_like(apart), where=deviation > 0)
    directions = np.linalg.eigh(scaled @ scaled.T)[1][:, ::-1][:, :components]
    left = apart - directions @ (directions.T @ apart)
    left[:, left.std(axis=0) <= _LEAST * deviation] = 0
    return np.asarray(mean + left, np.float32)
