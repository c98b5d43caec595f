"""Do barcodes predict the diagnosis, and do they predict it better than the baselines?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.analysis.baselines import bag_models, baseline_features, check_untrained, untrained_features
from cytosae.analysis.classification_files import (
    DRAWN,
    MODELS,
    PREDICTIONS,
    RESULT,
    SHORT_MODEL,
    SPARSITY,
    TABLE,
    write_classification,
)
from cytosae.analysis.untrained_baseline import UNTRAINED
from cytosae.artefacts import claim, refuse_strangers, remove_outdated, write_csv
from cytosae.cohort import (
    PAPER_THRESHOLD,
    Bags,
    Chosen,
    ClassificationTask,
    Folds,
    Predictions,
    Predictor,
    Products,
    Sweep,
    as_records,
    candidates,
    choice_record,
    choose,
    chosen_predictions,
    chosen_records,
    classification_task,
    cohort_warnings,
    conformal_figures,
    cross_validate,
    figures,
    fit_short,
    fold_column,
    given_folds,
    method_table,
    null_record,
    patient_column,
    predict_bags,
    predict_short,
    read_barcodes,
    restricted,
    short_table,
    sparsity_curve,
    sparsity_rows,
    stratified_folds,
    sweep,
    trained,
    weighted_f1,
)
from cytosae.concepts import TAUGHT, latent_called, read_names
from cytosae.console import progress, say
from cytosae.report import figure_files
from cytosae.settings import ClassifyConfig

OURS = "barcodes"
SHORT = "short model (elastic net)"
PAPERS = f"barcodes, threshold {PAPER_THRESHOLD:g} (paper)"


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
    device: str = "auto",
    labels: Path | None = None,
    centre: str | None = None,
    without: Sequence[str] = (),
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
        Column with the fold of each patient, or a file or folder of folds (`cytosae.cohort.fold_column`); drawn if None.
    leave_out
        Column (laboratory) of which one value after the other is left out, as a second figure beside the first.
    cell_type
        Cell type to use, if the barcodes are by cell type.
    device
        Where an untrained backbone runs, if the settings ask for one.
    labels
        Table of `cytosae label`, for predicted fractions of the cell types as a baseline.
    centre
        Column (laboratory) whose values' mean barcode is taken from those of its patients, as one more method. Where a
        laboratory is left out this needs the barcodes of its unlabelled patients (transductive).
    without
        Numbers or names of concepts that are struck out.

    Raises
    ------
    CytosaeError
        No such column, a patient in two folds, fewer than two classes with two patients each.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    config = config or ClassifyConfig()
    data = read_barcodes(path, cell_type)
    patient_column(data, target)
    warnings = cohort_warnings(data, target, config.seed)
    for warning in warnings:
        say(f"{warning.kind}: {warning.text}")
    whole = classification_task(data, target)
    names_of_study = (
        read_names(study) if without and (study := path.absolute().parent.parent / "concepts").is_dir() else {}
    )
    struck = sorted({latent_called(text, names_of_study, whole.data.n_vars) for text in without})
    task = replace(whole, data=restricted(whole.data, path, config.concepts, struck))
    divisions = [_divide(task, config, folds)]
    if leave_out is not None:
        divisions.append(given_folds(patient_column(task.data, leave_out), task.target, task.patients, leave_out))
    caveats = [*task.caveats, *(caveat for folds in divisions for caveat in folds.caveats)]
    for caveat in caveats:
        say(f"classification: {caveat}")
    check_untrained(config, tokens)
    wanted = {UNTRAINED: config.untrained, **dict.fromkeys((SHORT_MODEL, SPARSITY), config.short)}
    drawn = [name for name in DRAWN if config.short or name not in figure_files("sparsity")]
    names = [TABLE, PREDICTIONS, MODELS, RESULT, *drawn, *(name for name, asked in wanted.items() if asked)]
    refuse_strangers(folder, "classification", names, unnamed=DRAWN)
    other_barcodes = _other_barcodes(whole, task, path, config, centre, struck)
    features, bags = baseline_features(tokens, task.data, labels)
    in_bags = bag_models(bags, task.data, path, config)
    claim(folder, "classification", names, unnamed=DRAWN)  # once every input was read
    features |= untrained_features(tokens, task.data, folder, config, device)
    products = Products.from_barcodes(task.data, candidates(config))
    baselines = {name: Products.from_features(values) for name, values in features.items()} | other_barcodes
    (chosen, swept, methods), *others = [
        _cross_validate(
            task,
            whole,
            folds,
            products,
            baselines,
            in_bags,
            config,
            config.permutations if index == 0 else 0,
        )
        for index, folds in enumerate(divisions)
    ]
    with progress("conformal sets", len(divisions[0].names), "folds") as bar:
        conformal = conformal_figures(task, divisions[0], products, chosen.predictions, config, bar.to)
    division = divisions[0]
    everyone = np.ones(len(task.target), bool)
    of_folds = [choice for choices in chosen.choices for choice in choices]
    choices = [*choose(task, products, everyone, task.target[None], config, config.seed), *of_folds]
    training = [everyone, *(division.row_folds[repeat] != fold for repeat, fold in division.splits)]
    models = [trained(task, products, rows, choice) for rows, choice in zip(training, choices, strict=True)]
    unseen = division.row_models[0]
    result: dict[str, Any] = {
        "target": target,
        "patients": len(task.target),
        "classes": dict(zip(task.classes, np.bincount(task.target).tolist(), strict=True)),
        "folds": division.description,
        "warnings": [warning.as_dict() for warning in warnings],
        "caveats": caveats,
        "methods": as_records(method_table(methods, OURS, config)),
        "null": _null(chosen),
        "barcodes": figures(chosen.predictions, division, task.classes, config),
        "abstention": chosen.predictions.first().abstention(config.bootstrap, config.seed),
        "sweep": _sweep_rows(swept, config),
        "chosen": chosen_records(of_folds),
        "conformal": conformal,
        "concepts": {
            "allowed": config.concepts,
            "without": struck,
            "latents": int(np.ptp(task.barcodes, axis=0).astype(bool).sum()),
        },
        "cell_type": cell_type,
        "model": {
            "choices": [choice_record(choice) for choice in choices],
            "rows": dict(zip(task.data.obs_names, unseen.tolist(), strict=True)),
        },
    }
    for left_out, _, left_out_methods in others:
        result["left_out"] = {
            "column": leave_out,
            "folds": list(divisions[1].names),
            "methods": as_records(method_table(left_out_methods, OURS, config)),
            "barcodes": figures(left_out.predictions, divisions[1], task.classes, config),
            "chosen": chosen_records(choice for division in left_out.choices for choice in division),
        }
    if config.short:
        with progress("models of few concepts", len(divisions[0].names), "folds") as bar:
            result["sparsity"] = sparsity_rows(sparsity_curve(task, division, config.seed, bar.to), config)
        write_csv(folder / SHORT_MODEL, short_table(fit_short(task, config.seed), task), index=True)
    write_classification(folder, path, task, chosen.predictions, models, unseen, result, config)
    remove_outdated(folder, "classification", names)
    return result


def _other_barcodes(
    whole: ClassificationTask,
    task: ClassificationTask,
    path: Path,
    config: ClassifyConfig,
    centre: str | None,
    struck: Sequence[int],
) -> dict[str, Products]:
    """Barcodes of taught concepts alone and without them, where there are any, and centred by laboratory, if asked for."""
    kinds, others = candidates(config), {}
    if TAUGHT in whole.data.var:
        left = np.delete(whole.data.var[TAUGHT].notna().to_numpy(), struck)
        for name, some in (("taught", left), ("untaught", ~left)):
            if name != config.concepts and some.any():
                data = restricted(whole.data, path, name, struck)
                others[f"{OURS}, {name} concepts alone"] = Products.from_barcodes(data, kinds)
    if centre is not None:
        column = patient_column(task.data, centre)
        others[f"{OURS}, centred by {centre}"] = Products.from_barcodes(task.data, kinds, column)
    return others


def _divide(task: ClassificationTask, config: ClassifyConfig, column: str | None) -> Folds:
    if column is not None:
        values, title = fold_column(task.data, column)
        return given_folds(values, task.target, task.patients, title)
    return stratified_folds(task.target, task.patients, config.splits, config.repeats, config.seed)


def _cross_validate(
    task: ClassificationTask,
    whole: ClassificationTask,
    folds: Folds,
    products: Products,
    baselines: Mapping[str, Products],
    in_bags: Mapping[str, tuple[Bags, str]],
    config: ClassifyConfig,
    permutations: int,
) -> tuple[Chosen, Sweep, dict[str, Predictions]]:
    """Barcodes, the paper's form of them (of all latents, in `whole`), and the baselines in the same folds."""
    with progress(f"classification ({folds.description})", len(folds.splits), "folds") as bar:
        chosen = chosen_predictions(task, folds, products, config, permutations=permutations, progress=bar.to)
    with progress("sweep of thresholds", len(folds.splits), "folds") as bar:
        swept = sweep(whole, folds, config, bar.to)
    methods = {OURS: chosen.predictions, PAPERS: swept.at[config.thresholds.index(PAPER_THRESHOLD)]}

    for name, of_baseline in baselines.items():
        methods[name] = chosen_predictions(task, folds, of_baseline, config).predictions
    others: dict[str, tuple[str, Predictor]] = {}
    if config.short:
        others[SHORT] = "short model", partial(predict_short, task)
    for name, (cells, kind) in in_bags.items():
        others[name] = f"multiple-instance model, {name}", _of_bags(task, cells, kind)
    for name, (title, predictor) in others.items():
        with progress(title, len(folds.splits), "folds") as bar:
            methods[name] = cross_validate(predictor, task, folds, config.seed, bar.to)
    return chosen, swept, methods


def _of_bags(task: ClassificationTask, bags: Bags, kind: str) -> Predictor:
    def predict(train: NDArray[np.bool_], test: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
        return predict_bags(bags, task.target, train, test, len(task.classes), seed, kind)

    return predict


def _null(chosen: Chosen) -> dict[str, Any] | None:
    (counts,) = chosen.predictions.first().confusions()
    return null_record(chosen.null, float(weighted_f1(counts)))


def _sweep_rows(swept: Sweep, config: ClassifyConfig) -> list[dict[str, Any]]:
    rows = []
    for index, (threshold, predictions) in enumerate(zip(config.thresholds, swept.at, strict=True)):
        f1 = predictions.f1(config.bootstrap, config.seed)
        row = {"threshold": threshold, "latents": float(swept.n_latents[index])}
        row |= {"weighted_f1": f1.value, "low": f1.low, "high": f1.high}
        rows.append(row)
    return rows
