"""New patients, predicted by a study that stays as it is: classes, numbers or risks, and what carries each prediction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytosae import __version__
from cytosae.analysis.frozen_study import FrozenStudy, open_frozen_study
from cytosae.analysis.new_patients import NewPatients, predicted
from cytosae.analysis.predicted_classes import class_answers, class_columns, class_width
from cytosae.analysis.predicted_outcomes import outcome_answers, outcome_columns, outcome_width
from cytosae.analysis.viewing import further_tokens, saved_backbone, study_framing, study_layout
from cytosae.artefacts import (
    MANIFEST,
    FileRecord,
    Manifest,
    claim,
    refuse_strangers,
    remove_outdated,
    write_csv,
    write_json,
)
from cytosae.cells import metadata_digest, pixels_digest, rejected_path
from cytosae.cohort import (
    BEYOND,
    Classifier,
    Novelty,
    patient_novelty,
)
from cytosae.concepts import Familiarity, check_fit, read_familiarity
from cytosae.concepts.quality.resampling import group_codes
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.settings import ImageConfig, PredictConfig, to_stored
from cytosae.study import check_wish, look_at, rendered

TABLE, RESULT, STRONGEST, CELLS = "predictions.csv", "prediction.json", "strongest_cells.csv", "cells.parquet"
_FAR = 0.05  # p below which all new patients together are said to lie farther away


def predict_patients(
    study: Path,
    source: Path,
    folder: Path,
    config: PredictConfig | None = None,
    *,
    target: str | None = None,
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    images: ImageConfig | None = None,
    device: str = "auto",
    weights: Path | None = None,
) -> dict[str, Any]:
    """Predict new patients from their images, with everything as the study left it.

    The images pass the study's backbone, autoencoder and tau; their counts become the same blocks of a barcode, and the
    model of all the study's patients predicts them: their class, a number, or their risk of an event. A prediction depends
    on the patient's own cells alone.

    Parameters
    ----------
    study
        A study with a classification of its patients (`cytosae.analysis.classify`) or of what `target` names
        (`cytosae.analysis.predict_outcome`). It needs no images and no tokens: of a
        copy ``backbone.json``, ``sae``, ``taught`` if there is one, ``concepts/manifest.json`` and ``cohort`` suffice, and
        ``tokens/harmonisation.safetensors`` and ``familiarity/`` if there are any.
    source
        Cells of the new patients, see `cytosae.cells.read_source`; they need a ``patient``.
    folder
        Where the answer goes: ``prediction.json``, ``predictions.csv`` with a row for each patient,
        ``strongest_cells.csv`` with the cells that carry each prediction, and the listing of the cells.
    config
        Settings.
    target
        Column that holds a number or a time; the classification's if None.
    columns, strict, images
        See `cytosae.study.look_at`.
    device, weights
        See `cytosae.analysis.saved_backbone`.

    Returns
    -------
    What ``prediction.json`` holds.

    Raises
    ------
    CytosaeError
        A study without models of the target, whose files do not belong together or were changed; no cell with a patient;
        what the listing of cells raises.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    config = config or PredictConfig()
    names = [TABLE, RESULT, STRONGEST, CELLS, rejected_path(Path(CELLS)).name]
    refuse_strangers(folder, "prediction", names)
    check_wish(source)
    frozen = open_frozen_study(study, target)
    backbone = saved_backbone(study, device, weights)
    check_fit(study_layout(study, backbone), frozen.sae)
    listed = look_at(
        rendered(source, folder / "cohort"),
        folder / CELLS,
        columns=columns,
        strict=strict,
        drop_missing=True,
        images=images,
        framing=study_framing(study),
    )
    cells = _of_patients(listed.cells, frozen, source)
    claim(folder, "prediction", names)
    (folder / MANIFEST).unlink(missing_ok=True)
    listing = listed.write()
    familiar = read_familiarity(study, frozen.sae)
    new = predicted(frozen, further_tokens(study, cells, backbone), config.strongest, device, familiar)
    result = {
        "cytosae": __version__,
        "parameters": to_stored(config),
        "inputs": {
            "backbone": backbone.info.fingerprint,
            **frozen.digests,
            "cells": metadata_digest(cells),
            "images": pixels_digest(cells),
        },
        "target": frozen.target,
        "cell_type": frozen.cell_type,
        "cells": {
            "predicted": len(cells),
            "left_out": len(listed.cells) - len(cells),
            "rejected": listing["rejected"],
            "reasons": listing["reasons"],
        },
        **_answers(frozen, new, config, familiar),
    }
    for warning in result["warnings"]:
        say(f"predict: {warning}")
    write_csv(folder / TABLE, _table(result))
    write_csv(folder / STRONGEST, _strongest_cells(result))
    write_json(folder / RESULT, result)
    written = [name for name in names if (folder / name).is_file()]
    outputs = {name: FileRecord.from_file(folder / name) for name in written}
    summary = {"patients": len(result["patients"]), "cells": len(cells)}
    Manifest("prediction", to_stored(config), result["inputs"], outputs, summary).save(folder)
    remove_outdated(folder, "prediction", names)
    return result


def _of_patients(cells: pd.DataFrame, frozen: FrozenStudy, source: Path) -> pd.DataFrame:
    """The cells that count: those with a patient, and of the classifier's cell type if it has one."""
    usable = cells["patient"].notna()
    if not usable.any():
        raise CytosaeError(
            f"{source}: none of its {len(cells):,} cells has a patient. Give a table with a column 'patient', or name "
            "the column with `--column patient=YOURS`."
        )
    if frozen.cell_type is not None:
        usable &= cells["label"] == frozen.cell_type
        if not usable.any():
            raise CytosaeError(
                f"{source}: no cell of a patient has the label {frozen.cell_type!r}, and the classification is of "
                "these cells alone. Give a table with a column 'label'."
            )
    return cells[usable.fillna(False).astype(bool)].reset_index(drop=True)


def _answers(
    frozen: FrozenStudy, new: NewPatients, config: PredictConfig, familiar: Familiarity | None
) -> dict[str, Any]:
    """The part of the result that is about patients."""
    of_classes = isinstance(frozen.model, Classifier)
    predict, width = (class_answers, class_width) if of_classes else (outcome_answers, outcome_width)
    predictions, own_doubts, about = predict(frozen, new, config.coverage)
    units = group_codes(frozen.training.n_obs, pd.factorize(frozen.training.obs["patient"].astype(str))[0])
    distances = patient_novelty(frozen.training, units, new.data, frozen.model.representation)
    least = int(frozen.training.obs["n_cells"].min())
    patients = []
    for row, (name, known) in enumerate(zip(new.data.obs_names, new.data.obs.to_dict("records"), strict=True)):
        patient: dict[str, Any] = {
            "patient": str(name),
            "cells": int(known["n_cells"]),
            **predictions[row],
            "concepts": new.concepts[row],
            "strongest_cells": new.cells[row],
            "distance": float(distances.new[row]),
            "farther_than": float(distances.farther_than[row]),
            "distance_p": float(distances.p[row]),
            "far_cells": new.far[row],
        }
        doubts = _doubts(patient, str(known["patient"]) in frozen.known, least, width(patient))
        doubts += _far_cells(familiar, new.far[row], int(known["n_cells"]), "the patient's cells")
        patients.append({**patient, "warnings": [*doubts, *own_doubts[row]]})
    overall = _overall(distances)
    return {
        **about,
        "novelty": overall,
        "patients": patients,
        "warnings": [
            *(f"{patient['patient']}: {text}" for patient in patients for text in patient["warnings"]),
            *([overall["text"]] if overall["p"] < _FAR else []),
            *_far_cells(familiar, _sum(new.far), int(new.data.obs["n_cells"].sum()), "all cells"),
            *about.get("caveats", []),
        ],
    }


def _sum(numbers: list[int | None]) -> int | None:
    return None if None in numbers else sum(number or 0 for number in numbers)


def _far_cells(familiar: Familiarity | None, far: int | None, cells: int, owner: str) -> list[str]:
    """A warning if too many cells lie far from those of the study."""
    sentence = None if familiar is None or far is None else familiar.sentence(far, cells, owner)
    return [] if sentence is None else [sentence]


def _doubts(patient: Mapping[str, Any], known: bool, least: int, width: str) -> list[str]:
    """What a reader has to know of a prediction, a sentence each.

    Parameters
    ----------
    known
        Whether the study has a patient of this name.
    least
        Fewest cells of a training patient.
    width
        How much the prediction leaves open.
    """
    doubts = []
    if known:
        doubts.append(
            "the study has a patient of this name. If it is the same person, this is not a prediction of a new patient"
        )
    if patient["cells"] == 1 or patient["cells"] < least:
        counted = "a single cell" if patient["cells"] == 1 else f"{patient['cells']} cells"
        doubts.append(
            f"{counted}; the training patients have {least} or more. What is stated does not hold for so few: {width}"
        )
    if patient["farther_than"] >= BEYOND:
        doubts.append(
            f"lies farther from the training patients than {patient['farther_than']:.0%} of them from one another. The "
            "study has hardly seen such patients"
        )
    return doubts


def _overall(distances: Novelty) -> dict[str, Any]:
    """How far the new patients lie as a whole."""
    count, beyond, p = len(distances.new), int(distances.beyond.sum()), distances.overall_p()
    lie = "patient lies" if count == 1 else "patients lie"
    text = (
        f"{beyond} of {count} new {lie} beyond {BEYOND:.0%} of the training patients. As a whole they lie "
        f"{'farther away' if p < _FAR else 'no farther away'} than the training patients from one another (p {p:.2g})"
    )
    return {
        "patients": count,
        "beyond": beyond,
        "median": float(np.median(distances.new)),
        "training_median": float(np.median(distances.training)),
        "p": p,
        "text": text,
    }


def _table(result: Mapping[str, Any]) -> pd.DataFrame:
    columns = class_columns if "classes" in result else outcome_columns
    return pd.DataFrame(
        [
            {
                "patient": patient["patient"],
                "cells": patient["cells"],
                **columns(patient),
                "concepts": " ".join(f"{latent}:{adds:.3g}" for latent, adds in patient["concepts"].items()),
                "farther_than": patient["farther_than"],
                "warnings": "; ".join(patient["warnings"]),
            }
            for patient in result["patients"]
        ]
    )


def _strongest_cells(result: Mapping[str, Any]) -> pd.DataFrame:
    rows = [
        (patient["patient"], patient["predicted"], cell, adds)
        for patient in result["patients"]
        for cell, adds in patient["strongest_cells"].items()
    ]
    return pd.DataFrame(rows, columns=["patient", "predicted", "cell_id", "contribution"])
