"""k-sparse probes: how many latents does it take to tell a label? (Gurnee et al., 2023; Gao et al., 2024)"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cytosae.concepts.quality.alignment import auroc, auroc_draws
from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights

ALL = 0
"""As k: a probe on everything."""
MIN_CELLS = 10
"""Cells of a label on each side that a probe needs."""


def standardised(features: NDArray[np.floating], rows: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Features ``(n, n_features)`` with mean 0 and deviation 1 over some rows; those constant there are 0 everywhere."""
    x = np.asarray(features, np.float32)
    mean, deviation = x[rows].mean(axis=0), x[rows].std(axis=0)
    varies = deviation > 1e-8 * np.maximum(1, np.abs(mean))
    return np.where(varies, (x - mean) / np.where(varies, deviation, 1), 0).astype(np.float32)


def fitted_probe(features: NDArray[np.floating], labels: ArrayLike) -> LogisticRegression:
    """Logistic regression with L2 penalty, classes weighted alike."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=0.1, class_weight="balanced", max_iter=200).fit(features, labels)


def strongest_differences(features: NDArray[np.floating], positive: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Features ``(n, n_features)`` by falling difference of the means of both sides (standardised features)."""
    difference = features[positive].mean(axis=0) - features[~positive].mean(axis=0)
    return np.argsort(-np.abs(difference), kind="stable")


def sparse_probes(
    features: NDArray[np.floating],
    labels: ArrayLike,
    choosing: ArrayLike,
    ks: Sequence[int] = (1, 5, 20, ALL),
    codes: ArrayLike | None = None,
    draws: int = 200,
    seed: int = 0,
) -> dict[int, Estimate]:
    """AUROC of probes on the k features that tell each label best, one label against the rest, mean over labels.

    Features are chosen by the difference of their means, and probes fitted, on the choosing cells; the others test. A
    feature that is constant tells nothing and gets 0.5; one that leaks the labels of the choosing cells alone gains nothing.

    Parameters
    ----------
    features
        ``(n_cells, n_features)``: image activations of latents, or mean tokens.
    labels
        Numbers of labels, negative where unknown, ``(n_cells,)``.
    choosing
        Which cells choose and train, ``(n_cells,)``.
    ks
        Numbers of features; `ALL` for all of them.
    codes
        What is drawn whole for the interval, ``(n_cells,)``.

    Returns
    -------
    By k; NaN where no label has `MIN_CELLS` on both sides.
    """
    numbers, chosen = np.asarray(labels), np.asarray(choosing, bool)
    known = numbers >= 0
    train, test = chosen & known, ~chosen & known
    units = np.arange(len(numbers)) if codes is None else np.asarray(codes)
    weights = bootstrap_weights(units[test], draws, seed)
    usable = [c for c in np.unique(numbers[known]) if min((numbers[s] == c).sum() for s in (train, test)) >= MIN_CELLS]
    if len(usable) < 2:
        return dict.fromkeys(ks, Estimate(np.nan))
    x = standardised(features, train)
    areas: dict[int, list[float]] = {k: [] for k in ks}
    drawn: dict[int, list[NDArray[np.float64]]] = {k: [] for k in ks}
    for label in usable:
        positive = numbers == label
        order = strongest_differences(x[train], positive[train])
        for k in ks:
            columns = order[: k or len(order)]
            probe = fitted_probe(x[train][:, columns], positive[train])
            score = probe.decision_function(x[test][:, columns])
            areas[k].append(float(auroc(score[:, None], positive[test][:, None])[0, 0]))
            drawn[k].append(auroc_draws(score, positive[test], weights))
    return {k: Estimate.from_draws(float(np.mean(areas[k])), np.nanmean(drawn[k], axis=0)) for k in ks}
