"""Cell types predicted from a cell's concepts: a linear probe, and when to abstain. Arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from cytosae.cohort.scores import confusion, macro_f1
from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights, group_codes

CELL_TYPE_LEAST = 10
"""Cells of a type, at least."""
_STRENGTHS = (0.003, 0.03, 0.3)
_FOLDS, _STEPS = 4, 300


@dataclass(frozen=True)
class CellAnswers:
    """From which probability a cell is answered, and what that did on cells that the model had not seen."""

    classes: tuple[str, ...]
    threshold: float
    """Probability from which a cell is answered; above 1 where no cell is sure enough."""
    figures: dict[str, float]
    """Of unseen cells: ``accuracy`` and ``macro_f1`` of all with ``low`` and ``high``, the share ``answered`` and the
    ``answered_accuracy``.
    """
    confusion: NDArray[np.int64]
    """Unseen cells by true type and answer, ``(n_classes, n_classes + 1)``; the last column where it abstains."""

    def labels(self, probability: NDArray[np.float64]) -> list[str | None]:
        """The type of each cell, None where none is sure enough."""
        best = probability.argmax(axis=1)
        sure = probability.max(axis=1) >= self.threshold
        return [self.classes[c] if answered else None for c, answered in zip(best, sure, strict=True)]


@dataclass(frozen=True)
class CellProbe(CellAnswers):
    """A probe of cell types with what it did on cells of patients whom it had not seen."""

    model: LogisticRegression

    def probabilities(self, counts: sp.csr_matrix) -> NDArray[np.float64]:
        """Of cells with counts a_i[s] ``(n_cells, n_latents)``; ``(n_cells, n_classes)``."""
        return np.asarray(self.model.predict_proba(features(counts)), np.float64)


def features(counts: sp.csr_matrix) -> sp.csr_matrix:
    """log(1 + a_i[s]) of cells, ``(n_cells, n_latents)``."""
    return sp.csr_matrix(counts.astype(np.float64).log1p())


def fit_probe(
    counts: sp.csr_matrix,
    labels: Sequence[str],
    patients: ArrayLike | None,
    accuracy: float,
    *,
    draws: int = 200,
    seed: int = 0,
) -> CellProbe:
    """Fit a probe and the probability from which it answers.

    Multinomial logistic regression with an L2 penalty on log(1 + count), its strength chosen by log loss in four folds with
    all cells of a patient on one side. The threshold is the smallest with which the answered cells of unseen patients, in
    these folds, are right in the wanted share.

    Parameters
    ----------
    counts
        a_i[s] of labelled cells, ``(n_cells, n_latents)``.
    labels
        Their types, ``(n_cells,)``; types with fewer than ten cells have to be left out before.
    patients
        Number of each cell's patient, negative where unknown, ``(n_cells,)``; None if no patient is known.
    accuracy
        Share of the answered cells that has to be right.

    Raises
    ------
    ValueError
        Fewer than two types, or all cells of one patient.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    classes, target = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    units = group_codes(len(target), patients)
    if len(classes) < 2:
        raise ValueError("cells of two types are needed")
    if units.max() < 1:
        raise ValueError("cells of two patients are needed, one to train on and one to test on")
    x = features(counts)
    divided = StratifiedGroupKFold(min(_FOLDS, int(units.max()) + 1), shuffle=True, random_state=seed)
    unseen = np.zeros((len(_STRENGTHS), len(target), len(classes)))
    for fit, test in divided.split(target, target, units):
        for index, strength in enumerate(_STRENGTHS):
            model = _regression(strength).fit(x[fit], target[fit])
            unseen[index][np.ix_(test, model.classes_)] = model.predict_proba(x[test])
    true = unseen[:, np.arange(len(target)), target]
    best = int(np.log(np.maximum(true, 1e-6)).mean(axis=1).argmax())
    answers = judge_answers(unseen[best], target, tuple(map(str, classes)), units, accuracy, draws=draws, seed=seed)
    return CellProbe(**vars(answers), model=_regression(_STRENGTHS[best]).fit(x, target))


def judge_answers(
    probability: NDArray[np.floating],
    target: NDArray[np.integer],
    classes: tuple[str, ...],
    units: NDArray[np.integer],
    accuracy: float,
    *,
    draws: int = 200,
    seed: int = 0,
) -> CellAnswers:
    """From which probability to answer, by cells that the model had not seen.

    Parameters
    ----------
    probability
        ``(n_cells, n_classes)``.
    target, units
        True type and patient of each cell, ``(n_cells,)``.
    accuracy
        Share of the answered cells that has to be right.

    Examples
    --------
    >>> p = np.array([0.9, 0.8, 0.4, 0.2])
    >>> probability, target = np.stack([p, 1 - p], axis=1), np.array([0, 0, 0, 1])
    >>> found = judge_answers(probability, target, ("blast", "monocyte"), np.arange(4), 1.0)
    >>> found.threshold, found.figures["accuracy"], found.labels(probability)
    (0.8, 0.75, ['blast', 'blast', None, 'monocyte'])
    """
    threshold = answering_threshold(probability, target, accuracy)
    answered = probability.max(axis=1) >= threshold
    correct = probability.argmax(axis=1) == target
    weights = bootstrap_weights(units, draws, seed)
    share = Estimate.from_draws(correct.mean(), weights @ correct / np.maximum(weights.sum(axis=1), 1))
    counted = confusion(target, probability.argmax(axis=1), len(classes))
    return CellAnswers(
        classes,
        threshold,
        {
            "cells": len(target),
            "accuracy": share.value,
            "low": share.low,
            "high": share.high,
            "macro_f1": float(macro_f1(counted)),
            "answered": float(answered.mean()),
            "answered_accuracy": float(correct[answered].mean()) if answered.any() else float("nan"),
        },
        answers_by_type(target, np.where(answered, probability.argmax(axis=1), len(classes)), len(classes)),
    )


def answers_by_type(target: NDArray[np.integer], answer: NDArray[np.integer], n_classes: int) -> NDArray[np.int64]:
    """Cells by true type and answer, ``(n_classes, n_classes + 1)``; answer ``n_classes`` stands for none."""
    codes = target * (n_classes + 1) + answer
    return np.bincount(codes, minlength=n_classes * (n_classes + 1)).reshape(n_classes, n_classes + 1)


def answering_threshold(probability: NDArray[np.floating], target: NDArray[np.integer], accuracy: float) -> float:
    """The smallest probability of the predicted class from which a wanted share of the cells is right; above 1 if none is.

    Parameters
    ----------
    probability
        Of cells that the model had not seen, ``(n_cells, n_classes)``.
    target
        Their true class, ``(n_cells,)``.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    sure = probability.max(axis=1)
    order = np.argsort(-sure, kind="stable")
    right = np.cumsum((probability.argmax(axis=1) == target)[order]) / np.arange(1, len(order) + 1)
    last = np.append(sure[order][1:] < sure[order][:-1], True)  # equal probabilities are answered together
    enough = np.flatnonzero((right >= accuracy) & last)
    return float(sure[order][enough[-1]]) if len(enough) else float(np.nextafter(1, 2))


def predicted_fractions(
    table: pd.DataFrame, rows: NDArray[np.int64], n_rows: int
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Expected share of each cell type among the cells of each patient: the mean of the cells' probabilities.

    Parameters
    ----------
    table
        Of ``cytosae label``: a column ``p TYPE`` for each type.
    rows
        Row of the barcodes of each cell, negative where there is none (`cytosae.cohort.rows_of_cells`), ``(n_cells,)``.

    Returns
    -------
    ``(n_rows, n_types)``, and the types.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    columns = [str(name) for name in table.columns if str(name).startswith("p ")]
    inside = rows >= 0
    sums = np.zeros((n_rows, len(columns)))
    np.add.at(sums, rows[inside], table.loc[inside, columns].to_numpy(np.float64))
    cells = np.bincount(rows[inside], minlength=n_rows)
    return sums / np.maximum(cells, 1)[:, None], tuple(name.removeprefix("p ") for name in columns)


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=_STEPS)
