"""A linear concept from a few marked patches: a logistic regression that knows the dictionary. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from cytosae.teaching.nuisance import Nuisance, penalised

NEGATIVES = 4000
"""Random patches that a fit takes, at most."""
MARK = 0.02
"""Weight of the loss of a mark against the penalty ``|u|^2 / 2``, on features whose mean square is 1."""
_DICTIONARY = 0.5
"""Share of the prior that is the dictionary's."""
_ROUNDS = 6  # of multiple-instance learning, at most
TOP = 3
"""Patches of a cell that is marked as a whole, its strongest, that are taken as marked."""
_STEPS = 100


@dataclass(frozen=True)
class Prior:
    """What is known of tokens and concepts before the first mark.

    ``w = A u`` with ``u ~ N(0, 1)``: half of the covariance of w treats all dimensions of standardised tokens alike, the
    other half is that of the encoder's rows of all latents, so that directions in which the dictionary distinguishes tokens
    cost less than others and few marks suffice. What follows nuisances (`cytosae.teaching.nuisance`) costs more.

    Parameters
    ----------
    random
        Random patches, ``(n_random, d_model)``.
    encoder
        Rows of the encoder, ``(n_latents, d_model)``.
    nuisances
        What w shall not follow.
    """

    random: NDArray[np.float32]
    encoder: NDArray[np.float32]
    nuisances: tuple[Nuisance, ...] = ()

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean of the random patches, ``(d_model,)``."""
        return self.random.mean(axis=0, dtype=np.float64)

    @cached_property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance of the random patches, ``(d_model, d_model)``."""
        centred = (self.random - self.mean).astype(np.float32)
        return (centred.T @ centred).astype(np.float64) / max(1, len(centred))

    @cached_property
    def spread(self) -> NDArray[np.float64]:
        """Standard deviation of every latent's pre-activation over the random patches, ``(n_latents,)``."""
        products = self.encoder @ self.covariance.astype(np.float32)
        return np.sqrt(np.maximum(np.einsum("ij,ij->i", products, self.encoder), 1e-12)).astype(np.float64)

    @cached_property
    def basis(self) -> NDArray[np.float64]:
        """A, ``(d_model, d_model)``: features are ``(x - mean) A``, with a mean square of 1."""
        variance = np.maximum(np.diag(self.covariance), 1e-12)
        plain = np.diag(1 / variance) / len(variance)
        rows = (self.encoder / self.spread[:, None]).astype(np.float32)
        of_dictionary = (rows.T @ rows).astype(np.float64)
        scale = np.trace(of_dictionary * np.sqrt(np.outer(variance, variance)))
        mixed = plain if scale <= 0 else (1 - _DICTIONARY) * plain + _DICTIONARY * of_dictionary / scale
        values, vectors = np.linalg.eigh(mixed)
        basis = vectors * np.sqrt(np.maximum(values, 0))
        return penalised(basis, self.covariance, self.nuisances)

    def features(self, tokens: NDArray[np.floating]) -> NDArray[np.float32]:
        """Features of tokens ``(n, d_model)``, with a mean square of 1."""
        return np.asarray((tokens - self.mean).astype(np.float32) @ self.basis.astype(np.float32))

    def nearest(self, weights: NDArray[np.floating]) -> NDArray[np.float64]:
        """Correlation of ``w x`` with every latent's pre-activation over the random patches, ``(n_latents,)``."""
        product = self.covariance @ weights
        own = np.sqrt(max(float(weights @ product), 1e-12))
        return np.asarray(self.encoder @ product.astype(np.float32) / (self.spread * own))

    def direction(self, weights: NDArray[np.floating]) -> NDArray[np.float64]:
        """How tokens change with ``w x``: covariance times w (Haufe et al. 2014), of unit norm."""
        product = self.covariance @ weights
        return np.asarray(product / max(float(np.linalg.norm(product)), 1e-12))


@dataclass(frozen=True)
class Linear:
    """``z = w x + b`` of a token."""

    weights: NDArray[np.float64]
    bias: float

    def __call__(self, tokens: NDArray[np.floating]) -> NDArray[np.float64]:
        """z of tokens ``(..., d_model)``."""
        return np.asarray(tokens @ self.weights.astype(np.float32) + self.bias)


def fit(
    this: NDArray[np.floating],
    wrong: NDArray[np.floating],
    random: NDArray[np.floating],
    prior: Prior,
    weights: NDArray[np.floating] | None = None,
) -> Linear:
    """A logistic regression: marked patches against random ones, with a normal prior on w.

    Every mark weighs `MARK`; random patches weigh together as much as all that are *this*.

    Parameters
    ----------
    this, wrong
        Tokens marked *this* and *not*, ``(n, d_model)``; of the second there need be none.
    random
        Features of random patches (`Prior.features`), ``(n_random, d_model)``, taken as *not*.
    weights
        Of the tokens in `this`, in marks; each is one if None.
    """
    x = np.concatenate([prior.features(np.concatenate([this, wrong])), random])
    y = np.repeat([1, 0, 0], [len(this), len(wrong), len(random)])
    each = np.ones(len(this)) if weights is None else weights
    rest = np.repeat([1.0, each.sum() / max(1, len(random))], [len(wrong), len(random)])
    with threadpool_limits(1):
        model = LogisticRegression(C=MARK, max_iter=_STEPS, tol=1e-4)
        model.fit(x, y, sample_weight=np.concatenate([each, rest]))
    weights_of_token = prior.basis @ model.coef_[0]
    return Linear(weights_of_token, float(model.intercept_[0] - prior.mean @ weights_of_token))


def silent_on_cls(linear: Linear, cls: NDArray[np.floating], prior: Prior, highest: float) -> Linear:
    """The same, but that no CLS token scores above `highest`.

    CLS tokens lie far from all patches, in a direction (that of Fisher's discriminant) along which patches hardly differ: w
    gets as much of it as it takes.

    Parameters
    ----------
    cls
        CLS tokens of random cells, ``(n_cells, d_model)``.
    """
    ridge = 1e-6 * np.trace(prior.covariance) / len(prior.covariance)
    away = cls.mean(axis=0) - prior.mean
    discriminant = np.linalg.solve(prior.covariance + ridge * np.eye(len(away)), away)
    along = (cls - prior.mean) @ discriminant
    if along.min() <= 0:
        return linear
    needed = max(0.0, float(((linear(cls) - highest) / along).max()))
    return Linear(linear.weights - needed * discriminant, linear.bias + needed * float(prior.mean @ discriminant))


def fit_bags(
    this: NDArray[np.floating],
    wrong: NDArray[np.floating],
    bags: list[NDArray[np.floating]],
    random: NDArray[np.floating],
    prior: Prior,
) -> Linear:
    """The same where some cells are only known to show the concept somewhere: multiple-instance learning.

    A first fit takes all patches of such cells; then, in turn, each cell's strongest patches take the place of all, until
    they no longer change (MI-SVM, Andrews et al. 2002, with `TOP` patches a cell in place of one). Those of a cell weigh
    together as one mark.

    Parameters
    ----------
    bags
        Patches of each such cell, ``(n_patches, d_model)``.
    """
    if not bags:
        return fit(this, wrong, random, prior)
    weights = np.repeat([1.0, 1 / len(bags[0])], [len(this), sum(map(len, bags))])
    linear = fit(np.concatenate([this, *bags]), wrong, random, prior, weights)
    before: list[tuple[int, ...]] = []
    for _ in range(_ROUNDS):
        chosen = [tuple(np.sort(np.argsort(-linear(bag), kind="stable")[:TOP]).tolist()) for bag in bags]
        if chosen == before:
            break
        before = chosen
        strongest = [bag[list(patches)] for bag, patches in zip(bags, chosen, strict=True)]
        weights = np.repeat([1.0, 1 / TOP], [len(this), TOP * len(bags)])
        linear = fit(np.concatenate([this, *strongest]), wrong, random, prior, weights)
    return linear
