"""What is unusual in one patient, and the cells that carry it, chosen by a rule and written as one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.analysis.classification import MODELS, RESULT
from cytosae.analysis.viewing import Viewer, picture, study_tokens
from cytosae.artefacts import Manifest, read_json, sha256_file, whole_file
from cytosae.cohort import (
    BARCODES,
    CLASSIFICATION,
    COHORT,
    RULE,
    Classifier,
    cell_scores,
    column_of,
    read_barcodes,
    read_classifiers,
    selected,
    unusual,
)
from cytosae.concepts import read_activations, read_concepts
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.report import Concept, Section, Tile, number, patient_barcode, patient_page
from cytosae.settings import PatientConfig

_OF_CONCEPT = 10  # cells shown for a concept
_CARRYING = 6  # concepts shown of a prediction
_CLOSEST = 3  # concepts shown where none is unusual


@dataclass(frozen=True)
class _Patient:
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
        return str(self.data.obs_names[self.row])

    @property
    def barcode(self) -> NDArray[np.float32]:
        return np.asarray(self.data.X[self.row], np.float32)

    def known(self, column: str) -> str | None:
        """A column of the patient, None where it is unknown."""
        if column not in self.data.obs or pd.isna(self.data.obs[column].iloc[self.row]):
            return None
        return str(self.data.obs[column].iloc[self.row])


def show_patient(
    study: Path,
    name: str,
    page: Path,
    config: PatientConfig | None = None,
    *,
    barcodes: Path | None = None,
    classification: Path | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Write the page of a patient: what is unusual against the healthy and against the own diagnosis, and which cells
    show it.

    Parameters
    ----------
    study
        The study.
    name
        The patient.
    page
        The HTML file.
    config
        Settings.
    barcodes
        Barcodes of the study's patients; those in its folder ``cohort`` if None.
    classification
        Folder of a classification of these barcodes; the one beside the barcodes, where there is one, if None.

    Returns
    -------
    For each group the unusual concepts and the cells by falling score, the prediction, the caveats.

    Raises
    ------
    CytosaeError
        No such patient, or no barcodes.
    """
    config = config or PatientConfig()
    path = barcodes or study / COHORT / BARCODES
    patient = _open(study, path, name)
    folder = classification or path.parent / CLASSIFICATION
    caveats: list[str] = []
    groups = _groups(patient, config.healthy, caveats)
    with study_tokens(study, device=device) as source:
        viewer = Viewer(study, source)
        found = {title: _against(patient, viewer, title, group, config) for title, group in groups.items()}
        predicted = _prediction(patient, viewer, folder, path, config, caveats)
    for caveat in caveats:
        say(f"patient: {caveat}")
    sections = [section for section, _ in found.values()]
    if predicted is not None:
        sections.insert(0, predicted[0])
    facts = [("cells", f"{len(patient.cells):,}"), ("concepts in the cells", f"{int((patient.barcode > 0).sum()):,}")]
    facts += [(column, value) for column in ("diagnosis", "laboratory", "dataset") if (value := patient.known(column))]
    html = patient_page(f"Patient {patient.name}", f"of {study.absolute().name}", facts, sections, caveats)
    with whole_file(page) as partial:
        partial.write_text(html, encoding="utf-8")
    return {
        "patient": patient.name,
        "page": str(page),
        "cells": len(patient.cells),
        "against": {title: figures for title, (_, figures) in found.items()},
        "prediction": None if predicted is None else predicted[1],
        "caveats": caveats,
    }


def _open(study: Path, path: Path, name: str) -> _Patient:
    data = read_barcodes(path)
    matches = np.flatnonzero((data.obs_names == name) | (data.obs["patient"].astype(str) == name).to_numpy())
    if len(matches) != 1:
        shown = ", ".join(data.obs_names[matches][:5] if len(matches) else data.obs_names[:5])
        wrong = "is in several data sets" if len(matches) else "no such patient"
        raise CytosaeError(f"{name}: {wrong} in {path}. Give one of: {shown}{'' if len(matches) else ', ...'}")
    row = int(matches[0])
    dataset, who = (str(data.obs[column].iloc[row]) for column in ("dataset", "patient"))
    concepts = read_concepts(study / "concepts", dataset, matrices=False)
    if concepts.n_vars != data.n_vars:
        raise CytosaeError(f"{path}: counts {data.n_vars:,} latents, the study has {concepts.n_vars:,}. Make it again.")
    rows = np.flatnonzero((concepts.obs["patient"].astype(str) == who).to_numpy())
    counts, means = read_activations(study / "concepts", dataset, rows)
    threshold = float(concepts.uns["cytosae"]["parameters"]["threshold"])
    return _Patient(data, row, concepts.obs.iloc[rows], counts, means, threshold)


def _groups(patient: _Patient, healthy: str, caveats: list[str]) -> dict[str, NDArray[np.int64]]:
    """Rows of the groups that the patient is compared with, itself left out."""
    if "diagnosis" not in patient.data.obs:
        raise CytosaeError("the barcodes have no column 'diagnosis': there is no group to compare the patient with.")
    diagnosis = column_of(patient.data, "diagnosis").map(lambda value: None if value is None else str(value))
    who = patient.data.obs["patient"].astype(str)
    others = (who != who.iloc[patient.row]).to_numpy()
    own = patient.known("diagnosis")
    if own is None:
        caveats.append("the diagnosis of this patient is not known")
    wanted = dict.fromkeys([healthy, *([own] if own is not None else [])])
    groups = {}
    for name in wanted:
        rows = np.flatnonzero(others & (diagnosis == name).to_numpy())
        if len(rows) < 3:
            known = ", ".join(sorted(set(diagnosis.dropna())))
            caveats.append(
                f"{name}: {len(rows)} other patients, three at least are needed to say what is unusual; there are {known}"
            )
            continue
        if len(rows) < 10:
            caveats.append(f"{name}: {len(rows)} other patients are few; a t of 4 may be chance")
        groups[name] = rows
    if not groups:
        raise CytosaeError(
            f"{patient.name}: no group has three other patients ({'; '.join(caveats)}). Choose the healthy with --healthy."
        )
    return groups


def _against(
    patient: _Patient, viewer: Viewer, name: str, rows: NDArray[np.int64], config: PatientConfig
) -> tuple[Section, dict[str, Any]]:
    """What is unusual against a group, as a section and as figures."""
    group = np.asarray(patient.data.X[rows], np.float32)
    errors = patient.data.layers["standard_error"]
    usable = patient.data.var["is_concept"].to_numpy()
    table = unusual(patient.barcode, errors[patient.row], group, errors[rows], usable)
    chosen = selected(table, config.concepts, config.fdr)
    own = name == patient.known("diagnosis")
    whose = f"the other {len(rows)} patients with {name}" if own else f"the {len(rows)} {name} patients"
    figures: dict[str, Any] = {
        "patients": len(rows),
        "rule": RULE.format(fdr=config.fdr, concepts=config.concepts),
        "tested": int(table["fdr"].notna().sum()),
        "unusual": len(selected(table, len(table), config.fdr)),
    }
    nothing = ""
    if not len(chosen):
        chosen = selected(table, _CLOSEST, 1.0)
        nothing = f"No concept is unusual by this rule. For orientation, the {len(chosen)} that come closest are shown."
    figures["concepts"] = [
        {str(k): v for k, v in row.items()} for row in table.loc[chosen].reset_index().to_dict("records")
    ]
    drawn = patient_barcode(patient.barcode, group, name=patient.name, reference_name=name, title=None)
    title = f"Unusual against {whose}"
    if not len(chosen):
        return Section(title, figures["rule"], [drawn], nothing=nothing), {**figures, "cells": []}
    parts = cell_scores(patient.counts, table, chosen)
    score = parts.sum(axis=1)
    order = np.argsort(-score, kind="stable")[: config.cells]
    figures["cells"] = [{"cell": str(patient.cells.index[i]), "score": float(score[i])} for i in order]
    weights = np.zeros(patient.data.n_vars)
    weights[chosen] = 1 / table.loc[chosen, "scale"]
    cells = _tiles(patient, viewer, order, weights, [f"score {number(score[i])}" for i in order])
    concepts = [
        Concept(
            f"Latent {latent}",
            _facts(table.loc[latent], name, len(rows)),
            _concept_tiles(patient, viewer, int(latent)),
        )
        for latent in chosen
    ]
    return Section(title, figures["rule"], [drawn], cells, concepts, nothing), figures


def _facts(row: pd.Series, name: str, n: int) -> list[str]:
    return [
        f"{number(row['patient'])} active patches a cell, {name} {number(row['group'])}",
        f"t {row['t']:.1f}, false-discovery rate {row['fdr']:.2g}",
        f"{int(row['above'])} of {n} have as much",
    ]


def _titles(patient: _Patient, places: Sequence[int] | NDArray[np.int64]) -> list[str]:
    labels = patient.cells["label"] if "label" in patient.cells else pd.Series(None, index=patient.cells.index)
    return [str(labels.iloc[i]).replace("_", " ") if pd.notna(labels.iloc[i]) else "unlabelled" for i in places]


def _concept_tiles(patient: _Patient, viewer: Viewer, latent: int) -> list[Tile]:
    """The patient's cells with the largest m_i[s], with the map of the latent."""
    values = patient.means[:, [latent]].toarray()[:, 0]
    places = np.argsort(-values, kind="stable")[:_OF_CONCEPT]
    places = places[values[places] > 0]
    row = viewer.shown("", latent, patient.cells.index[places].astype(str), values[places])
    return [
        Tile.of(image, map_, row.top, title, number(value))
        for image, map_, title, value in zip(row.images, row.maps, _titles(patient, places), row.values, strict=True)
        if image is not None and map_ is not None and value is not None
    ]


def _tiles(
    patient: _Patient, viewer: Viewer, places: NDArray[np.int64], weights: NDArray[np.float64], notes: Sequence[str]
) -> list[Tile]:
    """Cells with the patches that make their score: the sum of the weights of each patch's active latents."""
    rows = viewer.row_of.loc[patient.cells.index[places].astype(str)].to_numpy()
    latents = np.flatnonzero(weights)
    maps = []
    for tokens in viewer.tokens(rows):
        active = _active(viewer, tokens, latents, patient.threshold)
        maps.append(np.maximum(active @ weights[latents], 0)[1:].reshape(viewer.grid))
    top = max(float(map_.max()) for map_ in maps)
    paths = viewer.source.cells["path"].iloc[rows]
    parts = zip(paths, maps, _titles(patient, places), notes, strict=True)
    return [Tile.of(picture(path), map_, top, title, note) for path, map_, title, note in parts]


@torch.no_grad()
def _active(viewer: Viewer, tokens: torch.Tensor, latents: NDArray[np.int64], threshold: float) -> NDArray[np.float64]:
    """Whether h_ij[s] is above tau for some latents on every token, ``(n_tokens, n_chosen)``."""
    return (viewer.sae.encode(tokens)[:, torch.from_numpy(latents)] > threshold).double().numpy()


def _prediction(
    patient: _Patient, viewer: Viewer, folder: Path, barcodes: Path, config: PatientConfig, caveats: list[str]
) -> tuple[Section, dict[str, Any]] | None:
    """What the classifier that has not seen this patient says, and the concepts and cells that carry it."""
    manifest = Manifest.load(folder)
    if manifest is None:
        return None
    if manifest.inputs.get("barcodes") != sha256_file(barcodes):
        caveats.append(f"{folder} is a classification of other barcodes, left out: run `cytosae classify` again")
        return None
    result = read_json(folder / RESULT)
    models = read_classifiers(folder / MODELS, list(result["classes"]))
    fold = result["model"]["rows"].get(patient.name, -1)
    unseen = fold >= 0 or patient.name not in result["model"]["rows"]
    model: Classifier = models[1 + fold]
    probability = model.probabilities(patient.barcode)[0]
    said = model.classes[int(probability.argmax())]
    parts = model.concept_contributions(patient.barcode, said)
    carrying = np.argsort(-parts, kind="stable")[:_CARRYING]
    carrying = carrying[parts[carrying] > 0]
    share = model.cell_contributions(patient.counts, said)
    order = np.argsort(-share, kind="stable")[: config.cells]
    ranked = ", ".join(f"{model.classes[c]} {probability[c]:.0%}" for c in np.argsort(-probability)[:3])
    known = patient.known(result["target"])
    text = (
        f"{ranked}{'' if known is None else f' (the table says {known})'}, by a logistic regression on barcodes that "
        f"{'has not seen this patient' if unseen else 'HAS SEEN this patient'}. The model is a sum, so what a concept adds "
        "to the class (over the mean of all classes, from the mean patient) is the sum of what the cells add, and theirs of "
        "what the patches add. The concepts and cells that add most are shown."
    )
    section = Section(
        "Prediction",
        text,
        cells=_tiles(patient, viewer, order, model.direction(said), [f"adds {share[i]:+.2g}" for i in order]),
        concepts=[
            Concept(f"Latent {s}", [f"adds {parts[s]:+.2g}"], _concept_tiles(patient, viewer, int(s))) for s in carrying
        ],
    )
    return section, {
        "classes": dict(zip(model.classes, probability.tolist(), strict=True)),
        "predicted": said,
        "unseen": bool(unseen),
        "concepts": [{"latent": int(s), "adds": float(parts[s])} for s in carrying],
        "cells": [{"cell": str(patient.cells.index[i]), "adds": float(share[i])} for i in order],
    }
