"""Features of the baselines: the same patients described by their tokens instead of their concepts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.cohort.multiple_instance import Bags
from cytosae.concepts import read_concepts, read_datasets, stream_concepts
from cytosae.console import progress
from cytosae.errors import CytosaeError
from cytosae.tokens import TokenSource

_BATCH = 64


@dataclass(frozen=True)
class PatientTokens:
    """Tokens of patients, by row of the barcodes."""

    cls: NDArray[np.float32]
    """Mean CLS token over the patient's cells, ``(n_rows, d_model)``."""
    patches: NDArray[np.float32]
    """Mean over all patch tokens of the patient's cells, ``(n_rows, d_model)``."""
    largest: NDArray[np.float32]
    """Largest value of each dimension over a cell's patch tokens, mean over the patient's cells; ``(n_rows, d_model)``."""
    bags: Bags
    """CLS tokens of all cells."""

    def pooled(self) -> dict[str, NDArray[np.float32]]:
        """Features of each baseline that pools tokens, by its name."""
        return {
            "mean CLS token": self.cls,
            "mean patch token": self.patches,
            "mean and maximum of patch tokens": np.concatenate([self.patches, self.largest], axis=1),
        }


def rows_of_cells(cells: pd.DataFrame, data: ad.AnnData) -> NDArray[np.int64]:
    """Row of the barcodes to which each cell belongs, negative for cells of nobody there, ``(n_cells,)``.

    Raises
    ------
    CytosaeError
        The table lacks cells of a patient, or has more of them than the barcode counted.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    key = cells["dataset"].astype(str) + "\n" + cells["patient"].astype(str)
    if "cell_type" in data.obs:
        key = key + "\n" + cells["label"].astype(str)
    obs = data.obs[["dataset", "patient", *(["cell_type"] if "cell_type" in data.obs else [])]].astype(str)
    row_of_cell = {name: row for row, name in enumerate(obs.agg("\n".join, axis=1))}
    rows = key.map(row_of_cell).fillna(-1).to_numpy(np.int64)
    counts = np.bincount(rows[rows >= 0], minlength=data.n_obs)
    barcode = data.obs["n_cells"].to_numpy()
    if (wrong := np.flatnonzero(counts != barcode)).size:
        row = int(wrong[0])
        raise CytosaeError(
            f"the table has {counts[row]} cells of {data.obs_names[row]}, the barcode {barcode[row]}. Give the tokens or "
            "labels of the cells that the barcodes were made of."
        )
    return rows


def patient_tokens(source: TokenSource, data: ad.AnnData) -> PatientTokens:
    """Gather the tokens of the cells that the barcodes were made of.

    Parameters
    ----------
    source
        Tokens of these cells; cells of other patients are passed over.
    data
        Barcodes of patients.

    Raises
    ------
    CytosaeError
        The tokens lack cells of a patient, or have more of them than the barcode counted.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    patient_rows = rows_of_cells(source.cells, data)
    wanted = np.flatnonzero(patient_rows >= 0)
    cls = np.zeros((len(wanted), source.layout.d_model), np.float32)
    patches, largest = np.zeros_like(cls), np.zeros_like(cls)
    with progress("tokens of patients", len(wanted), "cells") as bar:
        batches = [wanted[i : i + _BATCH] for i in range(0, len(wanted), _BATCH)]
        done = 0
        for tokens in source.stream(batches):
            cls[done : done + len(tokens)] = tokens[:, 0].float().numpy()
            patches[done : done + len(tokens)] = tokens[:, 1:].float().mean(dim=1).numpy()
            largest[done : done + len(tokens)] = tokens[:, 1:].float().amax(dim=1).numpy()
            done += len(tokens)
            bar.to(done)
    cell_rows = [np.flatnonzero(patient_rows[wanted] == row) for row in range(data.n_obs)]

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([values[rows].mean(axis=0) for rows in cell_rows])

    return PatientTokens(mean(cls), mean(patches), mean(largest), Bags(cls, cell_rows))


WIDEST = 512
"""Latents of the concept counts that a multiple-instance model sees."""


def count_bags(concepts: Path, data: ad.AnnData) -> Bags:
    """log(1 + a_i[s]) of the cells that barcodes were made of, for the `WIDEST` latents that vary most over all cells.

    Parameters
    ----------
    concepts
        Folder of the concepts.
    data
        Barcodes of patients.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    tables = [
        read_concepts(concepts, name, matrices=False).obs.reset_index().assign(dataset=name)
        for name in read_datasets(concepts)
    ]
    rows = rows_of_cells(pd.concat(tables, ignore_index=True), data)
    moments = np.zeros((2, data.n_vars))
    for values, _ in _log_counts(concepts, rows):
        moments += np.asarray(values.sum(axis=0)).ravel(), np.asarray(values.multiply(values).sum(axis=0)).ravel()
    wanted = int((rows >= 0).sum())
    variance = moments[1] / wanted - (moments[0] / wanted) ** 2
    latents = np.sort(np.argsort(-variance, kind="stable")[:WIDEST])
    chosen = [(values[:, latents].toarray(), own) for values, own in _log_counts(concepts, rows)]
    cells, owners = (np.concatenate(arrays) for arrays in zip(*chosen, strict=True))
    return Bags(cells.astype(np.float32), [np.flatnonzero(owners == row) for row in range(data.n_obs)])


def _log_counts(concepts: Path, rows: NDArray[np.int64]) -> Iterator[tuple[sp.csr_matrix, NDArray[np.int64]]]:
    """log(1 + a_i[s]) of the cells that belong to a row, and their rows, some cells at a time."""
    done = 0
    for name in read_datasets(concepts):
        length = 0
        for start, counts, _ in stream_concepts(concepts, name):
            own = rows[done + start : done + start + counts.shape[0]]
            length = start + counts.shape[0]
            yield sp.csr_matrix(counts[own >= 0].astype(np.float64).log1p()), own[own >= 0]
        done += length
