"""Logistic regression on barcodes: a whole sweep of thresholds at the price of one, and many label vectors at once.

With an L2 penalty the weights of n patients are a mix of n barcodes, however many latents there are. So the fit needs
the n x n products of the barcodes alone, and those of every threshold are a running sum over latents by falling mean
activation. The label vectors of a permutation null share these products, and are fitted together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NEVER = -1e30  # logit of a class that the training rows lack; infinity would make NaN when multiplied by 0
_NEWTON, _CONJUGATE, _HALVINGS = 100, 60, 30  # steps at most


_Pair: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Of all fits: something for the weights ``(r, n_classes, n_fits)`` and for the intercepts ``(n_classes, n_fits)``."""


def penalty(n_classes: int, n_rows: int) -> float:
    """C = c n / 100 (section 3.3 of CytoSAE; the convention of the DinoBloom evaluation)."""
    return n_classes * n_rows / 100


def centred_products(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Products of all barcodes with one another, over their mean; ``(n_rows, n_rows)`` of ``(n_rows, n_latents)``.

    Over the mean, since what all barcodes share is larger than what they differ by and would cost digits. Which mean it is
    does not matter: `fit` centres on its training rows.
    """
    wide = np.array(features, np.float64)
    wide -= wide.mean(axis=0)
    return np.asarray(wide @ wide.T)


def spread(products: NDArray[np.float64]) -> float:
    """Mean squared distance of some rows from their mean, from their products ``(n_rows, n_rows)``."""
    return float((np.trace(products) - products.mean(axis=0).sum()) / len(products))


def threshold_products(
    features: NDArray[np.floating], log_mean: ArrayLike, thresholds: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """`centred_products` of all barcodes at every threshold.

    Parameters
    ----------
    features
        Barcodes, ``(n_rows, n_latents)``.
    log_mean
        log10 of each latent's mean activation, ``(n_latents,)``. Latents at or below a threshold count as 0.

    Returns
    -------
    Products ``(n_thresholds, n_rows, n_rows)``, and the number of latents kept ``(n_thresholds,)``.
    """
    cuts, position = np.unique(np.asarray(thresholds, float), return_inverse=True)
    level = np.searchsorted(cuts, np.asarray(log_mean), side="left")  # how many of the thresholds it is above
    products = np.zeros((len(cuts), len(features), len(features)))
    counts = np.zeros(len(cuts), np.int64)
    for cut in range(len(cuts)):
        columns = features[:, level == cut + 1]
        products[cut] = centred_products(columns)
        counts[cut] = columns.shape[1]
    products = np.cumsum(products[::-1], axis=0)[::-1]
    return products[position], np.cumsum(counts[::-1])[::-1][position]


@dataclass(frozen=True)
class Fits:
    """Classifiers on the same training rows, one for each label vector, in terms of these rows."""

    dual: NDArray[np.float64]
    """Weight of each training row for each class, ``(n_fits, n_classes, n_train)``; its rows sum to 0."""
    intercept: NDArray[np.float64]
    """``(n_fits, n_classes)``."""

    def probabilities(self, products: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of rows, from their products with the training rows ``(n_rows, n_train)``; ``(n_fits, n_rows, n_classes)``."""
        return softmax(np.einsum("rt,fct->frc", products, self.dual, optimize=True) + self.intercept[:, None])

    def weights(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Weight of each latent for each class, from the training rows' barcodes; ``(n_fits, n_classes, n_latents)``."""
        return np.asarray(self.dual @ features)


def fit(products: NDArray[np.float64], targets: NDArray[np.integer], n_classes: int, tolerance: float = 1e-4) -> Fits:
    """`fit_path` with the paper's C = c n / 100 alone."""
    return fit_path(products, targets, n_classes, (penalty(n_classes, len(products)),), tolerance)[0]


def fit_path(
    products: NDArray[np.float64],
    targets: NDArray[np.integer],
    n_classes: int,
    strengths: Sequence[float],
    tolerance: float = 1e-4,
) -> list[Fits]:
    """Multinomial logistic regression with L2 penalty for several label vectors of the same rows, at several strengths.

    The models that scikit-learn's ``LogisticRegression`` gives on the barcodes themselves. The intercept bears no
    penalty, so that centring the barcodes changes nothing but the number of steps.

    Parameters
    ----------
    products
        Of the training rows' barcodes, ``(n_train, n_train)``.
    targets
        Class of each row, ``(n_fits, n_train)``. A class that a label vector lacks gets probability 0.
    strengths
        C, the inverse of the penalty, rising: each fit starts from the one before.
    tolerance
        Largest entry of the gradient of the mean loss at the end.
    """
    n = len(products)
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(centre @ products @ centre)
    usable = values > max(values[-1], 0) * 1e-10  # none where all barcodes are alike: the shares of the classes remain
    root = np.sqrt(values[usable])
    back = vectors[:, usable].T @ centre
    fits, start = [], None
    for strength in strengths:
        # With two classes one vector of weights bears the penalty; here each class has one, minus the other: half each.
        c = strength / (2 if n_classes == 2 else 1)
        start = weights, intercept = _newton(vectors[:, usable] * root, targets, n_classes, c, tolerance, start)
        dual = np.einsum("rcf,rn->fcn", weights / root[:, None, None], back, optimize=True)
        fits.append(Fits(dual, intercept.T - dual @ products.mean(axis=1)))
    return fits


def _newton(
    rows: NDArray[np.float64],
    targets: NDArray[np.integer],
    n_classes: int,
    c: float,
    tolerance: float,
    start: _Pair | None = None,
) -> _Pair:
    """Newton's method with conjugate gradients for all label vectors side by side, the last axis of every array.

    `rows` ``(n, r)`` have columns that are orthogonal and sum to 0, so that the diagonal of their products
    preconditions well. Returns weights ``(r, n_classes, n_fits)`` and intercepts ``(n_classes, n_fits)``, which `start` has
    of another strength.
    """
    n, r = rows.shape
    truth = np.ascontiguousarray(np.eye(n_classes)[targets].transpose(1, 2, 0))  # (n, classes, fits)
    if start is None:
        frequencies = truth.mean(axis=0)
        intercept = np.where(frequencies > 0, np.log(np.maximum(frequencies, 1e-300)), _NEVER)
        weights = np.zeros((r, *intercept.shape))
    else:
        weights, intercept = start[0].copy(), start[1].copy()
    logits = np.tensordot(rows, weights, 1) + intercept
    lengths = (rows**2).sum(axis=0)[:, None, None]
    value = _loss(logits, truth, weights, c)
    active = np.arange(len(targets))

    def forward(w: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return (rows @ w.reshape(r, -1)).reshape(n, *b.shape) + b

    def backward(residual: NDArray[np.float64]) -> NDArray[np.float64]:
        return c * (rows.T @ residual.reshape(n, -1)).reshape(r, *residual.shape[1:])

    for _ in range(_NEWTON):
        p = softmax(logits[..., active], axis=1)
        residual = p - truth[..., active]
        slope_w, slope_b = backward(residual) + weights[..., active], c * residual.sum(axis=0)
        size = np.maximum(np.abs(slope_w).max(axis=(0, 1), initial=0), np.abs(slope_b).max(axis=0)) / (c * n)
        going = size > tolerance
        if not going.any():
            break
        active, p, slope_w, slope_b = active[going], p[..., going], slope_w[..., going], slope_b[..., going]

        def curvature(
            w: NDArray[np.float64], b: NDArray[np.float64], p: NDArray[np.float64] = p
        ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            a = forward(w, b)
            a *= p
            a -= p * a.sum(axis=1, keepdims=True)
            return backward(a) + w, c * a.sum(axis=0)

        spread = (p * (1 - p)).mean(axis=0)
        scale = (c * lengths * spread + 1, c * n * spread + 1e-8)
        step = _conjugate(curvature, (-slope_w, -slope_b), scale, np.minimum(0.25, np.sqrt(size[going])))
        rate = _inner((slope_w, slope_b), step)
        change = forward(*step)
        at = weights[..., active], logits[..., active], truth[..., active]
        length = np.ones(len(active))
        for _ in range(_HALVINGS):
            tried_w, tried = at[0] + length * step[0], at[1] + length * change
            reached = _loss(tried, at[2], tried_w, c)
            good = reached <= value[active] + 1e-4 * length * rate + 1e-12 * np.abs(value[active])
            if good.all():
                break
            length = np.where(good, length, length / 2)
        weights[..., active], logits[..., active], value[active] = tried_w, tried, reached
        intercept[:, active] += length * step[1]
    return weights, intercept


def _inner(one: _Pair, other: _Pair) -> NDArray[np.float64]:
    return np.asarray(np.einsum("rcf,rcf->f", one[0], other[0]) + (one[1] * other[1]).sum(axis=0))


def _conjugate(
    curvature: Callable[[NDArray[np.float64], NDArray[np.float64]], _Pair],
    right: _Pair,
    scale: _Pair,
    forcing: NDArray[np.float64],
) -> _Pair:
    """Solve H x = right for all fits by preconditioned conjugate gradients, down to `forcing` of the start."""
    x_w, x_b = np.zeros_like(right[0]), np.zeros_like(right[1])
    left = right
    z = p = left[0] / scale[0], left[1] / scale[1]
    rz = _inner(left, z)
    enough = rz * forcing**2
    for _ in range(_CONJUGATE):
        h = curvature(*p)
        bend = _inner(p, h)
        a = np.divide(rz, bend, out=np.zeros_like(rz), where=bend > 0)
        x_w, x_b = x_w + a * p[0], x_b + a * p[1]
        left = left[0] - a * h[0], left[1] - a * h[1]
        z = left[0] / scale[0], left[1] / scale[1]
        residual = _inner(left, z)
        if (residual <= enough).all():
            break
        b = np.divide(residual, rz, out=np.zeros_like(rz), where=rz > 0)
        p = z[0] + b * p[0], z[1] + b * p[1]
        rz = residual
    return x_w, x_b


def _loss(
    logits: NDArray[np.float64], truth: NDArray[np.float64], weights: NDArray[np.float64], c: float
) -> NDArray[np.float64]:
    """Penalised loss of every fit, ``(n_fits,)``."""
    top = logits.max(axis=1)
    log_sum = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    fitted = np.einsum("ncf,ncf->f", logits, truth)
    return np.asarray(c * (log_sum.sum(axis=0) - fitted) + np.einsum("rcf,rcf->f", weights, weights) / 2)


def softmax(logits: NDArray[np.floating], axis: int = -1) -> NDArray[Any]:
    """Of logits along an axis, in their precision."""
    shifted = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=axis, keepdims=True))
