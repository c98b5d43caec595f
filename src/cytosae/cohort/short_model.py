"""A short model that a person can read: an elastic net on few concepts, near-duplicates counted once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_selection import f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from cytosae.cohort.task import ClassificationTask

SCREENED, MOST, ALIKE = 300, 60, 0.9
"""Latents that are looked at, those with the largest F between the classes; latents that may enter a model; correlation
over the training patients from which two latents are one.
"""
_STRENGTHS = tuple(float(10.0**exponent) for exponent in np.arange(-2, 1.1, 0.5))
_RATIO, _TOLERANCE, _STEPS, _SURE = 0.5, 1e-3, 3000, 1e-6


@dataclass(frozen=True)
class ShortModel:
    """Few latents with their weights."""

    classes: NDArray[np.int64]
    """Numbers of the classes that the training patients have."""
    latents: NDArray[np.int64]
    """Those with a weight, ``(n_latents,)``."""
    twins: tuple[tuple[int, ...], ...]
    """Latents that each of them stands for too."""
    weights: NDArray[np.float64]
    """For a standard deviation of log(1 + count) among the training patients, ``(n_classes, n_latents)``."""


def predict_short(
    task: ClassificationTask, train: NDArray[np.bool_], test: NDArray[np.bool_], seed: int = 0
) -> NDArray[np.float64]:
    """Fit on some patients and predict others: probabilities ``(n_test, n_classes)``.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    path = ShortPath(task, train, seed)
    return path.predict(path.shortest(), test)[0]


def fit_short(task: ClassificationTask, seed: int = 0) -> ShortModel:
    """The model of all patients.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    path = ShortPath(task, np.ones(len(task.target), bool), seed)
    model, latents, twins = path.fit(path.shortest())
    weights = _weights(model)
    used = np.flatnonzero((weights != 0).any(axis=0))
    order = used[np.argsort(-np.abs(weights[:, used]).max(axis=0), kind="stable")]
    return ShortModel(model.classes_, latents[order], tuple(twins[i] for i in order), weights[:, order])


def short_table(model: ShortModel, task: ClassificationTask) -> pd.DataFrame:
    """A row per latent: its weight for each class and the latents that it stands for too.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    table = pd.DataFrame(
        {task.classes[c]: row for c, row in zip(model.classes, model.weights, strict=True)},
        index=pd.Index(model.latents, name="latent"),
    )
    table["stands_for"] = [" ".join(map(str, twins)) for twins in model.twins]
    return table


class ShortPath:
    """Elastic nets of falling penalty on some patients, each tried in inner folds of these.

    Parameters
    ----------
    task
        The patients.
    train
        Those to fit on, ``(n_rows,)``.
    seed
        Fixes the inner folds.
    strengths
        C of the models, rising.
    from_first
        They are multiples of the C at which the first concept gets a weight.
    """

    def __init__(
        self,
        task: ClassificationTask,
        train: NDArray[np.bool_],
        seed: int,
        strengths: Sequence[float] = _STRENGTHS,
        *,
        from_first: bool = False,
    ) -> None:
        self.task, self.train, self.seed, self.strengths, self._from_first = task, train, seed, strengths, from_first
        self._features = _standardised(task, train)
        rows, patients = np.flatnonzero(train), np.asarray(task.patients)
        sizes = pd.Series(patients[train]).groupby(task.target[train]).nunique()
        n_folds = min(3, int(sizes.min()))
        self._losses = np.zeros((len(strengths), len(rows)))
        counts: list[list[int]] = [[] for _ in strengths]
        if n_folds > 1:
            divided = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
            for fit, test in divided.split(rows, task.target[rows], patients[rows]):
                own, seen = rows[fit], rows[test]
                latents, _ = _without_twins(
                    self._features[own], task.target[own]
                )  # what is screened may not know the others
                for index in range(len(strengths)):
                    model = self._fitted(index, self._features[np.ix_(own, latents)], task.target[own])
                    probability = np.zeros((len(test), len(task.classes)))
                    probability[:, model.classes_] = model.predict_proba(self._features[np.ix_(seen, latents)])
                    true = probability[np.arange(len(test)), task.target[seen]]
                    self._losses[index, test] = -np.log(np.maximum(true, _SURE))
                    counts[index].append(_count(model))
        self._counts = None if n_folds < 2 else np.array(counts).mean(axis=1)

    def shortest(self) -> int:
        """Place of the strongest penalty that is no worse than the best by more than its standard error."""
        if self._counts is None:
            return len(self.strengths) // 2
        mean = self._losses.mean(axis=1)
        best = int(mean.argmin())
        # Breiman et al. (1984).
        enough = mean[best] + self._losses[best].std() / np.sqrt(self._losses.shape[1])
        return int(np.argmax(mean <= enough))

    def best(self, size: int) -> int:
        """Place of the penalty with the smallest loss in the inner folds, among those with so many concepts at most."""
        if self._counts is None:
            return 0
        allowed = np.flatnonzero(self._counts <= size)
        return int(allowed[self._losses[allowed].mean(axis=1).argmin()]) if len(allowed) else 0

    def fit(self, index: int) -> tuple[LogisticRegression, NDArray[np.int64], list[tuple[int, ...]]]:
        """The model of all training patients, the latents that entered it and their near-duplicates."""
        latents, twins = _without_twins(self._features[self.train], self.task.target[self.train])
        own = self._features[self.train][:, latents]
        return self._fitted(index, own, self.task.target[self.train]), latents, twins

    def _fitted(self, index: int, features: NDArray[np.float64], target: NDArray[np.int64]) -> LogisticRegression:
        first = _first_strength(features, target) if self._from_first else 1.0
        return _elastic_net(first * self.strengths[index], self.seed).fit(features, target)

    def predict(self, index: int, test: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
        """Probabilities of other patients, ``(n_test, n_classes)``, and the number of concepts that the model uses."""
        model, latents, _ = self.fit(index)
        probability = np.zeros((int(test.sum()), len(self.task.classes)))
        probability[:, model.classes_] = model.predict_proba(self._features[test][:, latents])
        return probability, _count(model)


def _first_strength(features: NDArray[np.float64], target: NDArray[np.int64]) -> float:
    """C below which no concept has a weight: where the largest slope of the loss outweighs the absolute penalty."""
    classes = np.unique(target)
    truth = (target[:, None] == classes).astype(float)
    slope = features.T @ (truth - truth.mean(axis=0))
    if len(classes) == 2:  # one vector of weights for both
        slope = slope[:, 1:]
    return float(_RATIO / max(np.abs(slope).max(initial=0), 1e-12))


def _weights(model: LogisticRegression) -> NDArray[np.float64]:
    """``(n_classes, n_latents)``."""
    coefficients = np.asarray(model.coef_, np.float64)
    return coefficients if len(model.classes_) > 2 else np.concatenate([-coefficients, coefficients]) / 2


def _count(model: LogisticRegression) -> int:
    """Concepts with a weight."""
    return int((model.coef_ != 0).any(axis=0).sum())


def _standardised(task: ClassificationTask, train: NDArray[np.bool_]) -> NDArray[np.float64]:
    """log(1 + count) of all rows, with mean 0 and deviation 1 over the training rows; 0 where these do not differ."""
    values = np.log1p(task.barcodes.astype(np.float64))
    deviation = values[train].std(axis=0)
    return np.asarray((values - values[train].mean(axis=0)) / np.where(deviation > 1e-9, deviation, np.inf))


def _elastic_net(strength: float, seed: int) -> LogisticRegression:
    """Penalty half of the absolute values, half of the squares (Zou and Hastie, 2005)."""
    return LogisticRegression(
        solver="saga", l1_ratio=_RATIO, C=strength, max_iter=_STEPS, tol=_TOLERANCE, random_state=seed
    )


def _without_twins(
    features: NDArray[np.float64], target: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[tuple[int, ...]]]:
    """Latents by falling F, each without those that go with it over these patients; and these, for each."""
    varies = np.flatnonzero(np.ptp(features, axis=0) > 0)
    if not len(varies):
        return np.zeros(1, np.int64), [()]  # a column of zeros: the shares of the classes remain
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.nan_to_num(f_classif(features[:, varies], target)[0])
    screened = varies[np.argsort(-statistic, kind="stable")[:SCREENED]]
    correlation = np.abs(np.atleast_2d(np.corrcoef(features[:, screened], rowvar=False)))
    left = np.ones(len(screened), bool)
    chosen: list[int] = []
    twins: list[tuple[int, ...]] = []
    for index in range(len(screened)):
        if not left[index] or len(chosen) == MOST:
            continue
        alike = left & (correlation[index] >= ALIKE)
        alike[index] = False
        left &= ~alike
        left[index] = False
        chosen.append(int(screened[index]))
        twins.append(tuple(sorted(int(latent) for latent in screened[alike])))
    return np.array(chosen, np.int64), twins
