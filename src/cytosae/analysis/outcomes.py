"""Do barcodes predict a number, such as blasts in per cent, or the time to an event?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.analysis.baselines import baseline_features, check_untrained, untrained_features
from cytosae.analysis.classification_files import MODELS, OUTCOME
from cytosae.analysis.untrained_baseline import UNTRAINED
from cytosae.artefacts import (
    FileRecord,
    Manifest,
    claim,
    refuse_strangers,
    remove_outdated,
    sha256_file,
    write_csv,
    write_json,
)
from cytosae.cohort import (
    NUMBER,
    CohortWarning,
    LinearModel,
    Outcome,
    OutcomeCalibration,
    OutcomePredictions,
    Products,
    as_records,
    candidates,
    choice_record,
    choose_outcome,
    chosen_records,
    cohort_warnings,
    fold_column,
    given_folds,
    interval_figures,
    latent_weights,
    left_out_intervals,
    null_record,
    outcome_table,
    outcome_task,
    read_barcodes,
    restricted,
    trained_outcome,
    validated,
    write_models,
)
from cytosae.console import progress, say
from cytosae.report import figure_files, method_figure, outcome_figure, save
from cytosae.settings import ClassifyConfig, to_stored

OURS = "barcodes"
TABLE, PREDICTIONS, LATENT_WEIGHTS = "methods.csv", "predictions.csv", "latents.csv"
_DRAWN = tuple(name for figure in ("methods", "predicted") for name in figure_files(figure))
_SCORES = {"r_squared": "R2", "concordance": "concordance"}


def predict_outcome(
    path: Path,
    folder: Path,
    config: ClassifyConfig | None = None,
    *,
    target: str,
    event: str | None = None,
    tokens: Path | None = None,
    folds: str | None = None,
    cell_type: str | None = None,
    device: str = "auto",
    labels: Path | None = None,
) -> dict[str, Any]:
    """Predict a number, or the time to an event, by the patients' barcodes, beside the baselines, in the same folds.

    Numbers by ridge regression, times by Cox regression with an L2 penalty; representation and penalty are chosen inside
    the training patients.

    Parameters
    ----------
    path
        Barcodes.
    folder
        Where ``outcome.json``, the tables of methods, predictions and latents, the models and two figures go.
    config
        Settings; those of thresholds are not used.
    target
        Column with the number or the time.
    event
        Column that says whether the event was seen at that time.
    tokens, folds, cell_type, device, labels
        See `cytosae.analysis.classify`.

    Raises
    ------
    CytosaeError
        No such column, values that are no numbers, fewer than ten patients or events, a patient in two folds.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    config = config or ClassifyConfig()
    data = read_barcodes(path, cell_type)
    outcome = outcome_task(restricted(data, path, config.concepts), target, event)
    warnings = _warnings(outcome, target, event, config.seed)
    for warning in warnings:
        say(f"{warning.kind}: {warning.text}")
    division = outcome.folds(config)
    if folds is not None:
        column, title = fold_column(outcome.data, folds)
        division = given_folds(column, np.zeros(len(outcome.values), np.int64), outcome.patients, title)
    caveats = [*outcome.caveats, *division.caveats]
    for caveat in caveats:
        say(f"outcome: {caveat}")
    check_untrained(config, tokens)
    names = [TABLE, PREDICTIONS, LATENT_WEIGHTS, MODELS, OUTCOME, *_DRAWN, *([UNTRAINED] if config.untrained else [])]
    refuse_strangers(folder, "outcome", names)
    baselines, _ = baseline_features(tokens, outcome.data, labels)
    claim(folder, "outcome", names)  # once every input was read
    baselines |= untrained_features(tokens, outcome.data, folder, config, device)
    products = Products.from_barcodes(outcome.data, candidates(config))
    with progress(f"{target} ({division.description})", len(division.splits), "folds") as bar:
        ours = validated(outcome, division, products, config, permutations=config.permutations, progress=bar.to)
    methods = {OURS: ours}
    for name, features in baselines.items():
        methods[name] = validated(outcome, division, Products.from_features(features), config)
    table = outcome_table(methods, OURS, config)
    everyone, owners = np.ones(len(outcome.values), bool), np.arange(len(outcome.values))[None]
    choices = [*choose_outcome(outcome, products, everyone, owners, config, config.seed), *ours.choices]
    training = [everyone, *(division.row_folds[repeat] != fold for repeat, fold in division.splits)]
    models = [trained_outcome(outcome, products, rows, choice) for rows, choice in zip(training, choices, strict=True)]
    unseen = division.row_models
    calibration = OutcomeCalibration.from_predictions(outcome, ours.predicted, unseen)
    ends = np.full((len(outcome.values), 2), np.nan)
    intervals = None
    if outcome.kind == NUMBER:
        with progress("intervals", len(division.names), "folds") as bar:
            rows, ends_of_rows = left_out_intervals(outcome, division, products, config, bar.to)
        ends[rows] = ends_of_rows
        intervals = interval_figures(outcome, rows, ends_of_rows, config)
    result = {
        "target": target,
        "kind": outcome.kind,
        "event": event,
        "patients": len(outcome.values),
        "events": None if outcome.events is None else int(outcome.events.sum()),
        "folds": division.description,
        "warnings": [warning.as_dict() for warning in warnings],
        "caveats": caveats,
        "methods": as_records(table),
        "null": _null(ours),
        "chosen": chosen_records(ours.choices),
        "intervals": intervals,
        "thirds": calibration.thirds() if intervals is None else None,
        "calibration": calibration.records(list(outcome.data.obs_names[(unseen >= 0).all(axis=0)])),
        "cell_type": cell_type,
        "model": {
            "choices": [choice_record(choice) for choice in choices],
            "rows": dict(zip(outcome.data.obs_names, unseen[0].tolist(), strict=True)),
        },
    }
    _write(folder, path, ours, ends, table, models, result, config)
    remove_outdated(folder, "outcome", names)
    return result


def _warnings(outcome: Outcome, target: str, event: str | None, seed: int) -> list[CohortWarning]:
    """What else goes with the number, cut into fifths, or with the event."""
    data = ad.AnnData(outcome.data.X, outcome.data.obs.copy(), uns=outcome.data.uns)
    name = target if event is None else event
    data.obs[name] = outcome.groups(np.arange(len(outcome.values))).astype(str)
    if event is not None:
        data.obs = data.obs.drop(columns=target)
    return cohort_warnings(data, name, seed)


def _null(ours: OutcomePredictions) -> dict[str, Any] | None:
    own = OutcomePredictions(ours.predicted[:1], ours.outcome).scores(20, 0)
    return null_record(ours.null, next(iter(own.values())).value)


def _write(
    folder: Path,
    path: Path,
    ours: OutcomePredictions,
    ends: NDArray[np.float64],
    table: pd.DataFrame,
    models: Sequence[LinearModel],
    result: dict[str, Any],
    config: ClassifyConfig,
) -> None:
    outcome, target = ours.outcome, result["target"]
    null = result["null"]
    score = str(table["score"].iloc[0])
    chance = 0.0 if outcome.kind == NUMBER else 0.5
    figure = method_figure(
        table,
        chance=chance,
        null=None if null is None else (null["low"], null["high"]),
        score=_SCORES[score],
        title=f"Predicting {target} of unseen patients",
    )
    save(figure, folder / "methods")
    save(outcome_figure(ours.predicted[0], outcome.values, outcome.events, name=target), folder / "predicted")
    predictions = pd.DataFrame({"patient": outcome.data.obs_names, target: outcome.values})
    if outcome.events is not None:
        predictions[result["event"]] = outcome.events
    if outcome.kind == NUMBER:
        predictions = predictions.assign(predicted=ours.predicted[0], low=ends[:, 0], high=ends[:, 1])
    else:
        predictions["log relative hazard"] = ours.predicted[0]
    write_csv(folder / TABLE, table, index=True)
    write_csv(folder / PREDICTIONS, predictions)
    write_csv(folder / LATENT_WEIGHTS, latent_weights(outcome, models[0]), index=True)
    write_models(folder / MODELS, models)
    write_json(folder / OUTCOME, result)
    written = [
        name for name in (TABLE, PREDICTIONS, LATENT_WEIGHTS, MODELS, OUTCOME, UNTRAINED) if (folder / name).is_file()
    ]
    outputs = {name: FileRecord.from_file(folder / name) for name in written}
    parameters = {**to_stored(config), **{name: result[name] for name in ("target", "event", "folds")}}
    summary = {score: result["methods"][0]["value"]}
    Manifest("outcome", parameters, {"barcodes": sha256_file(path)}, outputs, summary).save(folder)
