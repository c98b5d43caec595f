"""A concept of a cell is removed or amplified: what do the classifiers say, which cells does it move towards?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    from sklearn.linear_model import LogisticRegression

    from cytosae.analysis.edited_classifier import EditableClassifier
    from cytosae.explorer.activations import Activations

MOST = 5.0
"""Times the activation, at most."""
_LEAST, _PROBE_BYTES = 10, 64 * 2**20


@dataclass(frozen=True)
class _Probe:
    """A linear classifier of cell labels on the square roots of m_i[s]."""

    model: LogisticRegression
    deviation: NDArray[np.float32]
    cells: int

    def probabilities(self, means: sp.csr_matrix) -> NDArray[np.float64]:
        """``(n_labels,)`` of a cell."""
        return np.asarray(self.model.predict_proba(np.sqrt(means.toarray()) / self.deviation))[0]


@bounded(_PROBE_BYTES, lambda probe: 0 if probe is None else probe.deviation.nbytes * 20)
def _probe(data: DataSet) -> _Probe | None:
    """Fitted on cells that are spread over the data set; None with fewer than two labels of ten cells."""
    from cytosae.concepts.quality.probing import fitted_probe  # imports scikit-learn

    column = data.column("label")
    rows = spread_rows(data.n_cells)
    if column is None:
        return None
    codes = np.asarray(column.codes)[rows]
    numbers = np.bincount(codes[codes >= 0], minlength=len(column.categories))
    used = (codes >= 0) & (numbers[codes] >= _LEAST)
    if len(np.unique(codes[used])) < 2:
        return None
    x = np.sqrt(data.activations(rows[used])[1].toarray())
    deviation = x.std(axis=0) + 1e-3
    return _Probe(fitted_probe(x / deviation, codes[used].astype(np.int64)), deviation, int(used.sum()))


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

    def _of_cell(self, data: DataSet, before: sp.csr_matrix, after: sp.csr_matrix) -> s.ClassChanges | None:
        probe, column = _probe(data), data.column("label")
        if probe is None or column is None:
            return None
        names = [str(column.categories[code]) for code in probe.model.classes_]
        pair = (probe.probabilities(means) for means in (before, after))
        about = f"a linear classifier of {len(names)} labels on the concepts of {probe.cells} cells"
        return _class_changes(about, names, *pair)

    def _of_patient(self, data: DataSet, row: int, latent: int, factor: float) -> s.ClassChanges | None:
        """The classifier of the patients, where all cells of the patient have `factor` times as much of the concept."""
        (patient,) = data.values("patient", [row])
        if patient is None or not self._reader.classified:
            return None
        model = self._classifier()
        barcodes = model.task.data
        mine = np.flatnonzero(
            (barcodes.obs["patient"].astype(str) == patient) & (barcodes.obs["dataset"].astype(str) == data.name)
        )
        latents = np.flatnonzero(barcodes.var_names.astype(str) == str(latent))
        if not len(mine) or not len(latents):
            return None
        values = model.classifier.representation.values(barcodes[mine[:1]].copy())
        changed = barcodes[mine[:1]].copy()
        changed.X = np.array(changed.X, np.float32)
        changed.X[:, latents] *= factor
        for name in {*changed.layers} - {None}:  # None: `X`, which anndata lists among the layers from 0.13 on
            layer = np.array(changed.layers[name], np.float32)
            layer[:, latents] *= factor
            changed.layers[name] = layer
        other = model.classifier.representation.values(changed)
        pair = (model.classifier.probabilities(one)[0] for one in (values, other))
        about = "the classifier of the patients, if all cells of this one had so many times as much"
        return _class_changes(about, list(model.classifier.classes), *pair)


def _class_changes(
    about: str, names: list[str], before: NDArray[np.float64], after: NDArray[np.float64]
) -> s.ClassChanges:
    order = np.argsort(-np.maximum(before, after), kind="stable")
    classes = [s.ClassChange(name=names[i], before=float(before[i]), after=float(after[i])) for i in order]
    return s.ClassChanges(by=about, classes=classes)
