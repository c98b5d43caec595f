"""What is said of the class of new patients: probabilities, and the classes that a conformal set holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from cytosae.analysis.frozen_study import FrozenStudy
from cytosae.analysis.new_patients import NewPatients
from cytosae.cohort import Calibration, error_rate, least_patients


def class_answers(
    frozen: FrozenStudy, new: NewPatients, coverage: float
) -> tuple[list[dict[str, Any]], list[list[str]], dict[str, Any]]:
    """Of each patient what is predicted, and sentences of doubt; and what the result says of all."""
    classes = frozen.model.outputs
    calibration = _calibration(frozen.result["conformal"]["calibration"], classes)
    probability = softmax(new.predictor, axis=1)
    of_folds = softmax(frozen.fold_predictors(new.data), axis=2)
    p, inside = calibration.p_values(of_folds, coverage), calibration.sets(of_folds, coverage)
    patients, doubts = [], []
    for row, stated in enumerate(new.data.obs["stated"]):
        fitting = [c for c, own in zip(classes, inside[row], strict=True) if own]
        patients.append(
            {
                "predicted": classes[int(probability[row].argmax())],
                "probability": dict(zip(classes, probability[row].tolist(), strict=True)),
                "set": fitting,
                "p": dict(zip(classes, p[row].tolist(), strict=True)),
            }
        )
        own_doubts = []
        if pd.notna(stated) and str(stated) not in classes:
            own_doubts.append(f"the table states {stated}, a class that the classifier does not know")
        if not fitting:
            own_doubts.append(f"no class fits at a coverage of {coverage:.0%}")
        doubts.append(own_doubts)
    own_class = calibration.by_class(len(classes), coverage)
    conformal = {
        "coverage": coverage,
        "rule": f"a class with at least {least_patients(coverage)} training patients is compared with these, any "
        "other with all; its p is compared with those of the training patients when they are left out; it is in the set "
        f"where that is above {error_rate(coverage):g}",
        "by_class": [c for c, alone in zip(classes, own_class, strict=True) if alone],
        "training_patients": len(calibration.scores),
    }
    return patients, doubts, {"classes": list(classes), "conformal": conformal}


def class_width(patient: Mapping[str, Any]) -> str:
    """How much is left open, for a patient with few cells."""
    return f"of the {len(patient['p'])} classes {len(patient['set'])} are in the set"


def class_columns(patient: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of ``predictions.csv``."""
    of_classes = {f"p {name}": value for name, value in patient["probability"].items()}
    return {"predicted": patient["predicted"], **of_classes, "set": " | ".join(patient["set"])}


def _calibration(rows: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> Calibration:
    left_out: NDArray[np.float64] = np.array([row["left_out_p"] for row in rows], np.float64)
    return Calibration(
        np.array([row["score"] for row in rows], np.float64),
        np.array([row["models"] for row in rows], np.int64),
        np.array([classes.index(row["class"]) for row in rows], np.int64),
        left_out,
    )
