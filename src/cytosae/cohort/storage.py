"""Barcodes on disk."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import pandas as pd

from cytosae.errors import CytosaeError

COHORT, BARCODES, CLASSIFICATION = "cohort", "barcodes.h5ad", "classification"
"""Where a study keeps its barcodes (folder and file), and the folder of their classification beside them."""


def is_barcodes(path: Path) -> bool:
    """Whether a file is one of `cytosae.cohort.make_barcodes`; raises what its reader does where it is no AnnData."""
    with h5py.File(path) as file:
        return bool(file["uns/cytosae/stage"].asstr()[()] == "barcodes")


def read_barcodes(path: Path, cell_type: str | None = None) -> ad.AnnData:
    """Barcodes written by `cytosae.cohort.make_barcodes`: ``obs`` patients, ``var`` latents, ``X`` barcodes a_p[s].

    Parameters
    ----------
    path
        The ``.h5ad`` file.
    cell_type
        Where there are barcodes of each cell type, those of this one.

    Raises
    ------
    CytosaeError
        The file is missing or holds no barcodes, or no such cell type.
    """
    if not path.is_file():
        raise CytosaeError(f"{path}: no such file. Make it with `cytosae barcodes CONCEPTS -o {path}`.")
    try:
        data = ad.read_h5ad(path)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise CytosaeError(
            f"{path}: not a readable AnnData ({error}). Make it again with `cytosae barcodes`."
        ) from error
    if data.uns.get("cytosae", {}).get("stage") != "barcodes":
        raise CytosaeError(f"{path}: holds no barcodes. Make them with `cytosae barcodes CONCEPTS -o barcodes.h5ad`.")
    if "cell_type" not in data.obs:
        if cell_type is not None:
            raise CytosaeError(
                f"--cell-type {cell_type}: {path} has one barcode per patient. Make it with "
                "`cytosae barcodes --by-cell-type`."
            )
        return data
    known = list(data.obs["cell_type"].cat.categories)
    if cell_type not in known:
        wish = "has a barcode per patient and cell type" if cell_type is None else f"has no cell type {cell_type!r}"
        raise CytosaeError(f"{path}: {wish}. Choose one with --cell-type: {', '.join(known)}.")
    chosen = data[(data.obs["cell_type"] == cell_type).to_numpy()].copy()
    chosen.obs_names = pd.Index(chosen.obs_names.str.removesuffix(f" | {cell_type}"))
    return chosen
