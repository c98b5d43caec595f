"""A patient who is not in a study, from images of the cells, as one more row of its barcodes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from cytosae.analysis.encoded_cells import encoded_groups
from cytosae.analysis.one_patient import Patient
from cytosae.analysis.viewing import further_tokens, saved_backbone, study_framing, study_layout
from cytosae.cohort import CountSums, read_barcodes
from cytosae.concepts import (
    check_fit,
    read_datasets,
    read_dictionary,
    read_familiarity,
    read_parameters,
)
from cytosae.console import progress
from cytosae.errors import CytosaeError, NotFound
from cytosae.study import look_at
from cytosae.tokens import LiveTokens


@contextmanager
def open_further_patient(
    study: Path,
    barcodes: Path,
    name: str,
    images: Path,
    caveats: list[str],
    *,
    columns: Mapping[str, str] | None = None,
    device: str = "auto",
) -> Iterator[tuple[Patient, LiveTokens]]:
    """A patient beside those of a study, with tokens of the cells; nothing of the study changes.

    The images pass the study's frame, backbone, autoencoder and tau. Cells without a patient are taken as this patient's.

    Parameters
    ----------
    study
        The study; needs its concepts and barcodes.
    barcodes
        Of the study's patients.
    name
        The new patient.
    images
        The cells, see `cytosae.cells.read_source`.
    caveats
        Gets a line if the cells look unlike those of the study.
    columns
        Which column of the table is a known one.
    device
        Where the backbone runs.

    Raises
    ------
    CytosaeError
        The study has a patient of this name, no cell is this patient's, or an autoencoder of another backbone.
    """
    data = read_barcodes(barcodes, pooled=True, concepts=study / "concepts")
    if name in set(data.obs_names) | set(data.obs["patient"].astype(str)):
        raise CytosaeError(f"{name}: the study has a patient of this name. Leave --new out, or choose another name.")
    backbone = saved_backbone(study, device)
    sae = read_dictionary(study)
    check_fit(study_layout(study, backbone), sae)
    listed = look_at(images, study / "cells-of-new-patient.parquet", columns=columns, framing=study_framing(study))
    cells = _of_patient(listed.cells, name, images)
    source = further_tokens(study, cells, backbone)
    try:
        threshold = float(read_parameters(study / "concepts")["threshold"])
        with progress("patient", len(cells), "cells") as bar:
            ((counts, means, summaries),) = encoded_groups(
                source, [np.arange(len(cells))], sae, threshold, device, bar.to
            )
        familiar = read_familiarity(study, sae)
        if familiar is not None:
            far = int(familiar.far(summaries, counts).sum())
            if (sentence := familiar.sentence(far, len(cells), "the patient's cells")) is not None:
                caveats.append(sentence)
        joined = _with_row(data, name, cells, counts, read_datasets(study / "concepts"))
        about = cells.set_index(cells["cell_id"].astype(str))
        yield Patient(joined, joined.n_obs - 1, about, counts, means, threshold), source
    finally:
        source.close()


def _of_patient(cells: pd.DataFrame, name: str, images: Path) -> pd.DataFrame:
    """The cells of the patient: those that say so, or all if none says whose it is."""
    known = cells["patient"].notna()
    own = (cells["patient"].astype(str) == name) & known if known.any() else pd.Series(True, index=cells.index)
    if not own.any():
        others = ", ".join(cells.loc[known, "patient"].astype(str).unique()[:5])
        raise NotFound(f"{name}: no cell of {images} is this patient's. There are cells of {others}.")
    return cells[own].assign(patient=name).reset_index(drop=True)


def _with_row(
    data: ad.AnnData, name: str, cells: pd.DataFrame, counts: sp.csr_matrix, datasets: Collection[str]
) -> ad.AnnData:
    """The study's barcodes with the patient as the last row."""
    sums = CountSums.empty(1, counts.shape[1])
    sums.add(counts, np.zeros(len(cells), np.int64))
    layers = sums.layers()
    own = str(cells["dataset"].iloc[0])
    row = {
        column: cells[column].iloc[0] if column in cells and cells[column].nunique(dropna=False) == 1 else None
        for column in data.obs.columns
    }
    # Statistics of the latents are those of a data set of the study.
    row |= {"patient": name, "n_cells": len(cells), "dataset": own if own in datasets else _largest(data)}
    obs = pd.concat([data.obs.astype(object), pd.DataFrame([row], index=[name])]).astype({"n_cells": int})
    return ad.AnnData(
        np.vstack([np.asarray(data.X), sums.barcodes()]),
        obs,
        data.var,
        uns=data.uns,
        layers={key: np.vstack([np.asarray(data.layers[key]), layers[key]]) for key in data.layers if key in layers},
    )


def _largest(data: ad.AnnData) -> str:
    return str(data.obs["dataset"].astype(str).value_counts().index[0])
