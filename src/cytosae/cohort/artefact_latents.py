"""Latents that are artefacts: of the laboratory, the scanner, the smear; barcodes can leave them out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
from numpy.typing import NDArray

from cytosae.concepts import read_concepts, read_datasets
from cytosae.concepts.schema import ARTEFACT, VERDICT


def artefact_latents(folders: Sequence[Path], datasets: Sequence[str] = ()) -> NDArray[np.int64]:
    """Latents in the block of artefacts of a refined autoencoder, or that experts call artefact in a data set and meaningful
    in none; ascending.

    Parameters
    ----------
    folders
        Of concepts, encoded with one autoencoder.
    datasets
        Data sets to take; all if none is named.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    tables = [
        read_concepts(folder, name, matrices=False).var
        for folder in folders
        for name in read_datasets(folder)
        if not datasets or name in datasets
    ]
    none = np.zeros(len(tables[0]) if tables else 0, bool)
    block, bad, good = none.copy(), none.copy(), none.copy()
    for var in tables:
        if ARTEFACT in var:
            block |= var[ARTEFACT].to_numpy(bool)
        if VERDICT in var:
            bad |= (var[VERDICT] == "artefact").to_numpy(bool)
            good |= (var[VERDICT] == "meaningful").to_numpy(bool)
    return np.flatnonzero(block | (bad & ~good))


def leave_out(data: ad.AnnData, latents: NDArray[np.integer]) -> None:
    """Set some latents to 0 in barcodes, in place; ``var["artefact"]`` says which, and none of them is a concept."""
    data.var[ARTEFACT] = np.isin(np.arange(data.n_vars), latents)
    data.var["is_concept"] &= ~data.var[ARTEFACT]
    data.X[:, latents] = 0
    for values in data.layers.values():
        values[:, latents] = 0
    if "disease_barcodes" in data.varm:
        data.varm["disease_barcodes"][latents] = 0
    if "largest_counts" in data.obsm:
        data.obsm["largest_counts"][:, latents] = 0
