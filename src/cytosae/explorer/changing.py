"""A concept of a cell is removed or amplified: what do the classifiers say, which cells does it move towards?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.cohort import CLASSIFICATION
from cytosae.concepts import spread_rows
from cytosae.errors import Unanswerable
from cytosae.explorer.caching import bounded, once
from cytosae.explorer.dataset import DataSet
from cytosae.explorer.images import encoded
from cytosae.explorer.neighbours import similar_cells
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.schemas import changing as s

if TYPE_CHECKING:
    from cytosae.analysis.concept_effects import LabelClassifier
    from cytosae.analysis.edited_classifier import EditableClassifier
    from cytosae.explorer.activations import Activations

MOST = 5.0
"""Times the activation, at most."""
_PROBE_BYTES = 64 * 2**20


@bounded(_PROBE_BYTES, lambda probe: 0 if probe is None else probe.deviation.nbytes * 20)
def _probe(data: DataSet) -> LabelClassifier | None:
    """Fitted on cells that are spread over the data set."""
    from cytosae.analysis.concept_effects import LabelClassifier  # imports what the start need not wait for

    column = data.column("label")
    rows = spread_rows(data.n_cells)
    if column is None:
        return None
    means = data.activations(rows)[1]
    return LabelClassifier.fit(means, np.asarray(column.codes)[rows], [str(name) for name in column.categories])


class Changing:
    """Answers what happens to a cell when a concept is changed.

    Parameters
    ----------
    reader
        Reads the study.
    activations
        Of its cells.
    """

    def __init__(self, reader: StudyReader, activations: Callable[[], Activations]) -> None:
        self._reader, self._activations = reader, activations
        self._classifier = once(self._open)

    def _open(self) -> EditableClassifier:
        from cytosae.analysis.edited_classifier import EditableClassifier  # imports scikit-learn

        return EditableClassifier.open(self._reader.barcodes, self._reader.barcodes.parent / CLASSIFICATION)

    def change(self, data: DataSet, row: int, latent: int, factor: float) -> s.Changed:
        """What follows where a concept of a cell is `factor` times as active.

        Raises
        ------
        CytosaeError
            No such cell or latent, a factor out of its range, tokens that cannot be read.
        """
        data.check_row(row)
        data.check_latent(latent)
        if not 0 <= factor <= MOST:
            raise Unanswerable(f"factor {factor:g}: give one from 0 (removed) to {MOST:g}.")
        means = sp.csr_matrix(data.activations([row])[1], dtype=np.float32)
        other = means.tolil()
        other[0, latent] = means[0, latent] * factor
        other = sp.csr_matrix(other)
        step = self._activations().step(data, row, latent, factor)
        top = float(step.max())
        return s.Changed(
            factor=factor,
            active=bool(means[0, latent] > 0),
            cell=self._of_cell(data, means, other),
            patient=self._of_patient(data, row, latent, factor),
            top=top,
            map=encoded(step, top),
            towards=similar_cells(data, other, row),
        )

    def effects(self, data: DataSet, latent: int) -> s.ConceptEffects:
        """What the classifiers say where a concept is removed or amplified, over the cells and patients that show it.

        Raises
        ------
        CytosaeError
            No such latent.
        """
        from cytosae.analysis.concept_effects import effect_on_cells, effect_on_patients, output_probe

        data.check_latent(latent)
        cells = patients = None
        if (probe := _probe(data)) is not None:
            rows = spread_rows(data.n_cells)
            people = data.column("patient")
            codes = np.full(len(rows), -1) if people is None else np.asarray(people.codes)[rows]
            cells = effect_on_cells(probe, data.activations(rows)[1], codes, latent, data.concepts)
        if self._reader.classified:
            patients = effect_on_patients(self._classifier(), latent)
        return s.ConceptEffects(
            cells=_changed_class(cells),
            patients=_changed_class(patients),
            output=[
                s.OutputChange(label=label, **changes)
                for label, changes in output_probe(self._reader.folder, latent).items()
            ],
        )

    def _of_cell(self, data: DataSet, before: sp.csr_matrix, after: sp.csr_matrix) -> s.ClassChanges | None:
        if (probe := _probe(data)) is None:
            return None
        pair = (probe.probabilities(means.toarray())[0] for means in (before, after))
        return _class_changes(str(probe), probe.names, *pair)

    def _of_patient(self, data: DataSet, row: int, latent: int, factor: float) -> s.ClassChanges | None:
        """The classifier of the patients, where all cells of the patient have `factor` times as much of the concept."""
        (patient,) = data.values("patient", [row])
        if patient is None or not self._reader.classified:
            return None
        from cytosae.analysis.concept_effects import changed_barcodes

        model = self._classifier()
        barcodes = model.task.data
        mine = np.flatnonzero(
            (barcodes.obs["patient"].astype(str) == patient) & (barcodes.obs["dataset"].astype(str) == data.name)
        )
        if not len(mine):
            return None
        own = barcodes[mine[:1]].copy()
        if (changed := changed_barcodes(own, latent, factor)) is None:
            return None
        values = model.classifier.representation.values(own)
        other = model.classifier.representation.values(changed)
        pair = (model.classifier.probabilities(one)[0] for one in (values, other))
        about = "the classifier of the patients, if all cells of this one had so many times as much"
        return _class_changes(about, list(model.classifier.classes), *pair)


def _changed_class(effect: dict[str, Any] | None) -> s.ChangedClass | None:
    if effect is None:
        return None
    over = effect["cells"] if "cells" in effect else effect["patients"]
    return s.ChangedClass(name=effect["class"], over=over, **effect)


def _class_changes(
    about: str, names: list[str], before: NDArray[np.float64], after: NDArray[np.float64]
) -> s.ClassChanges:
    order = np.argsort(-np.maximum(before, after), kind="stable")
    classes = [s.ClassChange(name=names[i], before=float(before[i]), after=float(after[i])) for i in order]
    return s.ClassChanges(by=about, classes=classes)
