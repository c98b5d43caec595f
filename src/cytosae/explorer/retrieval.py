"""Cells of one patient: all that show a concept, and those unlike the cells of any other patient."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.analysis.patient_cells import DrawnCells, cells_of_concept, draw_cells, patient_unfamiliar
from cytosae.explorer.caching import once
from cytosae.explorer.cohorts import Cohort, cell_fields
from cytosae.explorer.dataset import DataSet, category
from cytosae.explorer.reader import HEALTHY, StudyReader
from cytosae.explorer.schemas import patient_cells as s


class Retrieval:
    """Cells of a patient, beside cells of all patients that are drawn when they are first asked for.

    Parameters
    ----------
    reader
        Reads the study.
    cohort
        Its patients.
    """

    def __init__(self, reader: StudyReader, cohort: Cohort) -> None:
        self._reader, self._cohort = reader, cohort
        self._drawn = once(self._draw)

    def _draw(self) -> DrawnCells:
        """Cells of all patients."""
        data, owners = self._cohort.barcodes, {}
        for name, source in self._reader.datasets.items():
            column = source.column("patient")
            rows = np.full(source.n_cells, -1, np.int64)
            for row in np.flatnonzero((data.obs["dataset"].astype(str) == name).to_numpy()):
                code = -1 if column is None else category(column, str(data.obs["patient"].iloc[row]))
                if column is not None and code >= 0:
                    rows[column.codes == code] = row
            owners[name] = rows
        return draw_cells(owners, lambda name, rows: self._reader.datasets[name].activations(rows))

    def concept(self, name: str, latent: int, against: str = HEALTHY) -> s.ConceptCells:
        """All cells of a patient that show a concept.

        Parameters
        ----------
        name
            The patient.
        latent
            The concept.
        against
            Diagnosis of the patients that say what chance is.

        Raises
        ------
        CytosaeError
            No such patient or latent, or fewer than three other patients.
        """
        self._reader.first.check_latent(latent)
        patient, source, rows = self._cohort.open_patient(name)
        shown = cells_of_concept(patient, self._drawn(), latent, against)
        columns = zip(_cells(source, rows[shown.cells]), shown.values, shown.patches, shown.expected, strict=True)
        return s.ConceptCells(
            latent=latent,
            group=shown.group,
            n_cells=len(rows),
            cells=[s.ConceptCell(**cell, score=v, patches=int(a), expected=e) for cell, v, a, e in columns],
            sure=shown.sure,
            chance=s.Chance(**asdict(shown.chance)),
        )

    def unfamiliar(self, name: str) -> s.UnfamiliarAnswer:
        """Cells of a patient unlike those of any other patient.

        Raises
        ------
        CytosaeError
            No such patient.
        """
        patient, source, rows = self._cohort.open_patient(name)
        drawn = self._drawn()
        unfamiliar_cells = patient_unfamiliar(patient, drawn, source.var)
        if unfamiliar_cells is None:
            return s.UnfamiliarAnswer(unlike=None)
        result, cells = unfamiliar_cells.result, unfamiliar_cells.result.cells
        places = unfamiliar_cells.compared[result.nearest[cells]]
        far = [
            s.FarCell(
                **cell,
                score=float(distance),
                nearest=self._drawn_cell(drawn, int(index), float(distance)),
                nearest_patient=str(patient.data.obs_names[drawn.patient[index]]),
            )
            for cell, distance, index in zip(_cells(source, rows[cells]), result.distances[cells], places, strict=True)
        ]
        return s.UnfamiliarAnswer(
            unlike=s.FarCells(
                rule=unfamiliar_cells.rule,
                n_cells=len(rows),
                threshold=result.threshold,
                cells=far,
                highest=result.highest,
                chance=s.Chance(**asdict(result.chance)),
            )
        )

    def _drawn_cell(self, drawn: DrawnCells, index: int, score: float) -> s.ScoredCell:
        source = self._reader.dataset(str(drawn.dataset[index]))
        (cell,) = _cells(source, drawn.row[[index]])
        return s.ScoredCell(**cell, score=score)


def _cells(source: DataSet, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    return [cell_fields(source, ref) for ref in source.refs(rows)]
