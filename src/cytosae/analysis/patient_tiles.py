"""Cells of a patient as the page shows them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.analysis.one_patient import Patient
from cytosae.analysis.patient_cells import Shown, UnfamiliarCells
from cytosae.analysis.viewing import Viewer, cell_image
from cytosae.cells import readings
from cytosae.report import Concept, Section, Tile, number

_CELLS_PER_CONCEPT = 10  # cells shown for a concept
_MOST = 200  # cells drawn of a list


def cell_titles(patient: Patient, positions: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """The label of some cells of the patient."""
    labels = patient.cells["label"] if "label" in patient.cells else pd.Series(None, index=patient.cells.index)
    return [str(labels.iloc[i]).replace("_", " ") if pd.notna(labels.iloc[i]) else "unlabelled" for i in positions]


def concept_tiles(
    patient: Patient, viewer: Viewer, latent: int, positions: NDArray[np.int64], notes: Sequence[str]
) -> list[Tile]:
    """Some cells of the patient with the map of a latent."""
    row = viewer.shown(
        "", latent, patient.cells.index[positions].astype(str).to_numpy(object), np.zeros(len(positions))
    )
    return [
        Tile.from_map(image, map_, row.top, title, note)
        for image, map_, title, note in zip(row.images, row.maps, cell_titles(patient, positions), notes, strict=True)
        if image is not None and map_ is not None
    ]


def strongest_tiles(patient: Patient, viewer: Viewer, latent: int) -> list[Tile]:
    """The patient's cells with the largest m_i[s], with the map of the latent."""
    values = patient.means[:, [latent]].toarray()[:, 0]
    positions = np.argsort(-values, kind="stable")[:_CELLS_PER_CONCEPT]
    positions = positions[values[positions] > 0]
    return concept_tiles(patient, viewer, latent, positions, [number(value) for value in values[positions]])


def shown_section(patient: Patient, viewer: Viewer, shown: Shown) -> Section:
    """All cells of the patient that show a concept, in order."""
    drawn = slice(0, _MOST)
    pairs = zip(shown.values[drawn], shown.expected[drawn], strict=True)
    notes = [f"{number(value)}, {expected:.1f}" for value, expected in pairs]
    text = shown.sentence(len(patient.cells))
    if len(shown.cells) > _MOST:
        text += f" The first {_MOST} are drawn; `--json` and the explorer list all."
    tiles = concept_tiles(patient, viewer, shown.latent, shown.cells[drawn], notes)
    title = viewer.title(shown.latent)
    concepts = (
        [Concept(title, ["mean activation, and how many as strong are expected by chance"], tiles)] if tiles else []
    )
    return Section(f"Cells that show {title[0].lower()}{title[1:]}", text, concepts=concepts)


def unfamiliar_section(patient: Patient, viewer: Viewer, unfamiliar: UnfamiliarCells, most: int) -> Section:
    """Cells of the patient unlike those of any other patient."""
    result, names = unfamiliar.result, patient.data.obs_names
    positions = result.cells[:most]
    rows = viewer.token_rows.loc[patient.cells.index[positions].astype(str)].to_numpy()
    about = viewer.source.cells.iloc[rows]
    nearest = unfamiliar.drawn.patient[unfamiliar.compared[result.nearest[positions]]]
    notes = [
        f"{distance:.2f}, {names[row]}" for distance, row in zip(result.distances[positions], nearest, strict=True)
    ]
    plain = np.zeros(viewer.grid)
    images = (cell_image(*cell) for cell in zip(about["path"], readings(about), strict=True))
    columns = zip(images, cell_titles(patient, positions), notes, strict=True)
    cells = [Tile.from_map(image, plain, 1.0, title, note) for image, title, note in columns]
    title = "Distance to the nearest cell of another patient, and whose it is"
    nothing = "" if cells else "Every cell resembles a cell of another patient."
    text = f"{unfamiliar.sentence()} {unfamiliar.rule}"
    return Section("Cells unlike those of any other patient", text, cells=cells, nothing=nothing, cells_title=title)
