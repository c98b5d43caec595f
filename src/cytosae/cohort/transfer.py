"""Does what was learned in some laboratories hold in another? Each is left out in turn. Arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier

from cytosae.cohort.cross_validation import Predictions, f1_per_labels
from cytosae.cohort.folds import shuffled_within, stratified_folds
from cytosae.cohort.linear import centred_products
from cytosae.cohort.many_fits import fit_softmax
from cytosae.cohort.representation import Representation
from cytosae.cohort.selection import Products, choose, fitted_probabilities
from cytosae.cohort.task import ClassificationTask
from cytosae.harmonise import METHODS, fit_maps, group_moments, mean_moments, nearest
from cytosae.settings import ClassifyConfig

AT_HAND, ALONE = "unlabelled ones at hand", "alone"
"""Settings: other unlabelled patients or cells of the new laboratory are at hand (transductive); one arrives alone
(inductive)."""
_FEATURES = Representation("features", "none")
_STRENGTHS, _ELSEWHERE = (0.3, 3.0, 30.0), 3.0
"""C of the regressions on cells, divided by the number of features, which have variance 1; and the one that is taken where
one laboratory is learned from and another asked. Folds of the one would choose the weakest penalty, which does not hold in
another: this was the best between drawn laboratories.
"""
_FOLDS = 4
_TREES, _FEWER, _LEAF = 200, 50, 2
"""Trees of the forest on measurements, those for permuted labels, and cells in a leaf at least."""
_LEAST_PROBABILITY = 1e-3
"""What is added before a logarithm, so that none vetoes the other."""

Blocks: TypeAlias = Sequence[NDArray[np.floating]]
"""Features of the same rows, ``(n_rows, d)`` each."""


@dataclass(frozen=True)
class Division:
    """What is learned from, and what is asked."""

    train: NDArray[np.bool_]
    """``(n_rows,)``."""
    test: NDArray[np.bool_]
    """``(n_rows,)``."""
    targets: NDArray[np.integer]
    """Label vectors, the true one first, ``(n_vectors, n_rows)``."""
    inner: NDArray[np.int64]
    """Folds of the training rows, ``(n_rows,)``."""
    elsewhere: bool = False
    """Whether one laboratory is learned from and another asked, so that no fold resembles what is asked."""


Fitter: TypeAlias = Callable[[Blocks, Division], NDArray[np.float64]]
"""Probabilities of the test rows, ``(n_vectors, n_test, n_classes)``."""


@dataclass(frozen=True)
class Transfer:
    """Predictions of rows whose laboratory the model had not seen."""

    predictions: Predictions
    null: NDArray[np.float64]
    """Weighted F1 of labels permuted within the laboratories, ``(n_permutations,)``."""


def harmonised(
    blocks: Blocks,
    codes: NDArray[np.int64],
    method: str,
    left_out: int | None = None,
    *,
    only: int | None = None,
    alone: bool = False,
    fitted_on: NDArray[np.bool_] | None = None,
    least: int = 2,
) -> list[NDArray[np.floating]]:
    """Features of patients or cells with their laboratories made comparable, without labels.

    Parameters
    ----------
    codes
        Laboratory of each row, ``(n_rows,)``.
    method
        ``none``, or one of `cytosae.harmonise.METHODS`.
    left_out
        The laboratory that the reference does not know; None if all are known.
    only
        The one laboratory that the reference knows, where a single one is learned from.
    alone
        Rows of the one left out do not know one another: each is taken for one of the known laboratory that it resembles
        most.
    fitted_on
        Rows that the maps are fitted on, such as healthy controls; all if None.
    least
        Rows of a laboratory, at least; one of fewer stays as it is, and all do where no known one has enough.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    if method == "none":
        return list(blocks)
    known = [code for code in np.unique(codes[codes >= 0]).tolist() if code != left_out and only in (None, code)]
    mapped: list[NDArray[np.floating]] = []
    for block in blocks:
        values = np.asarray(block, np.float64)
        counted = codes if fitted_on is None else np.where(fitted_on, codes, -1)
        moments = group_moments(values, counted, int(codes.max()) + 1, full=METHODS[method].full)
        if not (enough := [moments[code] for code in known if moments[code].n >= least]):
            mapped.append(values)
            continue
        reference = mean_moments(enough)
        maps, own = fit_maps(method, moments, reference, least), codes
        if alone and left_out is not None:
            of_known = fit_maps(method, [moments[code] for code in known], reference, least)
            alike = np.asarray(known)[nearest(values, of_known, reference)]
            own = np.where(codes == left_out, alike, codes)
        mapped.append(maps.apply(values, own))
    return mapped


def patients_fitter(task: ClassificationTask, config: ClassifyConfig) -> Fitter:
    """The classifier of `cytosae.analysis.classify`, its penalty chosen in inner folds for every label vector.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """

    def fit(blocks: Blocks, division: Division) -> NDArray[np.float64]:
        parts = {(f"block {index}", "none"): centred_products(block) for index, block in enumerate(blocks)}
        products = Products(parts, {_FEATURES: list(parts)})
        best = choose(task, products, division.train, division.targets, config, config.seed, division.inner)
        return fitted_probabilities(products, best, division.train, division.test, division.targets, len(task.classes))

    return fit


def cells_fitter(n_classes: int) -> Fitter:
    """Logistic regression on standardised features; the penalty is chosen by the true labels in inner folds, where these
    resemble what is asked.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """

    def fit(blocks: Blocks, division: Division) -> NDArray[np.float64]:
        targets, inner = division.targets, division.inner
        wide = np.concatenate([np.asarray(block, np.float64) for block in blocks], axis=1)
        deviation = wide[division.train].std(axis=0)
        wide = (wide - wide[division.train].mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1)
        wide = wide.astype(np.float32)
        rows = np.flatnonzero(division.train)
        strengths = np.array(_STRENGTHS) / wide.shape[1]
        loss = np.zeros(len(_STRENGTHS))
        for fold in () if division.elsewhere else np.unique(inner[rows]):
            known, held = rows[inner[rows] != fold], rows[inner[rows] == fold]
            if len(np.unique(targets[0, known])) < 2:
                continue
            models = fit_softmax(wide[known], np.tile(targets[0, known], (len(strengths), 1)), strengths, n_classes)
            true = models.probabilities(wide[held])[:, np.arange(len(held)), targets[0, held]]
            loss -= np.log(np.maximum(true, 1e-6)).sum(axis=1)
        chosen = _ELSEWHERE / wide.shape[1] if division.elsewhere else strengths[int(loss.argmin())]
        best = np.full(len(targets), chosen)
        return fit_softmax(wide[rows], targets[:, rows], best, n_classes).probabilities(wide[division.test])

    return fit


def forest_fitter(values: NDArray[np.floating], n_classes: int, seed: int = 0) -> Fitter:
    """Extremely randomised trees (Geurts, Ernst and Wehenkel 2006) on values ``(n_rows, d)``, whatever the blocks are.

    The first label vector is the true one; permuted ones get fewer trees. Answers are kept, because the same rows are asked
    again with every harmonisation of the blocks.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    kept: dict[tuple[bytes, bytes, bytes], NDArray[np.float64]] = {}

    def fit(_: Blocks, division: Division) -> NDArray[np.float64]:
        train, test, targets = division.train, division.test, division.targets
        key = train.tobytes(), test.tobytes(), targets.tobytes()
        if key not in kept:
            kept[key] = np.zeros((len(targets), int(test.sum()), n_classes))
            for number, target in enumerate(targets):
                trees = _FEWER if number else _TREES
                forest = ExtraTreesClassifier(trees, min_samples_leaf=_LEAF, random_state=seed)
                forest.fit(values[train], target[train])
                kept[key][number][:, forest.classes_] = forest.predict_proba(values[test])
        return kept[key]

    return fit


def pooled_fitter(first: Fitter, second: Fitter) -> Fitter:
    """The mean of two models' log probabilities: the logarithmic opinion pool (Genest and Zidek 1986).

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """

    def fit(blocks: Blocks, division: Division) -> NDArray[np.float64]:
        answers = [one(blocks, division) for one in (first, second)]
        pooled = np.sqrt(np.prod([answer + _LEAST_PROBABILITY for answer in answers], axis=0))
        return np.asarray(pooled / pooled.sum(axis=2, keepdims=True))

    return fit


def left_out_laboratories(
    features: Callable[[int], Blocks],
    target: NDArray[np.int64],
    codes: NDArray[np.int64],
    units: NDArray[np.int64],
    fit: Fitter,
    n_classes: int,
    *,
    only: int | None = None,
    permutations: int = 0,
    seed: int = 0,
) -> Transfer:
    """Predict the rows of each laboratory with what was learned in the others.

    Parameters
    ----------
    features
        Of all rows, with a laboratory left out: `harmonised`.
    target, codes, units
        Class, laboratory, and patient (or cell) of each row, ``(n_rows,)``. Rows of an unknown laboratory (negative) are
        neither trained on nor predicted.
    fit
        `patients_fitter` or `cells_fitter`.
    only
        Learn from this laboratory alone, and predict the others.
    permutations
        Label vectors that are permuted within the laboratories, for the null.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    shuffled = shuffled_within(codes, target, units, permutations, seed)
    targets = np.vstack([target, shuffled])
    probability = np.full((len(targets), len(target), n_classes), np.nan)
    for code in np.unique(codes[(codes >= 0) & (codes != only)]).tolist():
        test = codes == code
        train = (codes >= 0) & ~test if only is None else codes == only
        probability[:, test] = fit(features(code), _division(targets, codes, units, train, test, seed))
    return _transfer(probability, targets, units, n_classes)


def predicted_rows(
    blocks: Blocks,
    target: NDArray[np.int64],
    codes: NDArray[np.int64],
    units: NDArray[np.int64],
    fit: Fitter,
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    seed: int = 0,
) -> NDArray[np.float64]:
    """Probabilities of rows whose class is not known, ``(n_test, n_classes)``; see `left_out_laboratories`.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    return fit(blocks, _division(target[None], codes, units, train, test, seed))[0]


def within_laboratories(
    blocks: Blocks,
    target: NDArray[np.int64],
    codes: NDArray[np.int64],
    units: NDArray[np.int64],
    fit: Fitter,
    n_classes: int,
    *,
    seed: int = 0,
) -> Transfer:
    """Predict the rows in drawn folds of the patients, so that every laboratory is known: the ceiling of a transfer.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    known = codes >= 0
    folds = _drawn(target, units, known, seed)
    probability = np.full((1, len(target), n_classes), np.nan)
    for fold in np.unique(folds[known]):
        test, train = known & (folds == fold), known & (folds != fold)
        division = Division(train, test, target[None], _drawn(target, units, train, seed + 1))
        probability[:, test] = fit(blocks, division)
    return _transfer(probability, target[None], units, n_classes)


def _division(
    targets: NDArray[np.int64],
    codes: NDArray[np.int64],
    units: NDArray[np.int64],
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    seed: int,
) -> Division:
    """With laboratories as the inner folds, where several are learned from; else with drawn ones."""
    known = np.unique(codes[train])
    inner = codes if len(known) > 1 else _drawn(targets[0], units, train, seed)
    return Division(train, test, targets, inner, len(known) == 1 and not np.isin(codes[test], known).any())


def _drawn(
    target: NDArray[np.int64], units: NDArray[np.int64], rows: NDArray[np.bool_], seed: int
) -> NDArray[np.int64]:
    """Stratified folds of some rows; 0 for the others."""
    folds = np.zeros(len(target), np.int64)
    groups = units[rows].astype(str).tolist()
    folds[rows] = stratified_folds(target[rows], groups, _FOLDS, 1, seed).row_folds[0]
    return folds


def _transfer(
    probability: NDArray[np.float64],
    targets: NDArray[np.int64],
    units: NDArray[np.int64],
    n_classes: int,
) -> Transfer:
    known = np.isfinite(probability[0, :, 0])
    predicted = probability[1:, known].argmax(axis=2)
    null = f1_per_labels(targets[1:, known], predicted, n_classes)
    return Transfer(Predictions(probability[:1], targets[0], units), null)
