"""What latents have to beat: simpler directions among the same tokens."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA, MiniBatchNMF
from sklearn.exceptions import ConvergenceWarning

Tokens = NDArray[np.float32]


def random_directions(d_model: int, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Directions without any preference, ``(d_model, count)``."""
    return np.random.default_rng(seed).standard_normal((d_model, count)).astype(np.float32)


def principal_directions(tokens: Tokens, seed: int = 0) -> NDArray[np.float32]:
    """All principal components of tokens ``(n, d_model)`` and their opposites, ``(d_model, 2 n_components)``."""
    components = PCA(svd_solver="covariance_eigh", random_state=seed).fit(tokens).components_.T
    return np.hstack([components, -components]).astype(np.float32)


def token_directions(tokens: Tokens, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Directions of `count` random tokens among ``(n, d_model)``, seen from their mean; ``(d_model, count)``.

    Where an autoencoder starts with ``--directions-init tokens``: what a training has to improve on.
    """
    rng = np.random.default_rng(seed)
    chosen = tokens[rng.choice(len(tokens), count, replace=len(tokens) < count)] - tokens.mean(axis=0)
    return np.asarray(chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)).T


def nonnegative_factors(tokens: Tokens, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Scores of non-negative factors of the tokens split into positive and negative parts, ``(n, count)``."""
    centred = tokens - tokens.mean(axis=0)
    signed = np.hstack([np.maximum(centred, 0), np.maximum(-centred, 0)])
    model = MiniBatchNMF(count, init="nndsvda", batch_size=4096, max_iter=30, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline need not be exact
        return model.fit_transform(signed).astype(np.float32)


def cluster_closeness(tokens: Tokens, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Closeness to the centres of k-means, the negative distance; ``(n, count)``."""
    model = MiniBatchKMeans(count, batch_size=4096, n_init=1, random_state=seed).fit(tokens)
    return -model.transform(tokens).astype(np.float32)


def strongest(scores: ArrayLike, count: int) -> NDArray[np.float32]:
    """The `count` largest scores of each row, and 0 for the others: as few answers to a patch as an autoencoder gives.

    Parameters
    ----------
    scores
        ``(n, n_scores)``, of any sign.

    Returns
    -------
    ``(n, n_scores)``. What is kept is above 0, in the order that it had, over all rows.
    """
    scores = np.asarray(scores, dtype=np.float32)
    count = min(count, scores.shape[1])
    order = np.argpartition(scores, -count, axis=1)[:, -count:]
    strong = np.zeros_like(scores)
    lowest = np.nextafter(scores.min(), np.float32(-np.inf))
    np.put_along_axis(strong, order, np.take_along_axis(scores, order, axis=1) - lowest, axis=1)
    return strong
