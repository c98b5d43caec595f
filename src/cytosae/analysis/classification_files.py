"""What a classification leaves on disk: tables, classifiers and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.analysis.untrained_baseline import UNTRAINED
from cytosae.artefacts import FileRecord, Manifest, sha256_file, write_csv, write_json
from cytosae.cohort import ClassificationTask, Classifier, Predictions, strongest, write_models
from cytosae.report import (
    abstention_figure,
    calibration_figure,
    confusion_figure,
    figure_files,
    method_figure,
    save,
    sparsity_figure,
    threshold_sweep,
)
from cytosae.settings import ClassifyConfig, to_stored

TABLE, PREDICTIONS, MODELS, RESULT = "methods.csv", "predictions.csv", "models.safetensors", "classification.json"
OUTCOME = "outcome.json"
"""In the place of ``classification.json`` where a number or a time is predicted."""
SHORT_MODEL, SPARSITY = "short_model.csv", "sparsity.csv"
_FIGURES = ("sweep", "methods", "confusion", "calibration", "abstention", "sparsity")
DRAWN = tuple(name for figure in _FIGURES for name in figure_files(figure))
"""Files of the figures."""
CARRYING = 10
"""Concepts listed for each prediction."""


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


def write_classification(
    folder: Path,
    path: Path,
    task: ClassificationTask,
    predictions: Predictions,
    models: Sequence[Classifier],
    row_folds: NDArray[np.int64],
    result: Mapping[str, Any],
    config: ClassifyConfig,
) -> None:
    """Write tables, classifiers, figures and manifest; `row_folds` says which model had not seen a row."""
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
        "abstention": abstention_figure(
            pd.DataFrame(result["abstention"]), title="Barcodes: accuracy where the surest patients are answered"
        ),
    }
    if "sparsity" in result:
        sparsity = pd.DataFrame(result["sparsity"])
        write_csv(folder / SPARSITY, sparsity)
        drawn["sparsity"] = sparsity_figure(
            sparsity,
            whole=result["barcodes"]["weighted_f1"],
            null=band,
            title=f"Predicting {result['target']}: how many concepts does it take?",
        )
    for name, figure in drawn.items():
        save(figure, folder / name)
    write_csv(folder / TABLE, table, index=True)
    write_csv(folder / PREDICTIONS, _predictions(task, predictions, models, row_folds))
    write_models(folder / MODELS, models)
    write_json(folder / RESULT, dict(result))
    written = (TABLE, PREDICTIONS, MODELS, RESULT, UNTRAINED, SHORT_MODEL, SPARSITY)
    outputs = {name: FileRecord.from_file(folder / name) for name in written if (folder / name).is_file()}
    inputs = {"barcodes": sha256_file(path)}
    parameters = {
        **to_stored(config),
        "target": result["target"],
        "folds": result["folds"],
        "without": result["concepts"]["without"],
    }
    Manifest("classification", parameters, inputs, outputs, {"weighted_f1": result["barcodes"]["weighted_f1"]}).save(
        folder
    )


def _confidence(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    probability = predictions.probability[0, predictions.rows]
    return probability.max(axis=1), probability.argmax(axis=1) == predictions.target[predictions.rows]
