"""Groups of near-duplicates over all data sets of a study: each is counted once where patients are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.concepts.alike import alike_leaders, spread_rows
from cytosae.concepts.interest import interest_of
from cytosae.concepts.storage import read_cell_rows, read_concepts, read_datasets, read_maps


def group_leaders(folder: Path) -> NDArray[np.int64]:
    """The concept that stands for each and its near-duplicates, over the cells of all data sets together.

    In a study with one data set these are the groups that lists are folded by. Neither diagnoses nor patients are looked at.

    Parameters
    ----------
    folder
        Of the concepts.

    Returns
    -------
    Number of a latent for each, its own where it stands for itself, as all latents do that are no concept anywhere;
    ``(n_latents,)``. See `cytosae.concepts.alike_leaders`. The most interesting anywhere stands for a group.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    counts, interests, concepts = [], [], []
    for name in read_datasets(folder):
        data = read_concepts(folder, name, matrices=False)
        latents, maps = read_maps(folder, name)
        n_labels = int(data.obs["label"].nunique()) if "label" in data.obs else 0
        interests.append(interest_of(data.var, latents, maps, data.n_obs, n_labels))
        concepts.append(data.var["is_concept"].to_numpy(bool))
        counts.append(read_cell_rows(folder, name, spread_rows(data.n_obs))[0].astype(np.float32))
    return alike_leaders(sp.csc_matrix(sp.vstack(counts)), np.max(interests, axis=0), np.any(concepts, axis=0))
