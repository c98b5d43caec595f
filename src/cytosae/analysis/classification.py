"""Can the diagnosis be told from the barcodes, and is it told better than by simpler means?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.artefacts import FileRecord, Manifest, claim, sha256_file, write_csv, write_json
from cytosae.cohort import (
    PAPER_THRESHOLD,
    Classifier,
    Folds,
    Judged,
    PatientTokens,
    Problem,
    Sweep,
    choose_threshold,
    column_of,
    contender_table,
    examine,
    figures,
    given_folds,
    judge_bags,
    judged_by,
    linear_judge,
    patient_tokens,
    pose,
    read_barcodes,
    stratified_folds,
    sweep,
    trained,
    write_classifiers,
)
from cytosae.console import progress, say
from cytosae.report import calibration_figure, confusion_figure, contender_figure, files_of, save, threshold_sweep
from cytosae.settings import ClassifyConfig, to_stored
from cytosae.tokens import TokenStore

OURS = "barcodes, threshold chosen in training"
PAPERS = f"barcodes, threshold {PAPER_THRESHOLD:g} (paper)"
TABLE, PREDICTIONS, MODELS, RESULT = "contenders.csv", "predictions.csv", "models.safetensors", "classification.json"
_FIGURES = ("sweep", "contenders", "confusion", "calibration")
_CARRYING = 10  # concepts told for each prediction


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
    """Classify patients by their barcodes, beside simpler means, in the same folds.

    Parameters
    ----------
    path
        Barcodes, of `cytosae.cohort.make_barcodes`.
    folder
        Where the result goes: ``classification.json``, the table of contenders, a prediction for every patient with
        the concepts that carry it, the classifiers and four figures.
    config
        Settings.
    target
        Column to tell.
    tokens
        Tokens of the cells, for the contenders that are made of them.
    folds
        Column with the fold of each patient; drawn if None.
    leave_out
        Column (laboratory) of which one value after the other is left out, as a second figure beside the first.
    cell_type
        Where there are barcodes of each cell type, the one to take.

    Raises
    ------
    CytosaeError
        No such column, a patient in two folds, fewer than two classes with two patients each.
    """
    config = config or ClassifyConfig()
    data = read_barcodes(path, cell_type)
    column_of(data, target)
    findings = examine(data, target, config.seed)
    for finding in findings:
        say(f"{finding.kind}: {finding.text}")
    problem = pose(data, target)
    divided = [_divide(problem, config, folds)]
    if leave_out is not None:
        divided.append(given_folds(column_of(problem.data, leave_out), problem.target, problem.patients, leave_out))
    caveats = [*problem.caveats, *(caveat for folds in divided for caveat in folds.caveats)]
    for caveat in caveats:
        say(f"classification: {caveat}")
    drawn = [name for figure in _FIGURES for name in files_of(figure)]
    claim(folder, "classification", [TABLE, PREDICTIONS, MODELS, RESULT, *drawn], unnamed=drawn)
    source = None if tokens is None else TokenStore(tokens)
    described = None if source is None else patient_tokens(source, problem.data)
    found = [_contend(problem, folds, described, config, null=place == 0) for place, folds in enumerate(divided)]
    swept, contenders = found[0]
    threshold = choose_threshold(problem, config)
    of = divided[0].of[0]
    models = [trained(problem, np.ones(len(of), bool), threshold)]
    models += [trained(problem, of != f, swept.choice[0, f]) for f in range(len(divided[0].names))]
    result: dict[str, Any] = {
        "target": target,
        "patients": len(problem.target),
        "classes": dict(zip(problem.classes, np.bincount(problem.target).tolist(), strict=True)),
        "folds": divided[0].what,
        "findings": [finding.as_dict() for finding in findings],
        "caveats": caveats,
        "contenders": _records(contender_table(contenders, OURS, config)),
        "null": _null(swept),
        "barcodes": figures(swept.chosen, divided[0], problem.classes, config),
        "sweep": _sweep_rows(swept, config),
        "chosen_thresholds": {f"{t:g}": n for t, n in sorted(Counter(swept.choice.ravel().tolist()).items())},
        "model": {
            "threshold": threshold,
            "latents": int((models[0].weights != 0).any(axis=0).sum()),
            "rows": dict(zip(problem.data.obs_names, of.tolist(), strict=True)),
        },
    }
    if leave_out is not None:
        left, others = found[1]
        result["left_out"] = {
            "column": leave_out,
            "folds": list(divided[1].names),
            "contenders": _records(contender_table(others, OURS, config)),
            "barcodes": figures(left.chosen, divided[1], problem.classes, config),
        }
    _write(folder, path, problem, swept, models, of, result, config)
    return result


def _divide(problem: Problem, config: ClassifyConfig, column: str | None) -> Folds:
    if column is not None:
        return given_folds(column_of(problem.data, column), problem.target, problem.patients, column)
    return stratified_folds(problem.target, problem.patients, config.splits, config.repeats, config.seed)


def _contend(
    problem: Problem, folds: Folds, tokens: PatientTokens | None, config: ClassifyConfig, *, null: bool
) -> tuple[Sweep, dict[str, Judged]]:
    """Barcodes and everything else in the same folds."""
    total = sum(len(np.unique(of[of >= 0])) for of in folds.of)
    settings = config if null else ClassifyConfig(**{**asdict(config), "permutations": 0})
    with progress(f"classification ({folds.what})", total, "folds") as bar:
        swept = sweep(problem, folds, settings, bar.to)
    contenders = {OURS: swept.chosen}
    if PAPER_THRESHOLD in config.thresholds:
        contenders[PAPERS] = swept.at[config.thresholds.index(PAPER_THRESHOLD)]
    if tokens is not None:
        contenders["mean CLS token"] = judged_by(linear_judge(tokens.cls, problem), problem, folds)
        contenders["mean patch token"] = judged_by(linear_judge(tokens.patches, problem), problem, folds)
        with progress("multiple-instance model", total, "folds") as bar:
            done = 0

            def judge(train: NDArray[np.bool_], judged: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
                nonlocal done
                said = judge_bags(tokens.bags, problem.target, train, judged, len(problem.classes), seed)
                done += 1
                bar.to(done)
                return said

            contenders["attention over CLS tokens"] = judged_by(judge, problem, folds, config.seed)
    if "cell_types" in problem.data.obsm:
        shares = np.nan_to_num(problem.data.obsm["cell_types"])
        contenders["cell-type fractions"] = judged_by(linear_judge(shares, problem), problem, folds)
    return swept, contenders


def _null(swept: Sweep) -> dict[str, Any] | None:
    if not len(swept.null):
        return None
    low, high = np.quantile(swept.null, (0.025, 0.975))
    first = Judged(swept.chosen.probability[:1], swept.chosen.target, swept.chosen.units).f1(0, 0).value
    return {
        "permutations": len(swept.null),
        "mean": float(swept.null.mean()),
        "low": float(low),
        "high": float(high),
        "p": float((1 + (swept.null >= first).sum()) / (1 + len(swept.null))),
    }


def _sweep_rows(swept: Sweep, config: ClassifyConfig) -> list[dict[str, Any]]:
    rows = []
    for place, (threshold, judged) in enumerate(zip(config.thresholds, swept.at, strict=True)):
        f1 = judged.f1(config.bootstrap, config.seed)
        row = {"threshold": threshold, "latents": float(swept.kept[place])}
        row |= {"weighted_f1": f1.value, "low": f1.low, "high": f1.high}
        if len(swept.null):
            row |= {"null_mean": float(swept.null_at[:, place].mean())}
        rows.append(row)
    return rows


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.reset_index().to_dict("records")]


def _predictions(problem: Problem, swept: Sweep, models: list[Classifier], of: NDArray[np.int64]) -> pd.DataFrame:
    """What was said of each patient, and the concepts that carry it in the classifier that had not seen the patient."""
    probability = swept.chosen.probability.mean(axis=0)
    rows = []
    for row, name in enumerate(problem.data.obs_names):
        if of[row] < 0:
            continue
        said = int(probability[row].argmax())
        parts = models[1 + of[row]].concept_contributions(problem.barcodes[row], problem.classes[said])
        strongest = np.argsort(-parts, kind="stable")[:_CARRYING]
        rows.append(
            {
                "patient": name,
                "truth": problem.classes[problem.target[row]],
                "predicted": problem.classes[said],
                **{f"p {c}": p for c, p in zip(problem.classes, probability[row], strict=True)},
                "concepts": " ".join(f"{s}:{parts[s]:.3g}" for s in strongest if parts[s] > 0),
            }
        )
    return pd.DataFrame(rows)


def _write(
    folder: Path,
    path: Path,
    problem: Problem,
    swept: Sweep,
    models: list[Classifier],
    of: NDArray[np.int64],
    result: Mapping[str, Any],
    config: ClassifyConfig,
) -> None:
    table = pd.DataFrame(result["contenders"]).set_index("contender")
    if "left_out" in result:
        left = pd.DataFrame(result["left_out"]["contenders"]).set_index("contender")
        table = table.join(left[["value", "low", "high"]].add_prefix("left_out_"))
    null = result["null"]
    band = None if null is None else (null["low"], null["high"])
    rows = pd.DataFrame(result["sweep"])
    common = Counter(swept.choice.ravel().tolist()).most_common(1)[0][0]
    drawn = {
        "sweep": threshold_sweep(
            *(rows[name].to_numpy() for name in ("threshold", "weighted_f1", "low", "high", "latents")),
            null=band,
            chosen=common,
            title=f"Telling {result['target']}: which latents does it take?",
        ),
        "contenders": contender_figure(
            table,
            null=band,
            left_out=result.get("left_out", {}).get("column", ""),
            title=f"Telling {result['target']} of unseen patients",
        ),
        "confusion": confusion_figure(
            np.array(result["barcodes"]["confusion"]), problem.classes, title="Barcodes: truth and prediction"
        ),
        "calibration": calibration_figure(
            *_confidence(swept.chosen), ece=result["barcodes"]["calibration"]["ece"], title="Barcodes: confidence"
        ),
    }
    for name, figure in drawn.items():
        save(figure, folder / name)
    write_csv(folder / TABLE, table, index=True)
    write_csv(folder / PREDICTIONS, _predictions(problem, swept, models, of))
    write_classifiers(folder / MODELS, models)
    write_json(folder / RESULT, dict(result))
    outputs = {name: FileRecord.of(folder / name) for name in (TABLE, PREDICTIONS, MODELS, RESULT)}
    inputs = {"barcodes": sha256_file(path)}
    parameters = {**to_stored(config), "target": result["target"], "folds": result["folds"]}
    Manifest("classification", parameters, inputs, outputs, {"weighted_f1": result["barcodes"]["weighted_f1"]}).save(
        folder
    )


def _confidence(judged: Judged) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    probability = judged.probability[:, judged.rows].mean(axis=0)
    return probability.max(axis=1), probability.argmax(axis=1) == judged.target[judged.rows]
