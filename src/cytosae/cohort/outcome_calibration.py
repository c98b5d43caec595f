"""What predicted numbers and hazards are worth: intervals with a stated coverage, ranks of risk. Arrays in, numbers out.

Intervals of numbers are those of CV+ (Barber, Candes, Ramdas, Tibshirani: Predictive inference with the jackknife+, 2021):
each training patient's error by models that had not seen the patient, around what these models say of the new one. As with
`cytosae.cohort.conformal`, predictions are means over the models of several divisions (jackknife+ after the bootstrap: Kim,
Xu, Barber 2020). What is proven for any model is 1 - 2 alpha; where the models of the folds hardly differ it is 1 - alpha.

Of times to an event there are no such intervals: how long a patient lives who was followed for a year is not known, so an
error is not known either. What can be said is who of the training patients had less risk, by models that had not seen them,
and what happened to those who had as much (Kaplan and Meier, 1958).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import CensoredData, ecdf

from cytosae.cohort.conformal import error_rate
from cytosae.cohort.folds import Folds, stratified_folds
from cytosae.cohort.outcome_validation import choose_outcome, fitted
from cytosae.cohort.outcomes import Outcome
from cytosae.cohort.selection import Products
from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights
from cytosae.settings import ClassifyConfig

THIRDS = ("low", "middle", "high")
"""Thirds of the training patients by their risk."""


@dataclass(frozen=True)
class OutcomeCalibration:
    """What models said of training patients that they had not seen."""

    values: NDArray[np.float64]
    """Their numbers or times, ``(n_patients,)``."""
    events: NDArray[np.bool_] | None
    """Of times: whether the event was seen, ``(n_patients,)``."""
    left_out: NDArray[np.float64]
    """The number or log relative hazard by these models, mean over the divisions, ``(n_patients,)``."""
    models: NDArray[np.int64]
    """The model of each division that had not seen the patient, ``(n_patients, n_divisions)``."""

    @classmethod
    def from_predictions(
        cls, outcome: Outcome, predicted: NDArray[np.float64], models: NDArray[np.int64]
    ) -> OutcomeCalibration:
        """From predictions of rows by models that had not seen them.

        Parameters
        ----------
        predicted
            In each division, ``(n_divisions, n_rows)``.
        models
            Number of the model that made them, ``(n_divisions, n_rows)``; rows with a negative number are left out
            (`cytosae.cohort.Folds.row_models`).
        """
        rows = np.flatnonzero((models >= 0).all(axis=0))
        events = None if outcome.events is None else outcome.events[rows]
        return cls(outcome.values[rows], events, predicted[:, rows].mean(axis=0), models[:, rows].T)

    @classmethod
    def from_records(cls, rows: Sequence[Mapping[str, Any]]) -> OutcomeCalibration:
        """From what `records` made of it."""
        events = np.array([row["event"] for row in rows], bool) if rows and rows[0]["event"] is not None else None
        return cls(
            np.array([row["value"] for row in rows], np.float64),
            events,
            np.array([row["left_out"] for row in rows], np.float64),
            np.array([row["models"] for row in rows], np.int64),
        )

    def records(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """As JSON, a record per patient."""
        events = [None] * len(self.values) if self.events is None else self.events.tolist()
        columns = self.values.tolist(), events, self.left_out.tolist(), self.models.tolist()
        return [
            {"patient": name, "value": value, "event": event, "left_out": left_out, "models": models}
            for name, value, event, left_out, models in zip(names, *columns, strict=True)
        ]

    def _of_patients(self, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the models that had not seen each training patient say of new ones, ``(n_patients, n_new)``."""
        return np.asarray(np.mean([predicted[models] for models in self.models.T], axis=0))

    def intervals(self, predicted: NDArray[np.float64], coverage: float) -> NDArray[np.float64]:
        """Ends of the interval of each new patient's number, ``(n_new, 2)``.

        Parameters
        ----------
        predicted
            Of new patients by every model, ``(n_models, n_new)``.
        coverage
            Nominal coverage, 1 - alpha.

        Returns
        -------
        The quantile alpha of prediction - error and the quantile 1 - alpha of prediction + error over the training patients,
        at the places alpha (n + 1) and (1 - alpha) (n + 1) of the ordered values, interpolated. Infinite where alpha (n + 1)
        is below 1: so few patients cannot say it.
        """
        alpha = error_rate(coverage)
        if alpha * (len(self.values) + 1) < 1:
            return np.tile([-np.inf, np.inf], (predicted.shape[1], 1))
        error = np.abs(self.values - self.left_out)[:, None]
        centre = self._of_patients(predicted)
        low = np.quantile(centre - error, alpha, axis=0, method="weibull")
        high = np.quantile(centre + error, 1 - alpha, axis=0, method="weibull")
        return np.stack([low, high], axis=1)

    def riskier_than(self, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the training patients with a smaller hazard than each new one, both by models that had not seen the
        training patient; equal ones count half. ``(n_new,)``, of predictions as for `intervals`.
        """
        own, others = self._of_patients(predicted), self.left_out[:, None]
        return np.asarray(((own > others) + 0.5 * (own == others)).mean(axis=0))

    def thirds(self) -> list[dict[str, Any]]:
        """What happened to each third of the training patients by their left-out risk: `survival` of each."""
        if self.events is None:
            raise ValueError("numbers have no risk")
        order = np.argsort(self.left_out, kind="stable")
        times = np.quantile(self.values[self.events], (0.25, 0.5, 0.75), method="inverted_cdf").tolist()
        return [
            {"third": name, **survival(self.values[rows], self.events[rows], times)}
            for name, rows in zip(THIRDS, np.array_split(order, len(THIRDS)), strict=True)
        ]


def third_of(share: float) -> str:
    """The third of `THIRDS` in which a patient is who has more risk than a share of the training patients.

    Examples
    --------
    >>> third_of(0.1) == THIRDS[0]
    True
    """
    return THIRDS[min(int(share * len(THIRDS)), len(THIRDS) - 1)]


def survival(values: NDArray[np.float64], events: NDArray[np.bool_], times: Sequence[float]) -> dict[str, Any]:
    """Patients, events, median time and the share without event after some times, with 95 % intervals (Kaplan and Meier;
    Greenwood's variance on the scale log(-log)). None where it is not known.
    """
    curve = ecdf(CensoredData.right_censored(values, ~events)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # at 0 and 1 there is no interval
        ends = curve.confidence_interval(0.95, method="log-log") if events.any() else None
    reached = np.flatnonzero(curve.probabilities <= 0.5)
    return {
        "patients": len(values),
        "events": int(events.sum()),
        "median": float(curve.quantiles[reached[0]]) if len(reached) else None,
        "without_event": [
            {
                "time": time,
                "share": float(curve.evaluate(time)),
                "low": _known(ends.low.evaluate(time)) if ends else None,
                "high": _known(ends.high.evaluate(time)) if ends else None,
            }
            for time in times
        ],
    }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def left_out_intervals(
    outcome: Outcome,
    folds: Folds,
    products: Products,
    config: ClassifyConfig,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Intervals of the patients of each fold of the first division, of models and errors of the other folds alone.

    The patients of the other folds are divided in their turn, as often as all were; see
    `cytosae.cohort.left_out_p_values`.

    Returns
    -------
    Rows that are in a fold, ``(n,)``, and the ends of their intervals, ``(n, 2)``.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    row_folds = folds.row_folds[0]
    ends = np.full((len(row_folds), 2), np.nan)
    owners = np.arange(len(row_folds))[None]
    for done, fold in enumerate(np.unique(row_folds[row_folds >= 0]), 1):
        test = row_folds == fold
        inner = _inner_folds(outcome, folds, ~test, config)
        predicted = np.empty((len(inner.splits), len(test)))
        for model, (repeat, number) in enumerate(inner.splits):
            divided = inner.row_folds[repeat]
            train = ~test & (divided != number)
            given = divided if folds.from_column else None
            (choice,) = choose_outcome(outcome, products, train, owners, config, config.seed + repeat, given)
            product = products.scaled(choice.representation, train)
            models = fitted(outcome, product[np.ix_(train, train)], owners[:, train], (choice.strength,))
            predicted[model] = models.predictions(product[:, train])[0, 0]
        of_rows = inner.row_models
        unseen = np.take_along_axis(predicted, np.maximum(of_rows, 0), axis=0)
        calibration = OutcomeCalibration.from_predictions(outcome, unseen, of_rows)
        ends[test] = calibration.intervals(predicted[:, test], config.coverage)
        progress(done)
    rows = np.flatnonzero(row_folds >= 0)
    return rows, ends[rows]


def _inner_folds(outcome: Outcome, folds: Folds, train: NDArray[np.bool_], config: ClassifyConfig) -> Folds:
    """Folds of the training rows, drawn as often as those of all, or those of the column; other rows have none."""
    rows = np.flatnonzero(train)
    given = folds.row_folds[0][rows]
    inner = np.full((folds.n_repeats, len(train)), -1)
    if folds.from_column and len(np.unique(given[given >= 0])) > 1:
        inner[:, rows] = given
    else:
        patients = [outcome.patients[row] for row in rows]
        drawn = stratified_folds(outcome.groups(rows), patients, config.splits, folds.n_repeats, config.seed)
        inner[:, rows] = drawn.row_folds
    return Folds(inner, folds.names, "inside the training patients")


def interval_figures(
    outcome: Outcome, rows: NDArray[np.int64], ends: NDArray[np.float64], config: ClassifyConfig
) -> dict[str, Any]:
    """Coverage of the intervals of left-out rows, with its interval over patients, and their median width.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    values = outcome.values[rows]
    inside = ((values >= ends[:, 0]) & (values <= ends[:, 1])).astype(float)
    weights = bootstrap_weights(outcome.units[rows], config.bootstrap, config.seed)
    coverage = Estimate.from_draws(inside.mean(), (weights @ inside) / np.maximum(weights.sum(axis=1), 1))
    return {
        "nominal": config.coverage,
        "coverage": coverage.value,
        "low": coverage.low,
        "high": coverage.high,
        "median_width": _known(float(np.median(ends[:, 1] - ends[:, 0]))),
    }
