"""The cells of one patient that show a concept, and those unlike the cells of any other patient: numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.analysis.one_patient import LEAST, Patient, other_patients
from cytosae.cohort import (
    ByChance,
    Unfamiliar,
    cells_showing,
    expected_as_strong,
    number_by_chance,
    rows_of_cells,
    sure_cells,
    unfamiliar_cells,
)
from cytosae.concepts import is_common, read_cell_rows, read_concepts, read_datasets
from cytosae.errors import CytosaeError

COMPARED = 4096
"""Cells that a patient's are compared with, as many of each patient, at most."""
OTHERS = "other patients"
"""In place of a diagnosis: everybody else."""
COMMON = 0.99
"""Concepts of a larger share of the cells do not help to compare cells."""

ReadCells = Callable[[str, NDArray[np.int64]], tuple[sp.csr_matrix, sp.csr_matrix]]
"""Counts a_i[s] and means m_i[s] of some rows of a data set."""


@dataclass(frozen=True)
class DrawnCells:
    """Cells of all patients, drawn to compare with."""

    dataset: NDArray[np.object_]
    """Data set of each cell, ``(n_cells,)``."""
    row: NDArray[np.int64]
    """Its row there, ``(n_cells,)``."""
    patient: NDArray[np.int64]
    """Row of its patient in the barcodes, ``(n_cells,)``."""
    counts: sp.csr_matrix
    means: sp.csr_matrix


def draw_cells(patients: Mapping[str, NDArray[np.int64]], read: ReadCells) -> DrawnCells:
    """Draw as many cells of each patient, `COMPARED` in all at most, and all of those who have fewer.

    Parameters
    ----------
    patients
        Row of each cell's patient in the barcodes, negative for nobody, by data set.
    read
        Reads cells.
    """
    owners = np.concatenate(list(patients.values()))
    each = max(COMPARED // max(len(np.unique(owners[owners >= 0])), 1), 1)
    datasets, rows, drawn = [], [], []
    for name, of_dataset in patients.items():
        for patient in np.unique(of_dataset[of_dataset >= 0]):
            own = np.flatnonzero(of_dataset == patient)
            rng = np.random.default_rng([int(patient), 17])
            chosen = np.sort(rng.permutation(own)[:each])
            datasets += [name] * len(chosen)
            rows.append(chosen)
            drawn.append(np.full(len(chosen), patient))
    named, of_row, of_patient = np.array(datasets, object), np.concatenate(rows), np.concatenate(drawn)
    parts = [read(name, of_row[named == name]) for name in patients]
    counts, means = (sp.csr_matrix(sp.vstack(blocks)) for blocks in zip(*parts, strict=True))
    return DrawnCells(named, of_row, of_patient, counts, means)


def read_drawn_cells(study: Path, data: ad.AnnData) -> DrawnCells:
    """`draw_cells` of a study, by barcodes of its patients."""
    concepts = study / "concepts"
    tables = {name: read_concepts(concepts, name, matrices=False).obs for name in read_datasets(concepts)}
    joined = pd.concat([table.reset_index().assign(dataset=name) for name, table in tables.items()], ignore_index=True)
    owners = rows_of_cells(joined, data)
    ends = np.cumsum([0, *(len(table) for table in tables.values())])
    patients = {name: owners[ends[i] : ends[i + 1]] for i, name in enumerate(tables)}
    return draw_cells(patients, partial(read_cell_rows, concepts))


@dataclass(frozen=True)
class Shown:
    """The cells of a patient that show a concept."""

    latent: int
    group: str
    cells: NDArray[np.int64]
    """Their places, by falling m_i[s]."""
    values: NDArray[np.float64]
    """m_i[s]."""
    patches: NDArray[np.int64]
    """a_i[s]."""
    expected: NDArray[np.float64]
    """Cells with as much that a patient of the group with as many cells has."""
    sure: int
    """So many of the first, of which a tenth at most is expected by chance."""
    chance: ByChance

    def sentence(self, n_cells: int) -> str:
        """What was found, beside what is expected."""
        c = self.chance
        count = f"{len(self.cells)} of {n_cells} cells show it (a patch above tau)"
        by_chance = f"{c.expected:.1f} are expected in a patient of the {c.patients} {self.group} with as many cells"
        interval = f"95 % interval of one such patient {c.low:.0f} to {c.high:.0f}, p {c.p:.2g}"
        more = f"{c.at_least} of {c.patients} have as large a share"
        sure = (
            f"of the first {self.sure} a tenth at most is expected by chance"
            if self.sure
            else "however few of the first are taken, more than a tenth is expected by chance"
        )
        return f"{count}; {by_chance} ({interval}; {more}). In the order below, {sure}."

    def record(self, patient: Patient) -> dict[str, Any]:
        """As JSON, with every cell."""
        names = patient.cells.index[self.cells].astype(str)
        columns = zip(names, self.values, self.patches, self.expected, strict=True)
        listed = [
            {"cell": name, "value": float(v), "patches": int(a), "expected_as_strong": float(e)}
            for name, v, a, e in columns
        ]
        return {
            "latent": self.latent,
            "group": self.group,
            "found": len(listed),
            "sure": self.sure,
            "by_chance": asdict(self.chance),
            "cells": listed,
        }


def reference_group(patient: Patient, wanted: str) -> tuple[str, NDArray[np.int64]]:
    """Rows of the patients of a diagnosis, the patient left out; everybody else where there are not three of it.

    Raises
    ------
    CytosaeError
        There are not three other patients.
    """
    groups = other_patients(patient.data, patient.row) if "diagnosis" in patient.data.obs else {}
    if wanted in groups and len(groups[wanted]) >= LEAST:
        return f"{wanted} patients", groups[wanted]
    who = patient.data.obs["patient"].astype(str)
    rows = np.flatnonzero((who != who.iloc[patient.row]).to_numpy())
    if len(rows) < LEAST:
        raise CytosaeError(f"{patient.name}: there are {len(rows)} other patients; three at least are needed.")
    return OTHERS, rows


def cells_of_concept(patient: Patient, drawn: DrawnCells, latent: int, wanted: str) -> Shown:
    """All cells of a patient that show a concept, in order, and how many are expected by chance.

    Parameters
    ----------
    drawn
        Cells of all patients.
    latent
        The concept.
    wanted
        Diagnosis of the patients whose cells say what chance is; all other patients where there are not three of it.
    """
    name, group = reference_group(patient, wanted)
    counts, means = (matrix[:, [latent]].toarray()[:, 0] for matrix in (patient.counts, patient.means))
    cells = cells_showing(counts, means)
    n_cells = patient.data.obs["n_cells"].to_numpy()[group]
    others_show = np.rint(np.asarray(patient.data.layers["share"])[group, latent] * n_cells)
    chance = number_by_chance(len(cells), len(patient.cells), others_show, n_cells)
    inside = np.flatnonzero(np.isin(drawn.patient, group))
    shown, values = (matrix[inside][:, [latent]].toarray()[:, 0] for matrix in (drawn.counts, drawn.means))
    others = np.where(shown > 0, values, 0)
    expected = expected_as_strong(means[cells], len(patient.cells), others, drawn.patient[inside])
    return Shown(
        latent,
        name,
        cells,
        means[cells].astype(np.float64),
        counts[cells].astype(np.int64),
        expected,
        sure_cells(expected),
        chance,
    )


UNFAMILIAR_RULE = (
    "A cell is unfamiliar if its nearest cell of another patient is farther away than for 99 % of the other patients' "
    "cells, each of these patients left out in turn. Cells are compared by the share of their activation that each "
    "discovered concept has (Hellinger's distance, 0 to 1.41), with {compared:,} cells of {people} other patients."
)


@dataclass(frozen=True)
class UnfamiliarCells:
    """Cells of a patient unlike those of any other patient."""

    result: Unfamiliar
    drawn: DrawnCells
    compared: NDArray[np.int64]
    """Places of the drawn cells that were compared with."""
    people: int

    @property
    def rule(self) -> str:
        """In the words shown to the reader."""
        return UNFAMILIAR_RULE.format(compared=len(self.compared), people=self.people)

    def sentence(self) -> str:
        """What was found, beside what is expected."""
        r, c = self.result, self.result.chance
        return (
            f"{len(r.cells)} of {len(r.distances)} cells are farther than {r.threshold:.2f} from every cell of another "
            f"patient; {c.expected:.1f} are expected by chance (95 % interval of one more patient {c.low:.0f} to "
            f"{c.high:.0f}, p {c.p:.2g}). Of the other patients' own cells 1 % are, of one of them up to {r.highest:.0%}."
        )

    def record(self, patient: Patient) -> dict[str, Any]:
        """As JSON, with every unfamiliar cell."""
        r = self.result
        listed = [
            {
                "cell": str(patient.cells.index[cell]),
                "distance": float(r.distances[cell]),
                "nearest_patient": str(patient.data.obs_names[self.drawn.patient[self.compared[int(r.nearest[cell])]]]),
            }
            for cell in r.cells
        ]
        by_chance = asdict(r.chance)
        return {
            "found": len(listed),
            "threshold": r.threshold,
            "highest": r.highest,
            "by_chance": by_chance,
            "cells": listed,
        }


def patient_unfamiliar(patient: Patient, drawn: DrawnCells, var: pd.DataFrame) -> UnfamiliarCells | None:
    """Cells of a patient that resemble none of other patients; None with fewer than four others.

    Parameters
    ----------
    var
        Statistics of the latents, of the patient's data set.
    """
    who = patient.data.obs["patient"].astype(str).to_numpy()
    people = who[drawn.patient]
    compared = np.flatnonzero(people != who[patient.row])
    n_people = len(np.unique(people[compared]))
    if n_people < LEAST + 1:
        return None
    usable = var["is_concept"].to_numpy(bool) & ~is_common(var["activation_frequency"].to_numpy(), COMMON)
    result = unfamiliar_cells(patient.means, drawn.means[compared], people[compared], usable)
    return UnfamiliarCells(result, drawn, compared, n_people)
