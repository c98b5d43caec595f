"""Can the diagnosis of a patient be told from the barcode? Judged on patients that the model never saw (section 3.3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cytosae.cohort.folds import Folds, stratified_folds
from cytosae.cohort.linear import fit, threshold_products
from cytosae.cohort.problem import Problem
from cytosae.cohort.scores import calibration, class_scores, confusion, weighted_f1
from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights, group_codes
from cytosae.settings import ClassifyConfig

PAPER_THRESHOLD = -3.0

Judge = Callable[[NDArray[np.bool_], NDArray[np.bool_], int], NDArray[np.float64]]
"""Given training rows, judged rows and a seed: probabilities of the judged rows, ``(n_judged, n_classes)``."""


@dataclass(frozen=True)
class Judged:
    """What was said of every row by models that had not seen its patient."""

    probability: NDArray[np.float64]
    """``(n_repeats, n_rows, n_classes)``; NaN for rows that are never judged."""
    target: NDArray[np.int64]
    units: NDArray[np.int64]
    """Patient of each row, drawn whole for the interval."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows that were judged."""
        return np.flatnonzero(np.isfinite(self.probability[0, :, 0]))

    def confusions(self, weights: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
        """Confusion counts of each division, ``(n_repeats, [n_draws,] n_classes, n_classes)``."""
        rows, n_classes = self.rows, self.probability.shape[2]
        predicted = self.probability[:, rows].argmax(axis=2)
        kept = None if weights is None else weights[:, rows]
        return np.stack([confusion(self.target[rows], p, n_classes, kept) for p in predicted])

    def f1(self, draws: int, seed: int) -> Estimate:
        """Weighted F1, mean over the divisions, with its interval over patients."""
        weights = bootstrap_weights(self.units, draws, seed)
        return Estimate.of(
            weighted_f1(self.confusions()).mean(), weighted_f1(self.confusions(weights)).mean(axis=0) if draws else ()
        )


@dataclass(frozen=True)
class Sweep:
    """Classification of barcodes at every threshold."""

    at: tuple[Judged, ...]
    """With all latents above each threshold."""
    chosen: Judged
    """With the threshold chosen inside the training patients."""
    choice: NDArray[np.float64]
    """That threshold, ``(n_repeats, n_folds)``."""
    kept: NDArray[np.float64]
    """Latents above each threshold, mean over the folds, ``(n_thresholds,)``."""
    null: NDArray[np.float64]
    """Weighted F1 of each permutation, everything repeated, the choice of the threshold too; ``(n_permutations,)``."""
    null_at: NDArray[np.float64]
    """The same at each threshold, ``(n_permutations, n_thresholds)``."""


def units_of(patients: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of the patients; rows of one patient have one number."""
    return group_codes(len(patients), pd.factorize(pd.Series(patients))[0])


def judged_by(judge: Judge, problem: Problem, folds: Folds, seed: int = 0) -> Judged:
    """Let a model judge every row in every division."""
    n, n_classes = len(problem.target), len(problem.classes)
    found = np.full((folds.n_repeats, n, n_classes), np.nan)
    for repeat, of in enumerate(folds.of):
        for fold in np.unique(of[of >= 0]):
            found[repeat, of == fold] = judge(of != fold, of == fold, seed + repeat)
    return Judged(found, problem.target, units_of(problem.patients))


def linear_judge(features: NDArray[np.floating], problem: Problem) -> Judge:
    """Logistic regression with the same penalty on other features of the patients, ``(n_rows, n_features)``."""
    x = np.asarray(features, np.float64)
    products = x @ x.T

    def judge(train: NDArray[np.bool_], judged: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
        model = fit(products[np.ix_(train, train)], problem.target[None, train], len(problem.classes))
        return model.probabilities(products[np.ix_(judged, train)])[0]

    return judge


def sweep(
    problem: Problem, folds: Folds, config: ClassifyConfig, progress: Callable[[int], None] = lambda done: None
) -> Sweep:
    """Judge every row at every threshold, and with the threshold that does best inside the training patients.

    Which latents are above a threshold is decided by the training patients' images. Permutations shuffle the labels
    within the folds of the first division, so that every fold keeps its classes, and repeat everything.
    """
    n, n_classes, thresholds = len(problem.target), len(problem.classes), config.thresholds
    units = units_of(problem.patients)
    probability = np.full((len(thresholds), folds.n_repeats, n, n_classes), np.nan)
    chosen = np.full((folds.n_repeats, n, n_classes), np.nan)
    choice = np.full((folds.n_repeats, len(folds.names)), np.nan)
    kept = []
    shuffled = shuffled_within(folds.of[0], problem.target, config.permutations, config.seed)
    null = np.zeros((config.permutations, n), np.int64)
    null_at = np.zeros((len(thresholds), config.permutations, n), np.int64)

    def judge(repeat: int, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.float64]]]:
        """Latents kept, thresholds chosen, and the probabilities of the fold at every threshold, for every label vector."""
        of = folds.of[repeat]
        train, judged = of != fold, of == fold
        targets = np.vstack([problem.target, shuffled]) if repeat == 0 else problem.target[None]
        products, count = threshold_products(problem.barcodes, problem.log_mean(train), thresholds)
        best = _choose(problem, products, train, targets, config, config.seed + repeat, of if folds.given else None)
        found: list[NDArray[np.float64]] = []
        for t, product in enumerate(products):
            if t and np.array_equal(product, products[t - 1]):
                found.append(found[-1])
                continue
            model = fit(product[np.ix_(train, train)], targets[:, train], n_classes)
            found.append(model.probabilities(product[np.ix_(judged, train)]))
        return count, best, found

    jobs = [(repeat, int(fold)) for repeat, of in enumerate(folds.of) for fold in np.unique(of[of >= 0])]
    # A fold a thread: products this small take three times as long where threads have to meet for each.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, ((repeat, fold), (count, best, found)) in enumerate(
            zip(jobs, pool.map(lambda job: judge(*job), jobs), strict=True), 1
        ):
            judged = folds.of[repeat] == fold
            kept.append(count)
            choice[repeat, fold] = thresholds[best[0]]
            chosen[repeat, judged] = found[best[0]][0]
            for t in range(len(thresholds)):
                probability[t, repeat, judged] = found[t][0]
                if repeat == 0 and config.permutations:
                    said = found[t][1:].argmax(axis=2)
                    null_at[t][:, judged] = said
                    here = np.flatnonzero(best[1:] == t)
                    null[np.ix_(here, judged)] = said[here]
            progress(done)
    rows = folds.of[0] >= 0
    return Sweep(
        tuple(Judged(p, problem.target, units) for p in probability),
        Judged(chosen, problem.target, units),
        choice,
        np.mean(kept, axis=0),
        _f1_of_each(shuffled[:, rows], null[:, rows], n_classes),
        np.stack([_f1_of_each(shuffled[:, rows], said[:, rows], n_classes) for said in null_at], axis=1),
    )


def shuffled_within(of: NDArray[np.integer], target: NDArray[np.integer], draws: int, seed: int) -> NDArray[np.int64]:
    """Labels shuffled among the rows of the same fold, ``(n_draws, n_rows)``."""
    rng = np.random.default_rng([seed, 7])
    found = np.repeat(np.asarray(target, np.int64)[None], draws, axis=0)
    for fold in np.unique(of):
        rows = np.flatnonzero(of == fold)
        found[:, rows] = rng.permuted(found[:, rows], axis=1)
    return found


def _choose(
    problem: Problem,
    products: NDArray[np.float64],
    train: NDArray[np.bool_],
    targets: NDArray[np.integer],
    config: ClassifyConfig,
    seed: int,
    like: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The threshold with the best weighted F1 in folds of the training rows; of equals, that with the fewest latents.

    The folds are drawn, or, where `like` gives more than one of the training rows, these: a threshold that shall
    serve in an unseen laboratory is chosen by leaving laboratories out.
    """
    rows = np.flatnonzero(train)
    n_classes = len(problem.classes)
    patients = np.asarray(problem.patients)[rows]
    sizes = pd.Series(patients).groupby(problem.target[rows]).nunique()
    least = int(sizes.min())
    if like is not None and len(np.unique(like[rows])) > 1:
        inner = like[rows]
    elif sizes.max() < 2:  # no two patients to learn from and judge by: the paper's threshold, or the nearest
        nearest = int(np.abs(np.array(config.thresholds) - PAPER_THRESHOLD).argmin())
        return np.full(len(targets), nearest)
    else:
        inner = stratified_folds(problem.target[rows], list(patients), max(2, min(config.inner, least)), 1, seed).of[0]
    f1 = np.zeros((len(products), len(targets)))
    for t, product in enumerate(products):
        if t and np.array_equal(product, products[t - 1]):  # the latents between both are silent in every barcode
            f1[t] = f1[t - 1]
            continue
        said = np.zeros((len(targets), len(rows)), np.int64)
        for fold in np.unique(inner):
            fitting, judged = rows[inner != fold], rows[inner == fold]
            model = fit(product[np.ix_(fitting, fitting)], targets[:, fitting], n_classes)
            said[:, inner == fold] = model.probabilities(product[np.ix_(judged, fitting)]).argmax(axis=2)
        f1[t] = _f1_of_each(targets[:, rows], said, n_classes)
    return len(products) - 1 - f1[::-1].argmax(axis=0)


def _f1_of_each(targets: NDArray[np.integer], said: NDArray[np.integer], n_classes: int) -> NDArray[np.float64]:
    if not len(targets):
        return np.zeros(0)
    return weighted_f1(np.stack([confusion(t, s, n_classes) for t, s in zip(targets, said, strict=True)]))


def choose_threshold(problem: Problem, config: ClassifyConfig) -> float:
    """The threshold for the classifier of all patients, chosen in folds of them."""
    everyone = np.ones(len(problem.target), bool)
    products, _ = threshold_products(problem.barcodes, problem.log_mean(everyone), config.thresholds)
    return config.thresholds[int(_choose(problem, products, everyone, problem.target[None], config, config.seed)[0])]


def figures(judged: Judged, folds: Folds, classes: Sequence[str], config: ClassifyConfig) -> dict[str, Any]:
    """Weighted F1 with its interval, figures of each class, confusion counts, calibration."""
    counts = judged.confusions()
    f1 = judged.f1(config.bootstrap, config.seed)
    scores = {name: values.mean(axis=0) for name, values in class_scores(counts).items()}
    rows = judged.rows
    single = [
        weighted_f1(confusion(judged.target[inside], judged.probability[repeat, inside].argmax(axis=1), len(classes)))
        for repeat, of in enumerate(folds.of)
        for inside in (np.flatnonzero(of == fold) for fold in np.unique(of[of >= 0]))
    ]
    return {
        "weighted_f1": f1.value,
        "low": f1.low,
        "high": f1.high,
        "fold_deviation": float(np.std(single)),
        "accuracy": float(np.trace(counts.mean(axis=0)) / len(rows)),
        "classes": {name: {k: float(v[c]) for k, v in scores.items()} for c, name in enumerate(classes)},
        "confusion": counts.mean(axis=0).tolist(),
        "calibration": calibration(judged.probability[:, rows].mean(axis=0), judged.target[rows]),
    }


def contender_table(contenders: Mapping[str, Judged], reference: str, config: ClassifyConfig) -> pd.DataFrame:
    """Weighted F1 of each contender with its interval, and by how much the reference is ahead in paired draws."""
    estimates = {name: judged.f1(config.bootstrap, config.seed) for name, judged in contenders.items()}
    rows = []
    for name, estimate in estimates.items():
        gain = Estimate(np.nan) if name == reference else estimates[reference].gain_over(estimate)
        ahead = {"ahead": gain.value, "ahead_low": gain.low, "ahead_high": gain.high}
        rows.append({"contender": name, "value": estimate.value, "low": estimate.low, "high": estimate.high, **ahead})
    return pd.DataFrame(rows).set_index("contender")
