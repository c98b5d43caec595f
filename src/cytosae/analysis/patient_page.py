"""What is unusual in one patient, and the cells that carry it, chosen by a rule and written as one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.analysis.further_patient import open_further_patient
from cytosae.analysis.one_patient import (
    Against,
    Patient,
    Prediction,
    compare_with_group,
    open_patient,
    other_patients,
    predict,
    reference_groups,
)
from cytosae.analysis.patient_cells import cells_of_concept, patient_unfamiliar, read_drawn_cells
from cytosae.analysis.patient_tiles import cell_titles, shown_section, strongest_tiles, unfamiliar_section
from cytosae.analysis.viewing import Viewer, cell_image, study_tokens
from cytosae.artefacts import sha256_file, whole_file
from cytosae.cells import readings
from cytosae.cohort import BARCODES, CLASSIFICATION, COHORT, PAPER, patch_parts
from cytosae.concepts import latent_called, read_concepts, read_names
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.report import Concept, Section, Tile, number, patient_barcode, patient_page
from cytosae.settings import PatientConfig
from cytosae.tokens import TokenSource


def show_patient(
    study: Path,
    name: str,
    page: Path,
    config: PatientConfig | None = None,
    *,
    concepts: Sequence[str] = (),
    barcodes: Path | None = None,
    classification: Path | None = None,
    new: Path | None = None,
    columns: Mapping[str, str] | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Write the page of a patient: what is unusual against the healthy and against the own diagnosis, which cells show
    it, all cells that show some concepts, and the cells unlike those of any other patient.

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
    concepts
        Numbers or names of concepts all of whose cells are listed.
    barcodes
        Barcodes of the study's patients; those in its folder ``cohort`` if None.
    classification
        Folder of a classification of these barcodes; the one beside the barcodes, where there is one, if None.
    new
        Cells of a patient who is not in the study (see `cytosae.cells.read_source`), to be compared with those who are.
    columns
        Which column of the table of new cells is a known one.

    Returns
    -------
    For each group the unusual concepts and the cells by falling score, the prediction, the cells of each concept and the
    unfamiliar ones with their number by chance, the caveats.

    Raises
    ------
    CytosaeError
        No such patient or concept, no barcodes, or a new patient with the name of another.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    config = config or PatientConfig()
    path = barcodes or study / COHORT / BARCODES
    folder = classification or path.parent / CLASSIFICATION
    caveats: list[str] = []
    if new is None:
        opened = _of_study(study, path, name, device)
    else:
        opened = open_further_patient(study, path, name, new, caveats, columns=columns, device=device)
    with opened as (patient, source):
        names = read_names(study / "concepts")
        latents = list(dict.fromkeys(latent_called(text, names, patient.data.n_vars) for text in concepts))
        groups = _groups(patient, config.healthy, caveats)
        viewer = Viewer(study, source)
        against = {title: _against(patient, viewer, title, group, config) for title, group in groups.items()}
        prediction = predict(patient, folder, sha256_file(path), config, caveats)
        predicted = None if prediction is None else _prediction(patient, viewer, prediction)
        drawn = read_drawn_cells(study, patient.data if new is None else patient.data[:-1])
        var = read_concepts(study / "concepts", str(patient.data.obs["dataset"].iloc[patient.row]), matrices=False).var
        asked = [cells_of_concept(patient, drawn, latent, config.healthy) for latent in latents]
        of_concepts = [shown_section(patient, viewer, one) for one in asked]
        odd = patient_unfamiliar(patient, drawn, var)
        unfamiliar = [] if odd is None else [unfamiliar_section(patient, viewer, odd, config.cells)]
    for caveat in caveats:
        say(f"patient: {caveat}")
    sections = [*of_concepts, *(section for section, _ in against.values()), *unfamiliar]
    if predicted is not None:
        sections.insert(0, predicted[0])
    facts = [("cells", f"{len(patient.cells):,}"), ("concepts in the cells", f"{int((patient.barcode > 0).sum()):,}")]
    facts += [(column, value) for column in ("diagnosis", "laboratory", "dataset") if (value := patient.known(column))]
    html = patient_page(f"Patient {patient.name}", f"of {study.absolute().name}", facts, sections, caveats)
    with whole_file(page) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return {
        "patient": patient.name,
        "page": f"{page}",
        "cells": len(patient.cells),
        "against": {title: figures for title, (_, figures) in against.items()},
        "prediction": None if predicted is None else predicted[1],
        "shown": {viewer.title(one.latent): one.record(patient) for one in asked},
        "unfamiliar": None if odd is None else odd.record(patient),
        "caveats": caveats,
    }


@contextmanager
def _of_study(study: Path, barcodes: Path, name: str, device: str) -> Iterator[tuple[Patient, TokenSource]]:
    patient = open_patient(study, barcodes, name)
    with study_tokens(study, device=device) as source:
        yield patient, source


def _groups(patient: Patient, healthy: str, caveats: list[str]) -> dict[str, NDArray[np.int64]]:
    """Rows of the groups that the patient is compared with, itself left out."""
    own = patient.known("diagnosis")
    others = other_patients(patient.data, patient.row)
    if own is None:
        caveats.append("the diagnosis of this patient is not known")
    groups = reference_groups(others, [healthy, *([own] if own is not None else [])], caveats)
    if not groups:
        raise CytosaeError(
            f"{patient.name}: no group has three other patients ({'; '.join(caveats)}). Choose the healthy with --healthy."
        )
    return groups


def _against(
    patient: Patient, viewer: Viewer, name: str, rows: NDArray[np.int64], config: PatientConfig
) -> tuple[Section, dict[str, Any]]:
    """What is unusual against a group, as a section and as figures."""
    unusual = compare_with_group(patient, name, rows, config)
    own = name == patient.known("diagnosis")
    group_name = f"the other {len(rows)} patients with {name}" if own else f"the {len(rows)} {name} patients"
    figures: dict[str, Any] = {
        "patients": len(rows),
        "rule": unusual.rule,
        "features": config.features,
        "transform": config.transform,
        "unusual_by_counts": unusual.by_counts,
        "tested": int(unusual.table["fdr"].notna().sum()),
        "unusual": unusual.count,
        "concepts": unusual.records(),
        "cells": [{"cell": str(patient.cells.index[i]), "score": float(unusual.scores[i])} for i in unusual.shown],
    }
    nothing = ""
    if not unusual.count:
        closest = f"the {len(unusual.chosen)} that come closest are shown"
        nothing = f"No concept is unusual by this rule. For orientation, {closest}."
    drawn = patient_barcode(
        unusual.values,
        unusual.of_group,
        name=patient.name,
        reference_name=name,
        unit=unusual.representation.unit,
    )
    title = f"Unusual against {group_name}"
    if not len(unusual.chosen):
        return Section(title, unusual.rule, [drawn], nothing=nothing), figures
    return Section(title, unusual.rule, [drawn], *_shown_against(patient, viewer, unusual), nothing), figures


def _shown_against(patient: Patient, viewer: Viewer, unusual: Against) -> tuple[list[Tile], list[Concept]]:
    """The cells that carry what is unusual, and each concept with its cells."""
    scale = np.zeros(patient.data.n_vars)
    scale[unusual.chosen] = len(patient.cells) / unusual.table.loc[unusual.chosen, "scale"]
    (parts,) = patch_parts(patient.counts, unusual.representation)
    cells = _tiles(
        patient,
        viewer,
        unusual.shown,
        parts[unusual.shown].toarray() * scale,
        [f"score {number(unusual.scores[i])}" for i in unusual.shown],
    )
    concepts = [
        Concept(
            viewer.title(int(latent)),
            [*_facts(unusual, int(latent)), *viewer.words(int(latent))],
            strongest_tiles(patient, viewer, int(latent)),
        )
        for latent in unusual.chosen
    ]
    return cells, concepts


def _facts(unusual: Against, latent: int) -> list[str]:
    row: dict[str, Any] = dict(unusual.table.loc[latent])
    name, kind = unusual.name, unusual.representation
    facts = [
        f"{number(row['patient'])} {kind.unit}, {name} {number(row['group'])}",
        f"t {row['t']:.1f}, false-discovery rate {row['fdr']:.2g}",
        f"{int(row['above'])} of {len(unusual.rows)} have as much",
    ]
    if kind != PAPER:
        facts.append(f"{number(row['count'])} {PAPER.unit}, {name} {number(row['group_count'])}")
    return facts


def _tiles(
    patient: Patient, viewer: Viewer, positions: NDArray[np.int64], weights: NDArray[np.float64], notes: Sequence[str]
) -> list[Tile]:
    """Cells with the patches that make their score: the sum of the weights of each patch's active latents.

    `weights` are of each cell, ``(n_shown, n_latents)``.
    """
    rows = viewer.token_rows.loc[patient.cells.index[positions].astype(str)].to_numpy()
    maps = []
    for tokens, weight in zip(viewer.tokens(rows), weights, strict=True):
        latents = np.flatnonzero(weight)
        active = _active(viewer, tokens, latents, patient.threshold)
        maps.append(np.maximum(active @ weight[latents], 0)[1:].reshape(viewer.grid))
    top = max(float(map_.max()) for map_ in maps)
    cells = viewer.source.cells.iloc[rows]
    images = map(cell_image, cells["path"], readings(cells))
    columns = zip(images, maps, cell_titles(patient, positions), notes, strict=True)
    return [Tile.from_map(pixels, map_, top, title, note) for pixels, map_, title, note in columns]


@torch.no_grad()
def _active(viewer: Viewer, tokens: torch.Tensor, latents: NDArray[np.int64], threshold: float) -> NDArray[np.float64]:
    """Whether h_ij[s] is above tau for some latents on every token, ``(n_tokens, n_chosen)``."""
    return (viewer.sae.encode(tokens)[:, torch.from_numpy(latents)] > threshold).double().numpy()


def _prediction(patient: Patient, viewer: Viewer, prediction: Prediction) -> tuple[Section, dict[str, Any]]:
    """What the classifier says, and the concepts and cells that carry it, as a section and as figures."""
    model, predicted, probability = prediction.model, prediction.predicted, prediction.probability
    ranked = ", ".join(f"{model.classes[c]} {probability[c]:.0%}" for c in np.argsort(-probability)[:3])
    known = patient.known(prediction.target)
    text = (
        f"{ranked}{'' if known is None else f' (the table says {known})'}, by a logistic regression on barcodes that "
        f"{'has not seen' if prediction.unseen else 'HAS SEEN'} this patient. The model is a sum, so what a concept "
        "adds to the class (over the mean of all classes, from the mean patient) is the sum of what the cells add, and "
        "theirs of what the patches add. The concepts and cells that add most are shown."
    )
    notes = [f"adds {prediction.cells[i]:+.2g}" for i in prediction.shown]
    patches = model.patch_weights(patient.counts, predicted)[prediction.shown].toarray()
    section = Section(
        "Prediction",
        text,
        cells=_tiles(patient, viewer, prediction.shown, patches, notes),
        concepts=[
            Concept(
                viewer.title(int(s)),
                [f"adds {prediction.adds[s]:+.2g}", *viewer.words(int(s))],
                strongest_tiles(patient, viewer, int(s)),
            )
            for s in prediction.concepts
        ],
    )
    return section, {
        "classes": dict(zip(model.classes, probability.tolist(), strict=True)),
        "predicted": predicted,
        "unseen": prediction.unseen,
        "concepts": [{"latent": int(s), "adds": float(prediction.adds[s])} for s in prediction.concepts],
        "cells": [{"cell": str(patient.cells.index[i]), "adds": float(prediction.cells[i])} for i in prediction.shown],
    }
