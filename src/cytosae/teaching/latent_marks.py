"""Marks from a latent that experts have judged: where its reference images show it most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cytosae.concepts import latent_called, read_concepts, read_datasets, read_maps, read_names
from cytosae.errors import CytosaeError
from cytosae.teaching.marks import THIS, marks_table


def marks_from_latent(concepts: Path, text: str, concept: str | None = None) -> pd.DataFrame:
    """The strongest patch of each reference image of a latent as *this*.

    A latent that was judged meaningful and almost fits is a start: add marks of *not* where its map is wrong.

    Parameters
    ----------
    concepts
        Folder of the study's concepts.
    text
        Number or name of the latent.
    concept
        Name of the concept that is taught; that of the latent if None.

    Raises
    ------
    CytosaeError
        No such latent, or one whose reference images have no maps.

    Notes
    -----
    No example: needs the concepts of a study; `cytosae teach --like` runs it.
    """
    names = read_names(concepts)
    blocks = {name: read_concepts(concepts, name, matrices=False) for name in read_datasets(concepts)}
    latent = latent_called(text, names, max(block.n_vars for block in blocks.values()))
    title = concept or f"like {names.get(latent, f'latent {latent}')}"
    rows: list[tuple[str, str, int | None, str]] = []
    for name, block in blocks.items():
        latents, maps = read_maps(concepts, name)
        for entry in np.flatnonzero(latents == latent).tolist():
            cells = block.varm["reference_cells"][latent][: maps.shape[1]]
            ids = block.obs["cell_id"].astype(str).to_numpy() if "cell_id" in block.obs else block.obs_names.to_numpy()
            for cell, values in zip(cells, maps[entry].reshape(maps.shape[1], -1), strict=False):
                if cell >= 0 and values.max() > 0:
                    rows.append((title, str(ids[cell]), int(values.argmax()), THIS))
    if not rows:
        raise CytosaeError(
            f"--like {text}: latent {latent} has no maps of reference images. Take one that passes the test of a concept."
        )
    return marks_table(rows)
