"""Do barcodes predict the diagnosis, and do they predict it better than the baselines?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.artefacts import FileRecord, Manifest, claim, remove_outdated, sha256_file, write_csv, write_json
from cytosae.cohort import (
    PAPER_THRESHOLD,
    Bags,
    Choice,
    Chosen,
    ClassificationTask,
    Classifier,
    Folds,
    Predictions,
    Products,
    Sweep,
    as_records,
    candidates,
    choose,
    chosen_predictions,
    classification_task,
    cohort_warnings,
    colour_histograms,
    conformal_figures,
    cross_validate,
    figures,
    given_folds,
    method_table,
    patient_column,
    patient_tokens,
    predict_bags,
    read_barcodes,
    rows_of_cells,
    stratified_folds,
    strongest,
    sweep,
    trained,
    weighted_f1,
    write_classifiers,
)
from cytosae.console import progress, say
from cytosae.report import calibration_figure, confusion_figure, figure_files, method_figure, save, threshold_sweep
from cytosae.settings import ClassifyConfig, to_stored
from cytosae.tokens import TokenStore

OURS = "barcodes"
PAPERS = f"barcodes, threshold {PAPER_THRESHOLD:g} (paper)"
TABLE, PREDICTIONS, MODELS, RESULT = "methods.csv", "predictions.csv", "models.safetensors", "classification.json"
_FIGURES = ("sweep", "methods", "confusion", "calibration")
CARRYING = 10
"""Concepts listed for each prediction."""


def classify(
    path: Path,
    folder: Path,
    config: ClassifyConfig | None = None,
    *,
    target: str = "diagnosis",
    tokens: Path | None = None,
    folds: str | None = None,
    leave_out: str | None = None,
    cell_type: str | None = None,
) -> dict[str, Any]:
    """Classify patients by their barcodes, beside the baselines, in the same folds.

    Parameters
    ----------
    path
        Barcodes, of `cytosae.cohort.make_barcodes`.
    folder
        Where the result goes: ``classification.json``, the table of methods, a prediction for every patient with
        the concepts that carry it, the classifiers and four figures.
    config
        Settings.
    target
        Column to predict.
    tokens
        Tokens of the cells, for the baselines that are made of them.
    folds
        Column with the fold of each patient; drawn if None.
    leave_out
        Column (laboratory) of which one value after the other is left out, as a second figure beside the first.
    cell_type
        Cell type to use, if the barcodes are by cell type.

    Raises
    ------
    CytosaeError
        No such column, a patient in two folds, fewer than two classes with two patients each.
    """
    config = config or ClassifyConfig()
    data = read_barcodes(path, cell_type)
    patient_column(data, target)
    warnings = cohort_warnings(data, target, config.seed)
    for warning in warnings:
        say(f"{warning.kind}: {warning.text}")
    task = classification_task(data, target)
    divisions = [_divide(task, config, folds)]
    if leave_out is not None:
        divisions.append(given_folds(patient_column(task.data, leave_out), task.target, task.patients, leave_out))
    caveats = [*task.caveats, *(caveat for folds in divisions for caveat in folds.caveats)]
    for caveat in caveats:
        say(f"classification: {caveat}")
    drawn = [name for figure in _FIGURES for name in figure_files(figure)]
    names = [TABLE, PREDICTIONS, MODELS, RESULT, *drawn]
    claim(folder, "classification", names, unnamed=drawn)
    source = None if tokens is None else TokenStore(tokens)
    described = None if source is None else patient_tokens(source, task.data)
    baselines = {} if described is None else dict(described.pooled())
    if source is not None:
        colours = colour_histograms(source.cells, rows_of_cells(source.cells, task.data), task.data.n_obs)
        baselines |= {} if colours is None else {"colour histogram": colours}
    if "cell_types" in task.data.obsm:
        baselines["cell-type fractions"] = np.nan_to_num(task.data.obsm["cell_types"])
    products = Products.from_barcodes(task, candidates(config))
    (chosen, swept, methods), *others = [
        _cross_validate(
            task,
            folds,
            products,
            baselines,
            None if described is None else described.bags,
            config,
            config.permutations if index == 0 else 0,
        )
        for index, folds in enumerate(divisions)
    ]
    with progress("conformal sets", len(divisions[0].names), "folds") as bar:
        conformal = conformal_figures(task, divisions[0], products, chosen.predictions, config, bar.to)
    row_folds = divisions[0].row_folds[0]
    everyone = np.ones(len(row_folds), bool)
    choices = [*choose(task, products, everyone, task.target[None], config, config.seed), *chosen.choices[0]]
    training = [everyone, *(row_folds != fold for fold in range(len(divisions[0].names)))]
    models = [trained(task, products, rows, choice) for rows, choice in zip(training, choices, strict=True)]
    result: dict[str, Any] = {
        "target": target,
        "patients": len(task.target),
        "classes": dict(zip(task.classes, np.bincount(task.target).tolist(), strict=True)),
        "folds": divisions[0].description,
        "warnings": [warning.as_dict() for warning in warnings],
        "caveats": caveats,
        "methods": as_records(method_table(methods, OURS, config)),
        "null": _null(chosen),
        "barcodes": figures(chosen.predictions, divisions[0], task.classes, config),
        "sweep": _sweep_rows(swept, config),
        "chosen": _chosen_records(chosen),
        "conformal": conformal,
        "cell_type": cell_type,
        "model": {
            "choices": [_choice_record(choice) for choice in choices],
            "rows": dict(zip(task.data.obs_names, row_folds.tolist(), strict=True)),
        },
    }
    for left_out, _, left_out_methods in others:
        result["left_out"] = {
            "column": leave_out,
            "folds": list(divisions[1].names),
            "methods": as_records(method_table(left_out_methods, OURS, config)),
            "barcodes": figures(left_out.predictions, divisions[1], task.classes, config),
            "chosen": _chosen_records(left_out),
        }
    _write(folder, path, task, chosen.predictions, models, row_folds, result, config)
    remove_outdated(folder, "classification", names)
    return result


def _divide(task: ClassificationTask, config: ClassifyConfig, column: str | None) -> Folds:
    if column is not None:
        return given_folds(patient_column(task.data, column), task.target, task.patients, column)
    return stratified_folds(task.target, task.patients, config.splits, config.repeats, config.seed)


def _cross_validate(
    task: ClassificationTask,
    folds: Folds,
    products: Products,
    baselines: Mapping[str, NDArray[np.floating]],
    bags: Bags | None,
    config: ClassifyConfig,
    permutations: int,
) -> tuple[Chosen, Sweep, dict[str, Predictions]]:
    """Barcodes, the paper's form of them, and the baselines in the same folds: other features, and the cells in bags."""
    with progress(f"classification ({folds.description})", len(folds.splits), "folds") as bar:
        chosen = chosen_predictions(task, folds, products, config, permutations=permutations, progress=bar.to)
    with progress("sweep of thresholds", len(folds.splits), "folds") as bar:
        swept = sweep(task, folds, config, bar.to)
    methods = {OURS: chosen.predictions, PAPERS: swept.at[config.thresholds.index(PAPER_THRESHOLD)]}

    for name, features in baselines.items():
        of_features = Products.from_features(features)
        methods[name] = chosen_predictions(task, folds, of_features, config).predictions
    if bags is not None:
        with progress("multiple-instance model", len(folds.splits), "folds") as bar:
            done = 0

            def predict(train: NDArray[np.bool_], test: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
                nonlocal done
                probability = predict_bags(bags, task.target, train, test, len(task.classes), seed)
                done += 1
                bar.to(done)
                return probability

            methods["attention over CLS tokens"] = cross_validate(predict, task, folds, config.seed)
    return chosen, swept, methods


def _choice_record(choice: Choice) -> dict[str, Any]:
    kind = choice.representation
    return {"features": kind.features, "transform": kind.transform, "strength": choice.strength}


def _chosen_records(chosen: Chosen) -> list[dict[str, Any]]:
    """Every choice and in how many folds it was made, most often first."""
    counts = Counter(choice for division in chosen.choices for choice in division)
    return [{**_choice_record(choice), "folds": n} for choice, n in sorted(counts.items(), key=lambda item: -item[1])]


def _null(chosen: Chosen) -> dict[str, Any] | None:
    if not len(chosen.null):
        return None
    low, high = np.quantile(chosen.null, (0.025, 0.975))
    (counts,) = chosen.predictions.first().confusions()
    return {
        "permutations": len(chosen.null),
        "mean": float(chosen.null.mean()),
        "low": float(low),
        "high": float(high),
        "p": float((1 + (chosen.null >= weighted_f1(counts)).sum()) / (1 + len(chosen.null))),
    }


def _sweep_rows(swept: Sweep, config: ClassifyConfig) -> list[dict[str, Any]]:
    rows = []
    for index, (threshold, predictions) in enumerate(zip(config.thresholds, swept.at, strict=True)):
        f1 = predictions.f1(config.bootstrap, config.seed)
        row = {"threshold": threshold, "latents": float(swept.n_latents[index])}
        row |= {"weighted_f1": f1.value, "low": f1.low, "high": f1.high}
        rows.append(row)
    return rows


def _predictions(
    task: ClassificationTask, predictions: Predictions, models: Sequence[Classifier], row_folds: NDArray[np.int64]
) -> pd.DataFrame:
    """The prediction of each patient in the first division, by the classifier that had not seen the patient, and the
    concepts that carry it.
    """
    rows = []
    for row, name in enumerate(task.data.obs_names):
        if row_folds[row] < 0:
            continue
        model, probability = models[1 + row_folds[row]], predictions.probability[0, row]
        predicted = task.classes[int(probability.argmax())]
        contributions = model.concept_contributions(model.representation.values(task.data[[row]])[0], predicted)
        rows.append(
            {
                "patient": name,
                "truth": task.classes[task.target[row]],
                "predicted": predicted,
                **{f"p {c}": p for c, p in zip(task.classes, probability, strict=True)},
                "concepts": " ".join(f"{s}:{contributions[s]:.3g}" for s in strongest(contributions, CARRYING)),
            }
        )
    return pd.DataFrame(rows)


def _write(
    folder: Path,
    path: Path,
    task: ClassificationTask,
    predictions: Predictions,
    models: Sequence[Classifier],
    row_folds: NDArray[np.int64],
    result: Mapping[str, Any],
    config: ClassifyConfig,
) -> None:
    table = pd.DataFrame(result["methods"]).set_index("method")
    if "left_out" in result:
        left = pd.DataFrame(result["left_out"]["methods"]).set_index("method")
        table = table.join(left[["value", "low", "high"]].add_prefix("left_out_"))
    null = result["null"]
    band = None if null is None else (null["low"], null["high"])
    rows = pd.DataFrame(result["sweep"])
    drawn = {
        "sweep": threshold_sweep(
            *(rows[name].to_numpy() for name in ("threshold", "weighted_f1", "low", "high", "latents")),
            null=band,
            title=f"Predicting {result['target']}: which latents does it take?",
        ),
        "methods": method_figure(
            table,
            null=band,
            left_out=result.get("left_out", {}).get("column", ""),
            title=f"Predicting {result['target']} of unseen patients",
        ),
        "confusion": confusion_figure(
            np.array(result["barcodes"]["confusion"]), task.classes, title="Barcodes: truth and prediction"
        ),
        "calibration": calibration_figure(
            *_confidence(predictions), ece=result["barcodes"]["calibration"]["ece"], title="Barcodes: confidence"
        ),
    }
    for name, figure in drawn.items():
        save(figure, folder / name)
    write_csv(folder / TABLE, table, index=True)
    write_csv(folder / PREDICTIONS, _predictions(task, predictions, models, row_folds))
    write_classifiers(folder / MODELS, models)
    write_json(folder / RESULT, dict(result))
    outputs = {name: FileRecord.from_file(folder / name) for name in (TABLE, PREDICTIONS, MODELS, RESULT)}
    inputs = {"barcodes": sha256_file(path)}
    parameters = {**to_stored(config), "target": result["target"], "folds": result["folds"]}
    Manifest("classification", parameters, inputs, outputs, {"weighted_f1": result["barcodes"]["weighted_f1"]}).save(
        folder
    )


def _confidence(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    probability = predictions.probability[0, predictions.rows]
    return probability.max(axis=1), probability.argmax(axis=1) == predictions.target[predictions.rows]
