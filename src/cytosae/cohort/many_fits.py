"""Multinomial logistic regressions of many label vectors on the same cells, at once: what permuted labels ask for.

`cytosae.cohort.linear` does so for patients, by Newton's method in double precision. With thousands of cells and of
concepts this first-order method in single precision takes half the time, and is exact enough for labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytosae.cohort.linear import softmax

_TOLERANCE = 1e-3
"""Largest derivative of the mean loss, as scikit-learn's."""
_STEPS = 300
_ABSENT = np.float32(-1e9)
"""Logit of a class that a label vector does not have."""


@dataclass(frozen=True)
class SoftmaxModels:
    """Regressions, one for each label vector."""

    mean: NDArray[np.float32]
    weights: NDArray[np.float32]
    """``(d, n_vectors, n_classes)``."""
    intercepts: NDArray[np.float32]
    """``(n_vectors, n_classes)``."""

    def probabilities(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Of rows ``(n, d)``: ``(n_vectors, n, n_classes)``."""
        d, vectors, classes = self.weights.shape
        logits = (np.asarray(x, np.float32) - self.mean) @ self.weights.reshape(d, -1)
        logits = logits.reshape(len(x), vectors, classes) + self.intercepts
        return np.asarray(softmax(logits).transpose(1, 0, 2), np.float64)


def fit_softmax(
    x: NDArray[np.floating], targets: NDArray[np.integer], strengths: NDArray[np.floating], n_classes: int
) -> SoftmaxModels:
    r"""Minimise, for every label vector by itself,

    .. math:: \frac{1}{n} \sum_i -\log p_{y_i}(x_i) + \frac{1}{2 C n} \lVert W \rVert^2

    by steps of the bound :math:`\tfrac12 X^\top X` of the second derivative (Böhning 1992), accelerated (Nesterov 1983)
    and restarted where they would climb (O'Donoghue and Candès 2015). In the axes of X the bound is diagonal, and all label
    vectors share its decomposition and the products with X.

    Parameters
    ----------
    x
        Rows, ``(n, d)``.
    targets
        Class of each row, ``(n_vectors, n)``.
    strengths
        C of each label vector, as in scikit-learn, ``(n_vectors,)``.
    n_classes
        Classes; one that a label vector does not have gets the probability 0.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 3, 200)
    >>> x = np.eye(3)[y] + rng.normal(0, 0.3, (200, 3))
    >>> models = fit_softmax(x, np.stack([y, rng.permutation(y)]), np.array([1.0, 1.0]), 3)
    >>> right = (models.probabilities(x).argmax(axis=2) == y).mean(axis=1)
    >>> bool(right[0] > 0.95), bool(right[1] < 0.6)
    (True, True)
    """
    n, vectors = len(x), len(targets)
    mean = np.asarray(x, np.float32).mean(axis=0)
    centred = np.asarray(x, np.float32) - mean
    size, axes = np.linalg.eigh((centred.T @ centred / n).astype(np.float64))
    axes = axes.astype(np.float32)
    rows = centred @ axes
    penalty = (1 / (n * np.asarray(strengths, np.float64))).astype(np.float32)
    bound = 0.5 * np.maximum(size, 0).astype(np.float32)[:, None] + penalty  # (d, n_vectors)
    truth = (targets[:, :, None] == np.arange(n_classes)).transpose(1, 0, 2).astype(np.float32)
    absent = np.where(truth.any(axis=0), np.float32(0), _ABSENT)  # (n_vectors, n_classes)
    w = np.zeros((rows.shape[1], vectors, n_classes), np.float32)
    b = np.zeros((vectors, n_classes), np.float32)
    ahead_w, ahead_b = w.copy(), b.copy()
    active, momentum = np.arange(vectors), np.ones(vectors, np.float32)
    for _ in range(_STEPS):
        logits = (rows @ ahead_w[:, active].reshape(len(w), -1)).reshape(n, len(active), n_classes)
        residual = softmax(logits + ahead_b[active] + absent[active]) - truth[:, active]
        slope_w = (rows.T @ residual.reshape(n, -1)).reshape(len(w), len(active), n_classes) / n
        slope_w += penalty[active, None] * ahead_w[:, active]
        slope_b = residual.mean(axis=0)
        new_w = ahead_w[:, active] - slope_w / bound[:, active, None]
        new_b = ahead_b[active] - 2 * slope_b
        step_w, step_b = new_w - w[:, active], new_b - b[active]
        climbs = (slope_w * step_w).sum(axis=(0, 2)) + (slope_b * step_b).sum(axis=1) > 0
        current = np.where(climbs, 1, momentum[active])
        following = (1 + np.sqrt(1 + 4 * current**2)) / 2
        carried = np.where(climbs, 0, (current - 1) / following).astype(np.float32)
        w[:, active], b[active], momentum[active] = new_w, new_b, following
        ahead_w[:, active] = new_w + carried[:, None] * step_w
        ahead_b[active] = new_b + carried[:, None] * step_b
        largest = np.maximum(np.abs(slope_w).max(axis=(0, 2)), np.abs(slope_b).max(axis=1))
        active = active[largest > _TOLERANCE]
        if not len(active):
            break
    weights = (axes @ w.reshape(len(w), -1)).reshape(w.shape)
    return SoftmaxModels(mean, weights, b + absent)
