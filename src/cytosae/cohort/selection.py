"""Which representation of the barcodes, and which penalty, is chosen in inner folds of the training patients."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cytosae.cohort.cross_validation import Predictions, f1_per_labels
from cytosae.cohort.folds import Folds, shuffled_within, stratified_folds
from cytosae.cohort.linear import centred_products, fit_path, spread
from cytosae.cohort.representation import TRANSFORMS, Representation, transformed
from cytosae.cohort.task import ClassificationTask
from cytosae.settings import CHOOSE, ClassifyConfig

STRENGTHS = tuple(float(10.0**exponent) for exponent in np.arange(-1, 4.1, 0.5))
"""C of the logistic regressions that are tried, on features whose mean squared distance from their mean is 1."""
CHOSEN_FEATURES = ("counts+share", "top", "strongest")
"""Features to choose among: what the cells have on average, and what the five strongest or the one strongest have, where
marks are rare. With few patients a choice among more is noise ([measured](docs/explanation/patients.md)).
"""
_MIDDLE = STRENGTHS.index(10.0)
_SURE = 1e-6  # a class that is absent from an inner fold's training has probability 0, and a loss that is finite


@dataclass(frozen=True, order=True)
class Choice:
    """A representation and the strength of its regression, of `STRENGTHS`."""

    representation: Representation
    strength: float


@dataclass(frozen=True)
class Chosen:
    """Predictions with what was chosen inside the training patients."""

    predictions: Predictions
    choices: tuple[tuple[Choice, ...], ...]
    """Of each division and fold."""
    null: NDArray[np.float64]
    """Weighted F1 of each permutation of the labels in the first division, the choice repeated; ``(n_permutations,)``."""


@dataclass(frozen=True)
class Products:
    """Products of patients with one another, from which those of training rows follow, for some kinds of features."""

    parts: Mapping[tuple[str, str], NDArray[np.float64]]
    """`centred_products` of each block and transform, ``(n_rows, n_rows)``."""
    kinds: Mapping[Representation, Sequence[tuple[str, str]]]
    """The parts of each representation."""

    @classmethod
    def from_barcodes(
        cls, data: ad.AnnData, representations: Sequence[Representation], groups: pd.Series | None = None
    ) -> Products:
        """Of some representations of the barcodes; with `groups` (the laboratory of each patient) less each group's mean.

        The mean is over all patients of the group, the predicted ones too: it needs their barcodes, not their classes.
        """
        kinds = {kind: [(block, kind.transform) for block in kind.blocks] for kind in representations}
        parts = {part for of_kind in kinds.values() for part in of_kind}
        values: dict[tuple[str, str], NDArray[np.floating]] = {part: transformed(data, *part) for part in sorted(parts)}
        if groups is not None:
            codes = pd.factorize(groups.astype(str))[0]
            values = {part: _centred_within(array, codes) for part, array in values.items()}
        return cls({part: centred_products(array) for part, array in values.items()}, kinds)

    @classmethod
    def from_features(cls, features: NDArray[np.floating]) -> Products:
        """Of other features of the patients, ``(n_rows, n_features)``."""
        part = ("features", "none")
        return cls({part: centred_products(features)}, {Representation(*part): [part]})

    def scales(self, kind: Representation, train: NDArray[np.bool_]) -> dict[str, float]:
        """Factor of each block with which all have the same variance over the training rows, 1 together."""
        parts = {part[0]: self.parts[part] for part in self.kinds[kind]}
        scales = {}
        for block, products in parts.items():
            width = spread(products[np.ix_(train, train)])
            varies = width > 1e-12 * np.trace(products) / len(products)  # below is rounding
            scales[block] = (len(parts) * width) ** -0.5 if varies else 0.0
        return scales

    def scaled(self, kind: Representation, train: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Products of all rows in a representation, its blocks scaled by the training rows; ``(n_rows, n_rows)``."""
        scales = self.scales(kind, train)
        total = np.zeros_like(next(iter(self.parts.values())))
        for part in self.kinds[kind]:
            total += scales[part[0]] ** 2 * self.parts[part]
        return total


def _centred_within(values: NDArray[np.floating], groups: NDArray[np.integer]) -> NDArray[np.float64]:
    """Values of patients ``(n_rows, n_latents)`` less the mean of each one's group, ``(n_rows,)``."""
    centred = np.array(values, np.float64)
    for group in np.unique(groups):
        centred[groups == group] -= centred[groups == group].mean(axis=0)
    return centred


def candidates(config: ClassifyConfig) -> list[Representation]:
    """The representations that the settings leave open.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    features = CHOSEN_FEATURES if config.features == CHOOSE else (config.features,)
    transforms = tuple(TRANSFORMS) if config.transform == CHOOSE else (config.transform,)
    return [Representation(kind, transform) for kind in features for transform in transforms]


def choose(
    task: ClassificationTask,
    products: Products,
    train: NDArray[np.bool_],
    targets: NDArray[np.integer],
    config: ClassifyConfig,
    seed: int,
    row_folds: NDArray[np.int64] | None = None,
) -> list[Choice]:
    """The representation and strength with the smallest log loss in folds of the training rows, for each label vector.

    The folds are drawn, or, where `row_folds` has more than one of the training rows, these: what shall serve in an unseen
    laboratory is chosen by leaving laboratories out.

    Parameters
    ----------
    targets
        Class of each row, ``(n_targets, n_rows)``.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    rows = np.flatnonzero(train)
    patients = np.asarray(task.patients)[rows]
    sizes = pd.Series(patients).groupby(task.target[rows]).nunique()
    if row_folds is not None and len(np.unique(row_folds[rows])) > 1:
        inner = row_folds[rows]
    elif sizes.max() < 2:  # no two patients, to fit and to test
        return [Choice(next(iter(products.kinds)), STRENGTHS[_MIDDLE])] * len(targets)
    else:
        splits = max(2, min(config.inner, int(sizes.min())))
        inner = stratified_folds(task.target[rows], list(patients), splits, 1, seed).row_folds[0]
    options = [Choice(kind, strength) for kind in products.kinds for strength in STRENGTHS]
    losses = []
    for kind in products.kinds:
        product = products.scaled(kind, train)
        loss = np.zeros((len(STRENGTHS), len(targets)))
        for fold in np.unique(inner):
            fitted, test = rows[inner != fold], rows[inner == fold]
            for index, model in enumerate(
                fit_path(product[np.ix_(fitted, fitted)], targets[:, fitted], len(task.classes), STRENGTHS)
            ):
                probability = model.probabilities(product[np.ix_(test, fitted)])
                true = np.take_along_axis(probability, targets[:, test, None], axis=2)[..., 0]
                loss[index] -= np.log(np.maximum(true, _SURE)).sum(axis=1)
        losses.append(loss)
    return [options[best] for best in np.concatenate(losses).argmin(axis=0)]


def chosen_predictions(
    task: ClassificationTask,
    folds: Folds,
    products: Products,
    config: ClassifyConfig,
    *,
    permutations: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Chosen:
    """Predict every row with the representation and strength that are chosen inside its training patients.

    Permutations shuffle the labels of the patients within the folds of the first division, so that every fold keeps its
    classes, and repeat everything.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    n, n_classes = len(task.target), len(task.classes)
    shuffled = shuffled_within(folds.row_folds[0], task.target, task.units, permutations, config.seed)
    probability = np.full((folds.n_repeats, n, n_classes), np.nan)
    null = np.zeros((permutations, n), np.int64)
    choices: list[list[Choice]] = [[] for _ in range(folds.n_repeats)]

    def predict(split: tuple[int, int]) -> tuple[Choice, NDArray[np.float64]]:
        """What is chosen for a fold, and its probabilities for every label vector."""
        repeat, fold = split
        row_folds = folds.row_folds[repeat]
        test = row_folds == fold
        targets = np.vstack([task.target, shuffled]) if repeat == 0 else task.target[None]
        inner = row_folds if folds.from_column else None
        best = choose(task, products, ~test, targets, config, config.seed + repeat, inner)
        return best[0], fitted_probabilities(products, best, ~test, test, targets, n_classes)

    # A fold a thread: products this small take three times as long where threads have to meet for each.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, ((repeat, fold), (choice, predicted)) in enumerate(
            zip(folds.splits, pool.map(predict, folds.splits), strict=True), 1
        ):
            test = folds.row_folds[repeat] == fold
            choices[repeat].append(choice)
            probability[repeat, test] = predicted[0]
            if repeat == 0:
                null[:, test] = predicted[1:].argmax(axis=2)
            progress(done)
    rows = folds.row_folds[0] >= 0
    return Chosen(
        Predictions(probability, task.target, task.units),
        tuple(map(tuple, choices)),
        f1_per_labels(shuffled[:, rows], null[:, rows], n_classes),
    )


def fitted_probabilities(
    products: Products,
    best: Sequence[Choice],
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    targets: NDArray[np.integer],
    n_classes: int,
) -> NDArray[np.float64]:
    """Probabilities of the test rows for every label vector, each with its choice; ``(n_targets, n_test, n_classes)``."""
    probability = np.zeros((len(targets), int(test.sum()), n_classes))
    for choice in sorted(set(best)):
        vectors = [vector for vector, one in enumerate(best) if one == choice]
        product = products.scaled(choice.representation, train)
        (model,) = fit_path(product[np.ix_(train, train)], targets[vectors][:, train], n_classes, (choice.strength,))
        probability[vectors] = model.probabilities(product[np.ix_(test, train)])
    return probability


def choice_record(choice: Choice) -> dict[str, Any]:
    """A choice as JSON.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    kind = choice.representation
    return {"features": kind.features, "transform": kind.transform, "strength": choice.strength}


def chosen_records(choices: Iterable[Choice]) -> list[dict[str, Any]]:
    """Every choice and in how many folds it was made, most often first.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    counts = Counter(choices)
    return [{**choice_record(choice), "folds": n} for choice, n in sorted(counts.items(), key=lambda item: -item[1])]


def null_record(null: NDArray[np.float64], observed: float) -> dict[str, Any] | None:
    """The permutations of a score, and the share of them that reach the observed one; None where there are none.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    if not len(null):
        return None
    low, high = np.quantile(null, (0.025, 0.975))
    return {
        "permutations": len(null),
        "mean": float(null.mean()),
        "low": float(low),
        "high": float(high),
        "p": float((1 + (null >= observed).sum()) / (1 + len(null))),
    }
