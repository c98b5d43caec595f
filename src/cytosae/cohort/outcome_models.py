"""Ridge regression and Cox regression with an L2 penalty, from the products of patients with one another.

As in `cytosae.cohort.linear`, the weights of n patients are a mix of their n barcodes, however many latents there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STEPS, _HALVINGS, _ENOUGH = 40, 25, 1e-8


@dataclass(frozen=True)
class DualModels:
    """Linear models of the same training rows, in terms of these rows."""

    dual: NDArray[np.float64]
    """Weight of each training row, ``(n_strengths, n_targets, n_train)``; it sums to 0 over the rows."""
    intercept: NDArray[np.float64]
    """``(n_strengths, n_targets)``."""

    def predictions(self, products: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of rows, from their products with the training rows; ``(n_strengths, n_targets, n_rows)``."""
        return np.asarray(self.dual @ products.T + self.intercept[..., None])


@dataclass(frozen=True)
class _Rows:
    """Training rows in as many coordinates as they span, centred: ``(n, r)``, and the way back to their weights."""

    coordinates: NDArray[np.float64]
    back: NDArray[np.float64]

    @classmethod
    def from_products(cls, products: NDArray[np.float64]) -> _Rows:
        n = len(products)
        centre = np.eye(n) - 1 / n
        values, vectors = np.linalg.eigh(centre @ products @ centre)
        usable = values > max(values[-1], 0) * 1e-10
        root = np.sqrt(values[usable])
        return cls(vectors[:, usable] * root, (vectors[:, usable] / root).T @ centre)


def ridge(products: NDArray[np.float64], values: NDArray[np.floating], strengths: Sequence[float]) -> DualModels:
    """Least squares with ``|w|^2 / C`` as penalty (Hoerl and Kennard, 1970); the intercept bears none.

    Parameters
    ----------
    products
        Of the training rows, ``(n, n)``.
    values
        What is to be predicted, several targets beside one another, ``(n_targets, n)``.
    strengths
        C, the inverse of the penalty.
    """
    rows = _Rows.from_products(products)
    y = np.asarray(values, np.float64)
    mean = y.mean(axis=1)
    projected = (y - mean[:, None]) @ rows.coordinates  # the columns of the coordinates are orthogonal
    lengths = (rows.coordinates**2).sum(axis=0)
    weights = np.stack([projected / (lengths + 1 / c) for c in strengths])
    dual = weights @ rows.back
    return DualModels(dual, mean - dual @ products.mean(axis=1))


def cox(
    products: NDArray[np.float64],
    times: NDArray[np.floating],
    events: NDArray[np.bool_],
    strengths: Sequence[float],
) -> DualModels:
    """Proportional hazards (Cox, 1972) with ``|w|^2 / (2 C)`` as penalty, ties after Breslow.

    The prediction is the logarithm of the relative hazard.

    Parameters
    ----------
    products
        Of the training rows, ``(n, n)``.
    times, events
        Times of several targets beside one another, and whether the event was seen at their end; ``(n_targets, n)``.
    strengths
        C, rising: each fit starts from the one before.
    """
    rows = _Rows.from_products(products)
    weights = np.zeros((len(strengths), len(times), rows.coordinates.shape[1]))
    for target, (own, seen) in enumerate(zip(times, events, strict=True)):
        start = weights[0, target]
        for index, strength in enumerate(strengths):
            start = weights[index, target] = _newton(rows.coordinates, own, seen, strength, start)
    dual = weights @ rows.back
    return DualModels(dual, -(dual @ products.mean(axis=1)))


def _newton(
    x: NDArray[np.float64],
    times: NDArray[np.floating],
    events: NDArray[np.bool_],
    strength: float,
    start: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weights ``(r,)`` that minimise the penalised negative partial likelihood of rows ``(n, r)``."""
    order = np.argsort(-np.asarray(times), kind="stable")  # the longest first: who is at risk is a running sum
    x, seen = x[order], events[order]
    falling = np.asarray(times)[order]
    last = np.searchsorted(-falling, -falling, side="right") - 1  # ties are at risk together
    at = last[seen]
    w = start.copy()
    value = _cox_loss(x @ w, seen, at) + w @ w / (2 * strength)
    for _ in range(_STEPS):
        eta = x @ w
        hazard = np.exp(eta - eta.max())
        risk = np.cumsum(hazard)[at]
        mean = np.cumsum(hazard[:, None] * x, axis=0)[at] / risk[:, None]
        share = np.zeros(len(x))  # of each row in the sums over events at which it is at risk
        np.add.at(share, at, 1 / risk)
        share = hazard * np.cumsum(share[::-1])[::-1]
        slope = x.T @ (share - seen) + w / strength
        if np.abs(slope).max(initial=0) < _ENOUGH * len(x):
            break
        bend = (x * share[:, None]).T @ x - mean.T @ mean + np.eye(len(w)) / strength
        step = np.linalg.solve(bend, slope)
        length = 1.0
        for _ in range(_HALVINGS):
            tried = w - length * step
            reached = _cox_loss(x @ tried, seen, at) + tried @ tried / (2 * strength)
            if reached <= value - 1e-4 * length * (slope @ step) + 1e-12 * abs(value):
                break
            length /= 2
        w, value = tried, reached
    return w


def _cox_loss(eta: NDArray[np.float64], seen: NDArray[np.bool_], at: NDArray[np.int64]) -> float:
    """Negative logarithm of the partial likelihood of rows with falling times."""
    top = eta.max(initial=0)
    risk = np.log(np.cumsum(np.exp(eta - top)))[at] + top
    return float(risk.sum() - eta[seen].sum())
