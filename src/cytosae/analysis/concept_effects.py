"""What do the classifiers of cells and of patients say where a concept is removed or amplified?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from cytosae.artefacts import MANIFEST, read_json
from cytosae.cohort import BARCODES, CLASSIFICATION, COHORT
from cytosae.concepts import read_activations, read_concepts, read_datasets, spread_rows
from cytosae.concepts.quality.downstream import AMPLIFIED
from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights, group_codes

if TYPE_CHECKING:
    from anndata import AnnData
    from sklearn.linear_model import LogisticRegression

    from cytosae.analysis.edited_classifier import EditableClassifier

_LEAST, _CELLS = 10, 300
"""Cells of a label that a classifier needs; and cells that show a concept and are changed, at most."""
_QUALITY = Path("quality", "quality.json")


@dataclass(frozen=True)
class LabelClassifier:
    """A linear classifier of cell labels on the square roots of m_i[s]."""

    model: LogisticRegression
    deviation: NDArray[np.float32]
    names: list[str]
    cells: int

    @classmethod
    def fit(cls, means: sp.csr_matrix, codes: NDArray[np.integer], labels: list[str]) -> LabelClassifier | None:
        """Fit to cells; None with fewer than two labels of ten cells.

        Parameters
        ----------
        means
            m_i[s], ``(n_cells, n_latents)``.
        codes
            Number of each cell's label, negative where unknown, ``(n_cells,)``.
        labels
            Their names.
        """
        from cytosae.concepts.quality.probing import fitted_probe  # imports scikit-learn

        numbers = np.bincount(codes[codes >= 0], minlength=len(labels))
        used = (codes >= 0) & (numbers[codes] >= _LEAST)
        if len(np.unique(codes[used])) < 2:
            return None
        x = np.sqrt(means[used].toarray())
        deviation = x.std(axis=0) + 1e-3
        model = fitted_probe(x / deviation, codes[used].astype(np.int64))
        return cls(model, deviation, [labels[code] for code in model.classes_], int(used.sum()))

    def __str__(self) -> str:
        return f"a linear classifier of {len(self.names)} labels on the concepts of {self.cells} cells"

    def probabilities(self, means: NDArray[np.floating]) -> NDArray[np.float64]:
        """``(n_cells, n_labels)`` of cells with m_i[s] ``(n_cells, n_latents)``."""
        return np.asarray(self.model.predict_proba(np.sqrt(means) / self.deviation))


def changed_barcodes(barcodes: AnnData, latent: int, factor: float) -> AnnData | None:
    """Barcodes in which all cells have `factor` times as much of a concept; None where they do not have the latent."""
    latents = np.flatnonzero(barcodes.var_names.astype(str) == str(latent))
    if not len(latents):
        return None
    changed = barcodes.copy()
    changed.X = np.array(changed.X, np.float32)
    changed.X[:, latents] *= factor
    for name in {*changed.layers} - {None}:  # None: `X`, which anndata lists among the layers from 0.13 on
        layer = np.array(changed.layers[name], np.float32)
        layer[:, latents] *= factor
        changed.layers[name] = layer
    return changed


def effect_on_cells(
    classifier: LabelClassifier, means: sp.csr_matrix, patients: ArrayLike, latent: int, concepts: NDArray[np.bool_]
) -> dict[str, Any] | None:
    """What the classifier says less of some cells where a concept is removed, and where it is amplified.

    Parameters
    ----------
    classifier
        Of the cells' labels.
    means
        m_i[s] of cells, ``(n_cells, n_latents)``; those that show the concept are changed.
    patients
        Number of each cell's patient, -1 where unknown; drawn whole for the intervals, ``(n_cells,)``.
    latent
        The concept.
    concepts
        Which latents are concepts, ``(n_latents,)``: the one among them that is as strong in the same cells is the null.

    Returns
    -------
    See `concept_effects`; None where no cell shows it.
    """
    shown = np.flatnonzero(means[:, [latent]].toarray()[:, 0] > 0)
    shown = shown[np.linspace(0, len(shown) - 1, min(len(shown), _CELLS)).astype(int)] if len(shown) else shown
    if not len(shown):
        return None
    own = means[shown].toarray().astype(np.float32)

    def after(which: int, factor: float) -> NDArray[np.float64]:
        other = own.copy()
        other[:, which] *= factor
        return classifier.probabilities(other)

    units = group_codes(len(shown), np.asarray(patients)[shown])
    strength = np.where(concepts, own.mean(axis=0), 0)
    return {"by": str(classifier), "cells": len(shown), **_effect(classifier.names, after, latent, strength, units)}


def effect_on_patients(model: EditableClassifier, latent: int) -> dict[str, Any] | None:
    """What the classifier of all patients says less where all cells of a patient lack a concept, and where they have more.

    Of the patients who show it. See `concept_effects`; None where nobody does, or the classification has not the latent.
    """
    barcodes = model.task.data
    column = np.flatnonzero(barcodes.var_names.astype(str) == str(latent))
    counts = np.asarray(barcodes.X)
    shown = np.flatnonzero(counts[:, column[0]] > 0) if len(column) else column
    if not len(shown):
        return None
    mine = barcodes[shown].copy()

    def after(which: int, factor: float) -> NDArray[np.float64]:
        changed = changed_barcodes(mine, int(mine.var_names[which]), factor)
        assert changed is not None
        return model.classifier.probabilities(model.classifier.representation.values(changed))

    patients = np.asarray(pd.factorize(mine.obs["patient"].astype(str))[0])
    strength = np.where(barcodes.var["is_concept"].to_numpy(bool), counts[shown].mean(axis=0), 0)
    effect = _effect(list(model.classifier.classes), after, int(column[0]), strength, patients)
    effect["control"] = None if effect["control"] is None else int(mine.var_names[effect["control"]])
    return {"by": "the classifier of all patients", "patients": len(shown), **effect}


def concept_effects(study: Path, latent: int) -> dict[str, Any]:
    """What changes where a concept is removed (0) or amplified (3 times as active).

    Parameters
    ----------
    study
        With ``concepts/``; ``cohort/classification/`` and ``quality/`` add to it.
    latent
        The concept.

    Returns
    -------
    ``cells``, by data set: a linear classifier of cell labels on the concepts; ``patients``: the classifier of the patients;
    ``output_probe``, by label: a linear probe on the backbone's output, of concepts that `cytosae evaluate` found to stand
    for a label. What is unknown is left out. Of each the ``class`` that changes most when the concept is removed, the mean
    change of its probability, ``removed`` and ``amplified`` with ``low`` and ``high``, the ends of the 95 % interval over
    patients (or cells of unknown ones), and the same of ``control``, another concept that is as strong in these cells.

    Notes
    -----
    No example: needs a finished study; `cytosae concept` runs it.
    """
    effects: dict[str, Any] = {}
    folder = study / "concepts"
    for dataset in read_datasets(folder):
        data = read_concepts(folder, dataset, matrices=False)
        if "label" not in data.obs:
            continue
        rows = spread_rows(data.n_obs)
        means = read_activations(folder, dataset, rows)[1]
        labels = data.obs["label"].astype("category").cat
        classifier = LabelClassifier.fit(
            means, labels.codes.to_numpy()[rows], [str(name) for name in labels.categories]
        )
        if classifier is None:
            continue
        patients = pd.factorize(data.obs["patient"])[0][rows] if "patient" in data.obs else np.full(len(rows), -1)
        found = effect_on_cells(classifier, means, patients, latent, data.var["is_concept"].to_numpy(bool))
        if found is not None:
            effects.setdefault("cells", {})[dataset] = found
    if (found := _of_patients(study, latent)) is not None:
        effects["patients"] = found
    if probed := output_probe(study, latent):
        effects["output_probe"] = probed
    return effects


def output_probe(study: Path, latent: int) -> dict[str, Any]:
    """What `cytosae evaluate` found on the backbone's output, by label; empty where it did not change this concept."""
    path = study / _QUALITY
    changes = read_json(path).get("concept_changes", []) if path.is_file() else []
    keys = ("removed", "amplified", "control", "control_removed", "control_amplified")
    return {row["label"]: {key: row[key] for key in keys} for row in changes if row["latent"] == latent}


def _of_patients(study: Path, latent: int) -> dict[str, Any] | None:
    barcodes = study / COHORT / BARCODES
    folder = barcodes.parent / CLASSIFICATION
    if not (folder / MANIFEST).is_file() or not barcodes.is_file():
        return None
    from cytosae.analysis.edited_classifier import EditableClassifier  # imports scikit-learn
    from cytosae.errors import CytosaeError

    try:
        return effect_on_patients(EditableClassifier.open(barcodes, folder), latent)
    except CytosaeError:  # of other barcodes, or of an earlier version: the passport does without
        return None


def _effect(
    classes: list[str],
    after: Callable[[int, float], NDArray[np.float64]],
    latent: int,
    strength: NDArray[np.floating],
    units: NDArray[np.int64],
) -> dict[str, Any]:
    """The class whose mean probability changes most, by how much, and what a concept of the same strength does to it."""
    before = after(latent, 1.0)
    removed = after(latent, 0.0) - before
    column = int(np.abs(removed.mean(axis=0)).argmax())
    distance = np.abs(np.log(np.maximum(strength, 1e-12)) - np.log(max(float(strength[latent]), 1e-12)))
    distance[strength <= 0] = np.inf
    distance[latent] = np.inf
    control = int(distance.argmin()) if np.isfinite(distance.min()) else None
    weights = bootstrap_weights(units)
    weights = weights[weights.sum(axis=1) > 0]

    def mean(changes: NDArray[np.float64]) -> dict[str, float]:
        values = changes[:, column]
        figure = Estimate.from_draws(values.mean(), weights @ values / weights.sum(axis=1))
        return {"value": figure.value, "low": figure.low, "high": figure.high}

    moves = {"removed": (removed, 0.0), "amplified": (after(latent, AMPLIFIED) - before, AMPLIFIED)}
    result: dict[str, Any] = {"class": classes[column], "control": control}
    for name, (changes, factor) in moves.items():
        result[name] = mean(changes)
        if control is not None:
            result[f"control_{name}"] = mean(after(control, factor) - before)
    return result
