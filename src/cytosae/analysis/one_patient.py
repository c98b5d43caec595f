"""What is unusual in one patient, what the classifier says, and which concepts and cells carry both: numbers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.analysis.classification_files import MODELS, RESULT
from cytosae.artefacts import Manifest, outdated, read_json
from cytosae.cohort import (
    FEATURES,
    PAPER,
    RULE,
    Classifier,
    Representation,
    as_records,
    cell_scores,
    patient_column,
    read_barcodes,
    read_classifiers,
    selected,
    transformed,
    transformed_error,
    unusual,
)
from cytosae.concepts import read_activations, read_concepts
from cytosae.errors import CytosaeError, NotFound
from cytosae.settings import PatientConfig

CARRYING = 6
"""Concepts shown of a prediction."""
CLOSEST = 3
"""Concepts shown where none is unusual."""
LEAST, FEW = 3, 10
"""Other patients that a group needs, and below which it is called small."""


@dataclass(frozen=True)
class Patient:
    """A patient with the cells."""

    data: ad.AnnData
    """Barcodes of all patients."""
    row: int
    cells: pd.DataFrame
    counts: sp.csr_matrix
    means: sp.csr_matrix
    threshold: float
    """tau, above which a patch is active."""

    @property
    def name(self) -> str:
        """As the barcodes name the patient."""
        return str(self.data.obs_names[self.row])

    @property
    def barcode(self) -> NDArray[np.float32]:
        """a_p[s], ``(n_latents,)``."""
        return np.asarray(self.data.X[self.row], np.float32)

    def known(self, column: str) -> str | None:
        """A column of the patient, None where it is unknown."""
        if column not in self.data.obs or pd.isna(self.data.obs[column].iloc[self.row]):
            return None
        return str(self.data.obs[column].iloc[self.row])


def find_patient(data: ad.AnnData, name: str, where: object) -> int:
    """Row of a patient in the barcodes.

    Raises
    ------
    CytosaeError
        No such patient, or several; names `where` they were looked for.
    """
    matches = np.flatnonzero(data.obs_names == name)
    if not len(matches):
        matches = np.flatnonzero((data.obs["patient"].astype(str) == name).to_numpy())
    if len(matches) != 1:
        shown = ", ".join(data.obs_names[matches][:5] if len(matches) else data.obs_names[:5])
        wrong = "is in several data sets" if len(matches) else "no such patient"
        raise NotFound(f"{name}: {wrong} in {where}. Give one of: {shown}{'' if len(matches) else ', ...'}")
    return int(matches[0])


def open_patient(study: Path, path: Path, name: str) -> Patient:
    """A patient with all cells.

    Parameters
    ----------
    study
        The study.
    path
        Barcodes of its patients.
    name
        The patient.

    Raises
    ------
    CytosaeError
        No such patient, or barcodes of other latents.
    """
    data = read_barcodes(path, pooled=True, concepts=study / "concepts")
    row = find_patient(data, name, path)
    dataset, who = (str(data.obs[column].iloc[row]) for column in ("dataset", "patient"))
    concepts = read_concepts(study / "concepts", dataset, matrices=False)
    if concepts.n_vars != data.n_vars:
        raise CytosaeError(f"{path}: counts {data.n_vars:,} latents, the study has {concepts.n_vars:,}. Make it again.")
    rows = np.flatnonzero((concepts.obs["patient"].astype(str) == who).to_numpy())
    counts, means = read_activations(study / "concepts", dataset, rows)
    threshold = float(concepts.uns["cytosae"]["parameters"]["threshold"])
    return Patient(data, row, concepts.obs.iloc[rows], counts, means, threshold)


def other_patients(data: ad.AnnData, row: int) -> dict[str, NDArray[np.int64]]:
    """Rows of the patients with each diagnosis, this patient left out under whatever data set; by name.

    Raises
    ------
    CytosaeError
        The barcodes have no diagnoses.
    """
    if "diagnosis" not in data.obs:
        raise CytosaeError("the barcodes have no column 'diagnosis': there is no group to compare the patient with.")
    diagnosis = patient_column(data, "diagnosis").map(lambda value: None if value is None else str(value))
    who = data.obs["patient"].astype(str)
    others = (who != who.iloc[row]).to_numpy()
    return {
        str(name): np.flatnonzero(others & (diagnosis == name).to_numpy()) for name in sorted(set(diagnosis.dropna()))
    }


def reference_groups(
    groups: Mapping[str, NDArray[np.int64]], wanted: list[str], caveats: list[str]
) -> dict[str, NDArray[np.int64]]:
    """The wanted groups that are large enough to be a reference; why others are not, and which are small, goes to the
    caveats.
    """
    large = {}
    for name in dict.fromkeys(wanted):
        rows = groups.get(name, np.array([], np.int64))
        if len(rows) < LEAST:
            known = ", ".join(groups)
            caveats.append(
                f"{name}: {len(rows)} other patients, three at least are needed to say what is unusual; there are {known}"
            )
            continue
        if len(rows) < FEW:
            caveats.append(f"{name}: {len(rows)} other patients are few; a t of 4 may be chance")
        large[name] = rows
    return large


@dataclass(frozen=True)
class Against:
    """What is unusual in a patient against a group."""

    name: str
    rows: NDArray[np.int64]
    """The group's patients."""
    representation: Representation
    """What is compared: one block."""
    values: NDArray[np.float32]
    """Of the patient, ``(n_latents,)``."""
    of_group: NDArray[np.float32]
    """Of the group's patients, ``(n_patients, n_latents)``."""
    table: pd.DataFrame
    """Of `cytosae.cohort.unusual`, with ``count`` and ``group_count``, Eq. 3 of the patient and the group."""
    count: int
    """Concepts that are unusual by the rule."""
    by_counts: int
    """Concepts that are unusual by counts as they are, the paper's form."""
    chosen: NDArray[np.int64]
    """The concepts shown: unusual ones, or where there are none those that come closest."""
    scores: NDArray[np.float64]
    """Of each cell of the patient, ``(n_cells,)``."""
    shown: NDArray[np.int64]
    """Places of the cells shown, by falling score; none where no concept is."""
    rule: str

    def records(self) -> list[dict[str, Any]]:
        """The chosen concepts with their figures."""
        return as_records(self.table.loc[self.chosen])


def compare_with_group(patient: Patient, name: str, rows: NDArray[np.int64], config: PatientConfig) -> Against:
    """Compare a patient with a group of at least three others, and rank the cells by what is unusual."""
    kind = Representation(config.features, config.transform)
    values, table = _unusual(patient, rows, kind)
    by_counts = table if kind == PAPER else _unusual(patient, rows, PAPER)[1]
    table = table.assign(count=by_counts["patient"], group_count=by_counts["group"])
    chosen = selected(table, config.concepts, config.fdr)
    if not len(chosen):
        chosen = selected(table, CLOSEST, 1.0)
    scores = np.zeros(len(patient.cells))
    shown = np.array([], np.int64)
    if len(chosen):
        scores = cell_scores(patient.counts, table, chosen, kind).sum(axis=1)
        shown = np.argsort(-scores, kind="stable")[: config.cells]
    n_unusual, n_by_counts = (len(selected(one, len(one), config.fdr)) for one in (table, by_counts))
    rule = RULE.format(fdr=config.fdr, concepts=config.concepts)
    if kind != PAPER:
        rule += f" Barcodes are compared by {kind.unit}; by counts as they are, {n_by_counts} concepts are unusual."
    return Against(
        name, rows, kind, values[patient.row], values[rows], table, n_unusual, n_by_counts, chosen, scores, shown, rule
    )


def _unusual(
    patient: Patient, rows: NDArray[np.int64], kind: Representation
) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Values of all patients, ``(n_patients, n_latents)``, and how far this patient's lie from those of a group."""
    (name,) = FEATURES[kind.features]
    values = transformed(patient.data, name, kind.transform)
    errors = transformed_error(patient.data, name, kind.transform)
    usable = patient.data.var["is_concept"].to_numpy()
    return values, unusual(values[patient.row], errors[patient.row], values[rows], errors[rows], usable)


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of a patient, and what carries it."""

    model: Classifier
    target: str
    probability: NDArray[np.float64]
    """Of each class, ``(n_classes,)``."""
    predicted: str
    unseen: bool
    """Whether the classifier was made without this patient."""
    adds: NDArray[np.float64]
    """Of each latent to the class, ``(n_latents,)``."""
    concepts: NDArray[np.int64]
    """Those that add most."""
    cells: NDArray[np.float64]
    """What each cell adds, ``(n_cells,)``."""
    shown: NDArray[np.int64]
    """Places of the cells that add most."""


def predict(
    patient: Patient, folder: Path, barcodes_sha256: str, config: PatientConfig, caveats: list[str]
) -> Prediction | None:
    """What the classifier that has not seen this patient says; None where there is no classification of these barcodes.

    Parameters
    ----------
    folder
        Of the classification.
    barcodes_sha256
        Of the file of the barcodes.
    caveats
        Gets a line where the classification is of other barcodes.
    """
    manifest = Manifest.load(folder)
    if manifest is None:
        return None
    if why := outdated("classification", manifest.version):
        caveats.append(f"{folder} was {why}; it is left out: run `cytosae classify` again")
        return None
    if manifest.inputs.get("barcodes") != barcodes_sha256:
        caveats.append(f"{folder} is a classification of other barcodes, left out: run `cytosae classify` again")
        return None
    result = read_json(folder / RESULT)
    models = read_classifiers(folder / MODELS, result)
    fold = result["model"]["rows"].get(patient.name, -1)
    unseen = fold >= 0 or patient.name not in result["model"]["rows"]
    model: Classifier = models[1 + fold]
    (values,) = model.representation.values(patient.data[[patient.row]])
    (probability,) = model.probabilities(values[None])
    predicted = model.classes[int(probability.argmax())]
    adds = model.concept_contributions(values, predicted)
    carrying = np.argsort(-adds, kind="stable")[:CARRYING]
    cells = model.cell_contributions(patient.counts, predicted)
    return Prediction(
        model,
        str(result["target"]),
        probability,
        predicted,
        bool(unseen),
        adds,
        carrying[adds[carrying] > 0],
        cells,
        np.argsort(-cells, kind="stable")[: config.cells],
    )
