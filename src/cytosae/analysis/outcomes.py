"""Do barcodes predict a number, such as blasts in per cent, or the time to an event?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from cytosae.analysis.baselines import baseline_features, check_untrained, untrained_features
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
    Outcome,
    OutcomePredictions,
    Products,
    as_records,
    candidates,
    chosen_records,
    cohort_warnings,
    fold_column,
    given_folds,
    latent_weights,
    null_record,
    outcome_table,
    outcome_task,
    read_barcodes,
    restricted,
    validated,
)
from cytosae.console import progress, say
from cytosae.report import figure_files, method_figure, outcome_figure, save
from cytosae.settings import ClassifyConfig, to_stored

OURS = "barcodes"
TABLE, PREDICTIONS, LATENTS, RESULT = "methods.csv", "predictions.csv", "latents.csv", "outcome.json"
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
        Where ``outcome.json``, the tables of methods, predictions and latents, and two figures go.
    config
        Settings; those of conformal sets and thresholds are not used.
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
    names = [TABLE, PREDICTIONS, LATENTS, RESULT, *_DRAWN, *([UNTRAINED] if config.untrained else [])]
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
    latents = latent_weights(outcome, products, config)
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
        "cell_type": cell_type,
    }
    _write(folder, path, ours, table, latents, result, config)
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
    table: pd.DataFrame,
    latents: pd.DataFrame,
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
    predictions["predicted" if outcome.kind == NUMBER else "log relative hazard"] = ours.predicted[0]
    write_csv(folder / TABLE, table, index=True)
    write_csv(folder / PREDICTIONS, predictions)
    write_csv(folder / LATENTS, latents, index=True)
    write_json(folder / RESULT, result)
    written = [name for name in (TABLE, PREDICTIONS, LATENTS, RESULT, UNTRAINED) if (folder / name).is_file()]
    outputs = {name: FileRecord.from_file(folder / name) for name in written}
    parameters = {**to_stored(config), **{name: result[name] for name in ("target", "event", "folds")}}
    summary = {score: result["methods"][0]["value"]}
    Manifest("outcome", parameters, {"barcodes": sha256_file(path)}, outputs, summary).save(folder)
