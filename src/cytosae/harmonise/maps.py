"""Affine maps that make the rows of one laboratory comparable with those of others; fitted without labels.

Every method is a function of the moments of a laboratory's own rows and of those of the mean laboratory (the reference):
so it streams, needs no label, and can be fitted to one more laboratory without changing the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytosae.harmonise.moments import LEAST, Moments

FLOOR = 0.01
"""Share of the reference's mean variance that is added to every variance: dimensions that hardly vary are not blown up."""
_ROUNDS, _CLOSE = 200, 1e-6

Scale = NDArray[np.float64]
"""What the rows less their mean are multiplied by: a factor for each dimension ``(d,)``, or a matrix ``(d, d)``."""


@dataclass(frozen=True)
class Method:
    """A way to harmonise."""

    name: str
    what: str
    """What it makes equal in all laboratories."""
    source: str
    fit: Callable[[Moments, Moments], tuple[NDArray[np.float64], Scale]]
    """From the moments of a laboratory and of the reference: what is taken from its rows ``(d,)``, and the scale."""
    full: bool = False
    """Needs covariances, not the variances alone."""


def _centre(own: Moments, reference: Moments) -> tuple[NDArray[np.float64], Scale]:
    return own.mean, np.ones_like(own.mean)


def _standardise(own: Moments, reference: Moments) -> tuple[NDArray[np.float64], Scale]:
    floor = _floor(reference)
    return own.mean, np.sqrt((reference.variance + floor) / (own.variance + floor))


def _whiten(own: Moments, reference: Moments) -> tuple[NDArray[np.float64], Scale]:
    size = float(np.sqrt(reference.variance.mean())) or 1.0
    return own.mean, size * _power(own.spread, _floor(reference), -0.5)


def _coral(own: Moments, reference: Moments) -> tuple[NDArray[np.float64], Scale]:
    floor = _floor(reference)
    return own.mean, _power(own.spread, floor, -0.5) @ _power(reference.spread, floor, 0.5)


def _combat(own: Moments, reference: Moments) -> tuple[NDArray[np.float64], Scale]:
    deviation = np.sqrt(reference.variance + _floor(reference))
    mean, variance = (own.mean - reference.mean) / deviation, (own.variance + _floor(reference)) / deviation**2
    prior, width = float(mean.mean()), float(mean.var())
    of_variance, spread = float(variance.mean()), float(variance.var())
    if width <= 0 or spread <= 0:  # one dimension, or all alike: nothing to shrink towards
        return own.mean, 1 / np.sqrt(variance)
    shape = (2 * spread + of_variance**2) / spread
    rate = (of_variance * spread + of_variance**3) / spread
    shift, scale = mean, variance
    for _ in range(_ROUNDS):
        next_shift = (own.n * width * mean + scale * prior) / (own.n * width + scale)
        squares = own.n * (variance + (mean - next_shift) ** 2)
        next_scale = (rate + squares / 2) / (own.n / 2 + shape - 1)
        moved = max(np.abs(next_shift - shift).max(), np.abs(next_scale - scale).max())
        shift, scale = next_shift, next_scale
        if moved < _CLOSE:
            break
    return reference.mean + deviation * shift, 1 / np.sqrt(scale)


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("centre", "means", "location adjustment, as in Johnson, Li and Rabinovic, Biostatistics 2007", _centre),
        Method(
            "standardise",
            "means and variances",
            "location and scale adjustment, as in Johnson, Li and Rabinovic, Biostatistics 2007",
            _standardise,
        ),
        Method(
            "whiten", "means and covariances, uncorrelated (ZCA)", "Kessy, Lewin and Strimmer 2018", _whiten, full=True
        ),
        Method("coral", "means and covariances", "CORAL: Sun, Feng and Saenko, AAAI 2016", _coral, full=True),
        Method(
            "combat",
            "means and variances, each shrunk towards what the laboratory does to all dimensions",
            "ComBat, parametric empirical Bayes: Johnson, Li and Rabinovic, Biostatistics 2007",
            _combat,
        ),
    )
}
"""By name. ``reference`` and laboratories are those of `fit_maps`."""


def _floor(reference: Moments) -> float:
    return FLOOR * float(reference.variance.mean()) + 1e-12


def _power(matrix: NDArray[np.float64], floor: float, exponent: float) -> NDArray[np.float64]:
    """A power of a covariance whose eigenvalues are raised by `floor`."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * (np.maximum(values, 0) + floor) ** exponent) @ vectors.T)


@dataclass(frozen=True)
class Maps:
    """x of laboratory l becomes ``(x - mean[l]) scale[l] + target``; where l is negative, x stays as it is."""

    mean: NDArray[np.float64]
    """``(n_laboratories, d)``."""
    scale: NDArray[np.float64]
    """``(n_laboratories, d)`` or ``(n_laboratories, d, d)``."""
    target: NDArray[np.float64]
    """Mean of the reference, ``(d,)``."""

    def apply(self, values: NDArray[np.floating], codes: NDArray[np.integer]) -> NDArray[np.float64]:
        """Harmonise rows ``(n, d)``, each of the laboratory with the number `codes` ``(n,)``."""
        mapped = np.array(values, np.float64)
        for code in np.unique(codes[codes >= 0]):
            rows = codes == code
            own = mapped[rows] - self.mean[code]
            scale = self.scale[code]
            mapped[rows] = (own * scale if scale.ndim == 1 else own @ scale) + self.target
        return mapped


def fit_maps(method: str, laboratories: list[Moments], reference: Moments, least: int = LEAST) -> Maps:
    """The maps of some laboratories to the reference.

    Parameters
    ----------
    method
        One of `METHODS`.
    laboratories
        Moments of each; with covariances if the method needs them.
    reference
        The mean laboratory of the training (`mean_moments`).
    least
        Rows of a laboratory, at least: one of fewer stays as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from cytosae.harmonise.moments import group_moments, mean_moments
    >>> rng = np.random.default_rng(0)
    >>> codes = np.repeat([0, 1], 500)
    >>> values = rng.normal(size=(1000, 3)) * np.where(codes == 1, 4.0, 1.0)[:, None] + 7 * codes[:, None]
    >>> moments = group_moments(values, codes, 2)
    >>> mapped = fit_maps("standardise", moments, mean_moments(moments)).apply(values, codes)
    >>> bool(np.allclose(mapped[codes == 0].mean(axis=0), mapped[codes == 1].mean(axis=0)))
    True
    """
    fitted = [
        METHODS[method].fit(own, reference) if own.n >= least else _identity(method, reference) for own in laboratories
    ]
    return Maps(np.stack([mean for mean, _ in fitted]), np.stack([scale for _, scale in fitted]), reference.mean)


def _identity(method: str, reference: Moments) -> tuple[NDArray[np.float64], Scale]:
    d = len(reference.mean)
    return reference.mean, np.eye(d) if METHODS[method].full else np.ones(d)


def nearest(means: NDArray[np.floating], maps: Maps, reference: Moments) -> NDArray[np.int64]:
    """The known laboratory that rows resemble most, for rows whose laboratory is not known: ``(n,)``.

    Distances are those of the means, each dimension in units of the reference's standard deviation.

    Parameters
    ----------
    means
        Mean of each patient's cells, or the cell, ``(n, d)``.
    """
    unit = 1 / np.sqrt(reference.variance + _floor(reference))
    laboratories, rows = maps.mean * unit, np.asarray(means, np.float64) * unit
    squares = (laboratories**2).sum(axis=1) - 2 * rows @ laboratories.T
    return np.asarray(squares.argmin(axis=1), np.int64)
