"""How good is a prediction? Arrays in, numbers out, all from confusion counts so that draws cost little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytosae.concepts.quality.resampling import Estimate


def confusion(
    truth: ArrayLike, predicted: ArrayLike, n_classes: int, weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    """How often each class was taken for each; true classes are rows.

    Parameters
    ----------
    truth, predicted
        Numbers of classes, ``(n_rows,)``.
    weights
        How often each row counts, ``(n_draws, n_rows)``; once each if None.

    Returns
    -------
    ``(n_classes, n_classes)``, with weights ``(n_draws, n_classes, n_classes)``.
    """
    cell = np.asarray(truth) * n_classes + np.asarray(predicted)
    if weights is None:
        return np.bincount(cell, minlength=n_classes**2).astype(float).reshape(n_classes, n_classes)
    which = np.eye(n_classes**2)[cell]
    return (np.asarray(weights, float) @ which).reshape(-1, n_classes, n_classes)


def class_scores(counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Precision, recall, F1 and support of every class from confusion counts ``(..., n_classes, n_classes)``.

    A class that is never predicted has precision 0, one that never occurs recall 0, as in scikit-learn.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    support, predicted = counts.sum(axis=-1), counts.sum(axis=-2)

    def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.divide(numerator, denominator, out=np.zeros_like(numerator, dtype=float), where=denominator > 0)

    return {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, support),
        "f1": ratio(2 * hits, support + predicted),
        "support": support,
    }


def weighted_f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of the classes, weighted by their support; ``(...)``.

    Examples
    --------
    >>> float(weighted_f1(np.array([[2.0, 0.0], [0.0, 3.0]])))  # nobody confused
    1.0
    """
    scores = class_scores(counts)
    total = scores["support"].sum(axis=-1)
    return np.divide((scores["f1"] * scores["support"]).sum(axis=-1), total, out=np.zeros_like(total), where=total > 0)


def macro_f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean F1 of the classes that occur; ``(...)``."""
    return _mean_of_occurring(counts, "f1")


def balanced_accuracy(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean recall of the classes that occur; ``(...)``."""
    return _mean_of_occurring(counts, "recall")


def _mean_of_occurring(counts: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    scores = class_scores(counts)
    occurs = scores["support"] > 0
    return np.asarray((scores[name] * occurs).sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1))


SCORES: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "weighted_f1": weighted_f1,
    "macro_f1": macro_f1,
    "balanced_accuracy": balanced_accuracy,
}
"""Scores of confusion counts ``(..., n_classes, n_classes)``, by name."""


def area_under_curve(probability: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.float64]:
    """AUROC of each class against the rest, mean over the classes that occur; ties count half.

    Parameters
    ----------
    probability
        ``(n_rows, n_classes)``.
    truth
        ``(n_rows,)``.
    weights
        How often each row counts, ``(n_draws, n_rows)``; once each if None.

    Returns
    -------
    ``()``, with weights ``(n_draws,)``; NaN where one class alone occurs.
    """
    p, true = np.asarray(probability, float), np.asarray(truth)
    row_weights = np.ones((1, len(true))) if weights is None else np.asarray(weights, float)
    areas = []
    for c in range(p.shape[1]):
        inside = true == c
        higher = p[inside, c][:, None] - p[~inside, c]
        wins = (higher > 0) + 0.5 * (higher == 0)
        of_class, of_rest = row_weights[:, inside], row_weights[:, ~inside]
        pairs = of_class.sum(axis=1) * of_rest.sum(axis=1)
        won = ((of_class @ wins) * of_rest).sum(axis=1)
        areas.append(np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))
    occurs = np.isfinite(areas).sum(axis=0)
    mean = np.divide(np.nansum(areas, axis=0), occurs, out=np.full(len(occurs), np.nan), where=occurs > 0)
    return mean[0] if weights is None else mean


SHARES = tuple(round(0.1 * tenth, 1) for tenth in range(1, 11))
"""Shares of the patients that are answered, for `abstention`."""


def abstention(probability: ArrayLike, truth: ArrayLike, weights: ArrayLike) -> list[dict[str, float]]:
    """Accuracy where a model answers only the patients of whom it is surest (El-Yaniv and Wiener, 2010).

    Parameters
    ----------
    probability
        ``(n_rows, n_classes)``.
    truth
        ``(n_rows,)``.
    weights
        How often each row counts in each bootstrap draw, for intervals, ``(n_draws, n_rows)``.

    Returns
    -------
    For each of `SHARES`: ``share`` answered, those of the largest probability first; ``threshold``, the least probability
    among them; ``accuracy`` with ``low`` and ``high``.
    """
    p = np.asarray(probability, float)
    confidence = p.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    correct = (p.argmax(axis=1) == np.asarray(truth))[order].astype(float)
    counted = np.vstack([np.ones(len(p)), np.asarray(weights, float)])[:, order]
    before = np.cumsum(counted, axis=1) - counted
    rows = []
    for share in SHARES:
        # Of the row at which the share is reached only what is still wanted counts.
        part = np.clip(share * counted.sum(axis=1, keepdims=True) - before, 0, counted)
        answered = part.sum(axis=1)
        accuracy = np.divide(part @ correct, answered, out=np.full(len(part), np.nan), where=answered > 0)
        threshold = confidence[order[part[0] > 0][-1]]
        estimate = Estimate.from_draws(accuracy[0], accuracy[1:])
        columns = {"accuracy": estimate.value, "low": estimate.low, "high": estimate.high}
        rows.append({"share": share, "threshold": float(threshold), **columns})
    return rows


def calibration(probability: ArrayLike, truth: ArrayLike, bins: int = 8) -> dict[str, Any]:
    """Are patients of whom the model is 70 % sure right in 70 %?

    Parameters
    ----------
    probability
        ``(n_rows, n_classes)``.
    truth
        ``(n_rows,)``.
    bins
        Rows are put into so many bins of like size by the probability of the predicted class.

    Returns
    -------
    ``ece``, the mean gap between confidence and share correct over the bins (Naeini et al., 2015), ``brier`` (Brier,
    1950, summed over the classes), ``log_loss``, and the bins.
    """
    p, true = np.asarray(probability, float), np.asarray(truth)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == true
    by_bin = []
    for rows in np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(p))):
        by_bin.append(
            {"n": len(rows), "confidence": float(confidence[rows].mean()), "correct": float(correct[rows].mean())}
        )
    truth_matrix = np.eye(p.shape[1])[true]
    true_class = np.clip(p[np.arange(len(p)), true], 1e-15, 1)
    return {
        "ece": float(sum(b["n"] * abs(b["confidence"] - b["correct"]) for b in by_bin) / len(p)),
        "brier": float(((p - truth_matrix) ** 2).sum(axis=1).mean()),
        "log_loss": float(-np.log(true_class).mean()),
        "bins": by_bin,
    }
