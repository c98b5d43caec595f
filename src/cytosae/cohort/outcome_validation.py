"""Do barcodes predict a number, or the time to an event? Every patient is predicted by a model that never saw it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cytosae.cohort.explanation import LinearModel, on_values
from cytosae.cohort.folds import Folds, shuffled_within, stratified_folds
from cytosae.cohort.outcome_models import DualModels, cox, ridge
from cytosae.cohort.outcome_scores import absolute_error, concordance, r_squared, rank_correlation
from cytosae.cohort.outcomes import Outcome
from cytosae.cohort.selection import Choice, Products
from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights
from cytosae.settings import ClassifyConfig

STRENGTHS = {
    "number": tuple(float(10.0**exponent) for exponent in np.arange(-3, 3.1, 0.5)),
    "survival": tuple(float(10.0**exponent) for exponent in range(-3, 3)),
}
"""C of the regressions that are tried, on features whose mean squared distance from their mean is 1."""


@dataclass(frozen=True)
class OutcomePredictions:
    """Predictions of every row by models that had not seen its patient."""

    predicted: NDArray[np.float64]
    """The number, or the logarithm of the relative hazard, ``(n_repeats, n_rows)``; NaN for rows never predicted."""
    outcome: Outcome
    choices: tuple[Choice, ...] = ()
    """What was chosen inside the training patients of each fold."""
    null: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """The first score for each permutation of the patients in the first division, ``(n_permutations,)``."""

    def scores(self, draws: int, seed: int) -> dict[str, Estimate]:
        """Means over the divisions with intervals over patients: of numbers R2, Spearman's correlation and the mean
        absolute error, of times the concordance.
        """
        rows = np.flatnonzero(np.isfinite(self.predicted[0]))
        weights = np.vstack([np.ones(len(rows)), bootstrap_weights(self.outcome.units, draws, seed)[:, rows]])
        by_score: dict[str, list[NDArray[np.float64]]] = {}
        for predicted in self.predicted[:, rows]:
            for name, value in scored(self.outcome, rows, predicted, weights).items():
                by_score.setdefault(name, []).append(value)
        means = {name: np.mean(values, axis=0) for name, values in by_score.items()}
        return {name: Estimate.from_draws(value[0], value[1:]) for name, value in means.items()}


def scored(
    outcome: Outcome, rows: NDArray[np.int64], predicted: NDArray[np.float64], weights: NDArray[np.floating]
) -> dict[str, NDArray[np.float64]]:
    """The scores of some rows for each draw, the first of which is the one that the null is of."""
    values = outcome.values[rows]
    if outcome.events is not None:
        return {"concordance": concordance(predicted, values, outcome.events[rows], weights)}
    return {
        "r_squared": r_squared(predicted, values, weights),
        "spearman": rank_correlation(predicted, values, weights),
        "absolute_error": absolute_error(predicted, values, weights),
    }


def fitted(
    outcome: Outcome, products: NDArray[np.float64], rows: NDArray[np.int64], strengths: Sequence[float]
) -> DualModels:
    """Models of some values; `rows` ``(n_targets, n_train)`` say whose value each training row has, its own or another's."""
    if outcome.events is None:
        return ridge(products, outcome.values[rows], strengths)
    return cox(products, outcome.values[rows], outcome.events[rows], strengths)


def choose_outcome(
    outcome: Outcome,
    products: Products,
    train: NDArray[np.bool_],
    owners: NDArray[np.int64],
    config: ClassifyConfig,
    seed: int,
    row_folds: NDArray[np.int64] | None = None,
) -> list[Choice]:
    """The representation and strength that do best in folds of the training rows, for each vector of owners.

    Numbers are judged by the squared error, times by the concordance within each fold.

    Parameters
    ----------
    owners
        The row whose value each row has, ``(n_targets, n_rows)``: itself, or another under a permutation.
    row_folds
        Folds of a column such as laboratories, which are then left out inside too.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    rows = np.flatnonzero(train)
    if row_folds is not None and len(np.unique(row_folds[rows])) > 1:
        inner = row_folds[rows]
    else:
        patients = [outcome.patients[row] for row in rows]
        inner = stratified_folds(outcome.groups(rows), patients, config.inner, 1, seed).row_folds[0]
    strengths = STRENGTHS[outcome.kind]
    losses = []
    for kind in products.kinds:
        product = products.scaled(kind, train)
        loss = np.zeros((len(strengths), len(owners)))
        for fold in np.unique(inner):
            own, test = rows[inner != fold], rows[inner == fold]
            models = fitted(outcome, product[np.ix_(own, own)], owners[:, own], strengths)
            predicted = models.predictions(product[np.ix_(test, own)])
            truth = outcome.values[owners[:, test]]
            if outcome.events is None:
                loss += ((predicted - truth) ** 2).sum(axis=2)
                continue
            once = np.ones((1, len(test)))
            for target, owner in enumerate(owners[:, test]):
                for index in range(len(strengths)):
                    area = concordance(predicted[index, target], truth[target], outcome.events[owner], once)[0]
                    loss[index, target] -= len(test) * (area if np.isfinite(area) else 0.5)
        losses.append(loss)
    options = [Choice(kind, strength) for kind in products.kinds for strength in strengths]
    return [options[best] for best in np.concatenate(losses).argmin(axis=0)]


def validated(
    outcome: Outcome,
    folds: Folds,
    products: Products,
    config: ClassifyConfig,
    *,
    permutations: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> OutcomePredictions:
    """Predict every row with what is chosen inside its training patients; see `cytosae.cohort.chosen_predictions`.

    The null shuffles the patients' values within the folds of the first division, and repeats the choice.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    n = len(outcome.values)
    identity = np.arange(n)[None]
    shuffled = shuffled_within(folds.row_folds[0], np.arange(n), outcome.units, permutations, config.seed)
    predicted = np.full((folds.n_repeats, n), np.nan)
    null = np.full((permutations, n), np.nan)
    choices: list[Choice] = []

    def predict(split: tuple[int, int]) -> tuple[Choice, NDArray[np.float64]]:
        repeat, fold = split
        row_folds = folds.row_folds[repeat]
        test = row_folds == fold
        owners = np.vstack([identity, shuffled]) if repeat == 0 else identity
        best = choose_outcome(
            outcome, products, ~test, owners, config, config.seed + repeat, row_folds if folds.from_column else None
        )
        predictions = np.empty((len(owners), int(test.sum())))
        for choice in sorted(set(best)):
            mine = [index for index, one in enumerate(best) if one == choice]
            product = products.scaled(choice.representation, ~test)
            models = fitted(outcome, product[np.ix_(~test, ~test)], owners[mine][:, ~test], (choice.strength,))
            predictions[mine] = models.predictions(product[np.ix_(test, ~test)])[0]
        return best[0], predictions

    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, ((repeat, fold), (choice, predictions)) in enumerate(
            zip(folds.splits, pool.map(predict, folds.splits), strict=True), 1
        ):
            test = folds.row_folds[repeat] == fold
            choices.append(choice)
            predicted[repeat, test] = predictions[0]
            if repeat == 0:
                null[:, test] = predictions[1:]
            progress(done)
    rows = np.flatnonzero(folds.row_folds[0] >= 0)
    once = np.ones((1, len(rows)))
    # A permuted patient is judged by the value that the permutation gives it.
    of_null = [
        next(iter(scored(outcome, owners[rows], values[rows], once).values()))[0]
        for owners, values in zip(shuffled, null, strict=True)
    ]
    return OutcomePredictions(predicted, outcome, tuple(choices), np.array(of_null))


def outcome_table(methods: Mapping[str, OutcomePredictions], reference: str, config: ClassifyConfig) -> pd.DataFrame:
    """The scores of each method with their intervals, and by how much the reference is ahead in the first of them.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    scores = {name: predictions.scores(config.bootstrap, config.seed) for name, predictions in methods.items()}
    rows: list[dict[str, Any]] = []
    for name, estimates in scores.items():
        row: dict[str, Any] = {"method": name}
        for index, (score, one) in enumerate(estimates.items()):
            if not index:
                ahead = Estimate(np.nan) if name == reference else scores[reference][score].gain_over(one)
                row |= {"score": score, "value": one.value, "low": one.low, "high": one.high}
                row |= {"ahead": ahead.value, "ahead_low": ahead.low, "ahead_high": ahead.high}
            else:
                row |= {score: one.value, f"{score}_low": one.low, f"{score}_high": one.high}
        rows.append(row)
    return pd.DataFrame(rows).set_index("method")


def trained_outcome(outcome: Outcome, products: Products, rows: NDArray[np.bool_], choice: Choice) -> LinearModel:
    """The model of some patients with a representation and strength, as in `cytosae.cohort.trained`.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    kind, owners = choice.representation, np.arange(len(rows))[None, rows]
    model = fitted(outcome, products.scaled(kind, rows)[np.ix_(rows, rows)], owners, (choice.strength,))
    parts = on_values(outcome.data, products, rows, kind, model.dual[0], model.intercept[0])
    return LinearModel((outcome.target,), kind, *parts)


def latent_weights(outcome: Outcome, model: LinearModel) -> pd.DataFrame:
    """What each latent adds to the prediction of the model of all patients, strongest first.

    Returns
    -------
    A row per latent: for each block of the chosen representation ``<block>``, the change of the prediction when the block's
    value rises by one standard deviation among the patients; ``sum``, over the blocks.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    kind = model.representation
    weights = model.weights[0] * kind.values(outcome.data).astype(np.float64).std(axis=0)
    table = pd.DataFrame(dict(zip(kind.blocks, weights, strict=True))).rename_axis("latent")
    table["sum"] = weights.sum(axis=0)
    return table.iloc[np.argsort(-np.abs(table["sum"].to_numpy()), kind="stable")]
