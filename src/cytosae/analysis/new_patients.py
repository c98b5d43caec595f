"""Barcodes and predictions of new patients, from tokens of their cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.analysis.classification_files import CARRYING
from cytosae.analysis.frozen_study import FrozenStudy
from cytosae.cohort import CountSums, patient_names, strongest
from cytosae.concepts import Familiarity, cell_activations, cell_summaries
from cytosae.concepts.work_units import BATCH, Encoder
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
        for rows, counts, far in _counts(frozen, source, patients, device, familiar):
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
            beyond.append(far)
            predictor.append(of_outputs)
            bar.to(bar.done + len(rows))
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


def _counts(
    frozen: FrozenStudy,
    source: LiveTokens,
    patients: list[NDArray[np.int64]],
    device: str,
    familiar: Familiarity | None,
) -> Iterator[tuple[NDArray[np.int64], sp.csr_matrix, int | None]]:
    """The rows of each patient with their counts a_i[s], ``(n_cells, n_latents)``, and how many lie far."""
    encoder = Encoder.from_sae(source, frozen.sae, device)
    sae = encoder.sae()
    tokens = encoder.source.stream(rows[i : i + BATCH] for rows in patients for i in range(0, len(rows), BATCH))
    for rows in patients:
        batches, summaries = [], []
        for _ in range(0, len(rows), BATCH):
            some = next(tokens)
            batches.append(cell_activations(sae, some, frozen.threshold, encoder.precision)[0])
            summaries.append(cell_summaries(some))
        counts = sp.csr_matrix(sp.vstack(batches))
        yield rows, counts, None if familiar is None else int(familiar.far(np.concatenate(summaries), counts).sum())


def _carrying(
    adds: NDArray[np.float64], names: NDArray[np.str_] | NDArray[np.object_], most: int, below: bool
) -> dict[str, float]:
    """What adds most, or takes most away, by name."""
    return {str(names[i]): float(adds[i]) for i in strongest(-adds if below else adds, most)}
