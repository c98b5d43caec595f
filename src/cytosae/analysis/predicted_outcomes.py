"""What is said of a number or a time of new patients: an interval with a stated coverage, or how large the risk is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.analysis.frozen_study import FrozenStudy
from cytosae.analysis.new_patients import NewPatients
from cytosae.cohort import NUMBER, OutcomeCalibration, third_of

_CHANCE = {"r_squared": 0.0, "concordance": 0.5}
_NAMES = {"r_squared": "R2", "concordance": "concordance"}


def outcome_answers(
    frozen: FrozenStudy, new: NewPatients, coverage: float
) -> tuple[list[dict[str, Any]], list[list[str]], dict[str, Any]]:
    """Of each patient what is predicted, and sentences of doubt; and what the result says of all."""
    calibration = OutcomeCalibration.from_records(frozen.result["calibration"])
    predicted, of_folds = new.predictor[:, 0], frozen.fold_predictors(new.data)[..., 0]
    skill = {name: frozen.result["methods"][0][name] for name in ("score", "value", "low", "high")}
    about: dict[str, Any] = {
        "kind": frozen.result["kind"],
        "event": frozen.result["event"],
        "training_patients": len(calibration.values),
        "left_out_score": skill,
    }
    if frozen.result["kind"] == NUMBER:
        patients, doubts = _numbers(frozen, calibration, predicted, of_folds, coverage)
        about["intervals"] = {
            "coverage": coverage,
            "rule": "the error of each training patient by models that had not seen the patient, around what these models "
            "say of the new one (CV+, Barber et al. 2021)",
        }
    else:
        risk = calibration.riskier_than(of_folds)
        patients = [
            {"predicted": float(hazard), "riskier_than": float(share), "third": third_of(share)}
            for hazard, share in zip(predicted, risk, strict=True)
        ]
        doubts = [[] for _ in patients]
        about["risk"] = {
            "rule": "predicted is the logarithm of the hazard relative to the mean training patient. riskier_than is the "
            "share of the training patients with a smaller one, by models that had not seen them; third, the third of the "
            "training patients among which that lies; thirds, what happened to these (Kaplan and Meier). No time is "
            "predicted for a single patient: of those followed up only in part the error is not known",
            "thirds": frozen.result["thirds"],
        }
    about["caveats"] = []
    if not skill["low"] > _CHANCE[skill["score"]]:
        about["caveats"].append(
            f"{frozen.target} of left-out patients of the study was not predicted better than by chance: "
            f"{_NAMES[skill['score']]} {skill['value']:.2f} ({skill['low']:.2f} to {skill['high']:.2f})"
        )
    return patients, doubts, about


def _numbers(
    frozen: FrozenStudy,
    calibration: OutcomeCalibration,
    predicted: NDArray[np.float64],
    of_folds: NDArray[np.float64],
    coverage: float,
) -> tuple[list[dict[str, Any]], list[list[str]]]:
    ends = calibration.intervals(of_folds, coverage)
    least, largest = float(calibration.values.min()), float(calibration.values.max())
    patients, doubts = [], []
    for number, (low, high) in zip(predicted, ends, strict=True):
        known = bool(np.isfinite(low))
        patients.append(
            {
                "predicted": float(number),
                "low": float(low) if known else None,
                "high": float(high) if known else None,
            }
        )
        own = []
        if not known:
            own.append(
                f"no interval: {len(calibration.values)} training patients are too few for a coverage of {coverage:.0%}"
            )
        if not least <= number <= largest:
            own.append(
                f"{number:.3g} is outside the {frozen.target} of the training patients, {least:g} to {largest:g}"
            )
        doubts.append(own)
    return patients, doubts


def outcome_width(patient: Mapping[str, Any]) -> str:
    """How much is left open, for a patient with few cells."""
    if patient.get("low") is None:
        return "the cells of one more sample may say something else"
    return f"the interval is from {patient['low']:.3g} to {patient['high']:.3g}"


def outcome_columns(patient: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of ``predictions.csv``."""
    if "third" not in patient:
        return {name: patient[name] for name in ("predicted", "low", "high")}
    return {
        "log relative hazard": patient["predicted"],
        "riskier_than": patient["riskier_than"],
        "third": patient["third"],
    }
