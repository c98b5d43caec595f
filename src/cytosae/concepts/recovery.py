"""Are planted concepts found again? Patch-level truth against activations, for latents and for simpler directions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA, MiniBatchNMF
from sklearn.exceptions import ConvergenceWarning

_COLUMNS = 256  # scores that are ranked together


def auroc(scores: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Area under the ROC curve of every score for every truth, ties counted half (Mann and Whitney, 1947).

    Parameters
    ----------
    scores
        ``(n_samples, n_scores)``.
    truth
        ``(n_samples, n_truths)``, boolean.

    Returns
    -------
    ``(n_scores, n_truths)``; NaN for a truth that all or none of the samples have.
    """
    values, positive = np.asarray(scores), np.asarray(truth, dtype=np.float64)
    n, n_positive = len(positive), positive.sum(axis=0)
    pairs = n_positive * (n - n_positive)
    area = np.empty((values.shape[1], positive.shape[1]))
    for start in range(0, values.shape[1], _COLUMNS):
        ranks = rankdata(values[:, start : start + _COLUMNS], axis=0)
        wins = ranks.T @ positive - n_positive * (n_positive + 1) / 2
        area[start : start + _COLUMNS] = np.divide(wins, pairs, out=np.full_like(wins, np.nan), where=pairs > 0)
    return area


@dataclass(frozen=True)
class Recovery:
    """The best score for each truth, chosen on one half of the images and judged on the other."""

    best: NDArray[np.int64]
    """Index of the chosen score, ``(n_truths,)``; -1 where a half lacks the truth."""
    area: NDArray[np.float64]
    """Its AUROC on the other half, ``(n_truths,)``."""

    def share(self, above: float = 0.9) -> float:
        """Share of the truths that are recovered with an AUROC above a bar; those without a figure do not count."""
        known = np.isfinite(self.area)
        return float((self.area[known] > above).mean()) if known.any() else float("nan")


def recovery(scores: ArrayLike, truth: ArrayLike, images: ArrayLike) -> Recovery:
    """Find the best score for each truth on half of the images and judge it on the others.

    Parameters
    ----------
    scores
        ``(n_patches, n_scores)``, such as the activations of latents.
    truth
        ``(n_patches, n_truths)``, boolean: whether the patch shows the planted concept.
    images
        Image of each patch, ``(n_patches,)``; even ones choose, odd ones judge, in order of their first appearance.
    """
    values, positive = np.asarray(scores), np.asarray(truth, dtype=bool)
    _, number = np.unique(np.asarray(images), return_inverse=True)
    choosing = number % 2 == 0
    chosen_on = auroc(values[choosing], positive[choosing])
    best = np.where(np.isfinite(chosen_on).all(axis=0), np.nan_to_num(chosen_on, nan=-1).argmax(axis=0), -1)
    area = np.full(positive.shape[1], np.nan)
    for column, score in enumerate(best):
        if score >= 0:
            area[column] = auroc(values[~choosing][:, [score]], positive[~choosing][:, [column]])[0, 0]
    return Recovery(best, area)


def random_directions(tokens: NDArray[np.float32], count: int, seed: int = 0) -> NDArray[np.float32]:
    """Scores of random directions: projections of centred tokens ``(n, d)``; ``(n, count)``."""
    directions = np.random.default_rng(seed).standard_normal((tokens.shape[1], count)).astype(np.float32)
    return (tokens - tokens.mean(axis=0)) @ directions


def principal_components(tokens: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Scores of all principal components and their opposites, ``(n, 2 d)``."""
    scores = PCA(svd_solver="covariance_eigh", random_state=seed).fit_transform(tokens)
    return np.hstack([scores, -scores]).astype(np.float32)


def nonnegative_factors(tokens: NDArray[np.float32], count: int, seed: int = 0) -> NDArray[np.float32]:
    """Scores of non-negative factors of the tokens split into positive and negative parts, ``(n, count)``."""
    centred = tokens - tokens.mean(axis=0)
    parts = np.hstack([np.maximum(centred, 0), np.maximum(-centred, 0)])
    model = MiniBatchNMF(count, init="nndsvda", batch_size=4096, max_iter=30, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline need not be exact
        return model.fit_transform(parts).astype(np.float32)


def cluster_closeness(tokens: NDArray[np.float32], count: int, seed: int = 0) -> NDArray[np.float32]:
    """Closeness to the centres of k-means, the negative distance; ``(n, count)``."""
    model = MiniBatchKMeans(count, batch_size=4096, n_init=1, random_state=seed).fit(tokens)
    return -model.transform(tokens).astype(np.float32)
