"""Barcodes and predictions of new patients, from tokens of their cells."""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.analysis.classification_files import CARRYING
from cytosae.analysis.encoded_cells import encoded_groups
from cytosae.analysis.frozen_study import FrozenStudy
from cytosae.cohort import CountSums, patient_names, strongest
from cytosae.concepts import Familiarity
from cytosae.console import progress
from cytosae.tokens import LiveTokens


@dataclass(frozen=True)
class NewPatients:
    """Barcodes of new patients and what the model of all training patients makes of them."""

    data: ad.AnnData
    """``X`` and layers as in the study's barcodes; ``obs``: ``patient``, ``dataset``, ``n_cells``, and what the table states
    of the target, if anything.
    """
    predictor: NDArray[np.float64]
    """Linear predictor, ``(n_patients, n_outputs)``; see `cytosae.cohort.LinearModel`."""
    concepts: list[dict[str, float]]
    """What the latents that carry the prediction most add to it, of each patient: to the logit of the predicted class; of
    numbers and hazards, to what is above the mean training patient, or below, where the prediction is below.
    """
    cells: list[dict[str, float]]
    """What the cells that carry it most add."""
    far: list[int | None]
    """Cells that lie far from those of the study, of each patient; None where that is not known."""


def predicted(
    frozen: FrozenStudy, source: LiveTokens, most: int, device: str, familiar: Familiarity | None = None
) -> NewPatients:
    """Predict the patients of some cells one after the other, so that the cells of one are in memory at a time.

    Parameters
    ----------
    source
        Tokens of cells that all have a patient.
    most
        Cells kept of each patient.
    familiar
        What the study's cells look like.
    """
    model = frozen.model
    grouped = source.cells.astype({"dataset": str, "patient": str}).groupby(["dataset", "patient"], sort=True)
    codes = np.asarray(grouped.ngroup(), np.int64)
    patients = [np.flatnonzero(codes == code) for code in range(grouped.ngroups)]
    ids = source.cells["cell_id"].astype(str).to_numpy()
    latents = np.arange(frozen.training.n_vars).astype(str)
    sums, predictor, concepts, cells, beyond = [], [], [], [], []
    with progress("predict", source.n_cells, "cells") as bar:
        encoded = encoded_groups(source, patients, frozen.sae, frozen.threshold, device, bar.to)
        for rows, (counts, _, summaries) in zip(patients, encoded, strict=True):
            one = CountSums.empty(1, counts.shape[1])
            one.add(counts, np.zeros(len(rows), np.int64))
            (values,) = model.representation.values(ad.AnnData(one.barcodes(), layers=one.layers()))
            (of_outputs,) = model.linear_predictor(values[None])
            name = model.outputs[int(of_outputs.argmax())]
            adds = model.concept_contributions(values, name)
            below = len(model.outputs) == 1 and adds.sum() < 0
            concepts.append(_carrying(adds, latents, CARRYING, below))
            cells.append(_carrying(model.cell_contributions(counts, name), ids[rows], most, below))
            sums.append(one)
            beyond.append(None if familiar is None else int(familiar.far(summaries, counts).sum()))
            predictor.append(of_outputs)
    obs = grouped.size().rename("n_cells").reset_index()
    obs["stated"] = grouped[frozen.target].first().to_numpy() if frozen.target in source.cells else None
    obs.index = pd.Index(patient_names(obs).astype(str).to_numpy())
    layers = [one.layers() for one in sums]
    data = ad.AnnData(
        np.concatenate([one.barcodes() for one in sums]),
        obs,
        layers={name: np.concatenate([of_one[name] for of_one in layers]) for name in layers[0]},
    )
    return NewPatients(data, np.stack(predictor), concepts, cells, beyond)


def _carrying(
    adds: NDArray[np.float64], names: NDArray[np.str_] | NDArray[np.object_], most: int, below: bool
) -> dict[str, float]:
    """What adds most, or takes most away, by name."""
    return {str(names[i]): float(adds[i]) for i in strongest(-adds if below else adds, most)}
