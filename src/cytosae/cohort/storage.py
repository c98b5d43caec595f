"""Barcodes on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import read_elem

from cytosae.artefacts import MANIFEST, read_json, reading_hdf5, same_weights
from cytosae.concepts import file_name, read_inputs, read_parameters
from cytosae.errors import CytosaeError

COHORT, BARCODES, CLASSIFICATION = "cohort", "barcodes.h5ad", "classification"
"""Where a study keeps its barcodes (folder and file), and the folder of their classification beside them."""

OUTCOMES = "outcome-*"
"""The folders of predicted numbers and times, also beside the barcodes; see `outcome_folder`."""
METHODS = "methods"
_FORMERLY, _FORMERLY_A_ROW = "contenders", "contender"
"""What earlier versions called the methods of a classification and the column with their names."""

_AGAIN = "Make it again with `cytosae barcodes`."


def outcome_folder(target: str) -> str:
    """Name of the folder where a number or a time is predicted.

    Examples
    --------
    >>> outcome_folder("blasts")
    'outcome-blasts'
    """
    return OUTCOMES.replace("*", file_name(target))


def is_barcodes(path: Path) -> bool:
    """Whether a file is one of `cytosae.cohort.make_barcodes`; raises what its reader does where it is no AnnData.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    with h5py.File(path) as file:
        return bool(file["uns/cytosae/stage"].asstr()[()] == "barcodes")


def why_other_concepts(path: Path, concepts: Path) -> str | None:
    """Why barcodes were made of other concepts than those in a folder, for example before the cells changed; None if not.

    Parameters
    ----------
    path
        The ``.h5ad`` file.
    concepts
        Written by `cytosae.concepts.encode`.

    Raises
    ------
    CytosaeError
        Not readable, or no barcodes.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    about = _about(path)
    current, parameters = read_inputs(concepts), read_parameters(concepts)
    counted = list(_dataset_inputs(about.get("inputs", {})))
    if not counted:
        return "they do not say of which concepts they are"
    alike = [inputs for inputs in counted if same_weights(inputs.get("sae"), current["sae"])]
    if not alike:
        return "they count the latents of another autoencoder"
    if not any(inputs.get("taught") == current.get("taught") for inputs in alike):
        return "they count other taught concepts"
    if not any(inputs == current for inputs in alike):
        return "they are of other cells or tokens, or of what the table said of these cells before"
    before = about.get("encoding", {})
    if changed := [name for name, value in parameters.items() if name in before and before[name] != value]:
        return f"they were counted with other settings ({', '.join(changed)})"
    return None


def _about(path: Path) -> dict[str, Any]:
    """Where barcodes come from."""
    with reading_hdf5(path, _AGAIN), h5py.File(path) as file:
        return dict(read_elem(file["uns/cytosae"]))


def _dataset_inputs(recorded: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Digests of the inputs of each data set; a slash in its name is a level more in the file."""
    if "sae" in recorded and not isinstance(recorded["sae"], Mapping):
        yield {str(name): str(value) for name, value in recorded.items()}
        return
    for value in recorded.values():
        if isinstance(value, Mapping):
            yield from _dataset_inputs(value)


def read_barcodes(
    path: Path, cell_type: str | None = None, *, pooled: bool = False, concepts: Path | None = None
) -> ad.AnnData:
    """Barcodes written by `cytosae.cohort.make_barcodes`: ``obs`` patients, ``var`` latents, ``X`` barcodes a_p[s].

    Parameters
    ----------
    path
        The ``.h5ad`` file.
    cell_type
        Where there are barcodes of each cell type, those of this one.
    pooled
        Where there are barcodes of each cell type, one per patient over all types.
    concepts
        Folder of concepts that they have to be of; those of the study in whose ``cohort/`` they lie, if None.

    Raises
    ------
    CytosaeError
        The file is missing or holds no barcodes, no such cell type, or barcodes of other concepts.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    _check_there(path)
    with reading_hdf5(path, _AGAIN):
        data = ad.read_h5ad(path)
    about = data.uns.get("cytosae")
    if not isinstance(about, Mapping) or about.get("stage") != "barcodes":
        raise CytosaeError(f"{path}: holds no barcodes. Make them with `cytosae barcodes CONCEPTS -o barcodes.h5ad`.")
    _check_values(path, data)
    study = path.absolute().parent.parent
    if concepts is None and path.absolute().parent.name == COHORT and (study / "concepts" / MANIFEST).is_file():
        concepts = study / "concepts"
    if concepts is not None and (why := why_other_concepts(path, concepts)):
        raise CytosaeError(
            f"{path}: not of the concepts in {concepts}: {why}. Make them again: `cytosae run` on the study, or "
            f"`cytosae barcodes {concepts} -o {path}`."
        )
    if "cell_type" not in data.obs:
        if cell_type is not None:
            raise CytosaeError(
                f"--cell-type {cell_type}: {path} has one barcode per patient. Make it with "
                "`cytosae barcodes --by-cell-type`."
            )
        return data
    if pooled:
        from cytosae.cohort.pooling import over_cell_types  # compiles; the explorer's first view does not wait for it

        return over_cell_types(data)
    known = list(data.obs["cell_type"].cat.categories)
    if cell_type not in known:
        wish = "has a barcode per patient and cell type" if cell_type is None else f"has no cell type {cell_type!r}"
        raise CytosaeError(f"{path}: {wish}. Choose one with --cell-type: {', '.join(known)}.")
    chosen = data[(data.obs["cell_type"] == cell_type).to_numpy()].copy()
    chosen.obs_names = pd.Index(chosen.obs_names.str.removesuffix(f" | {cell_type}"))
    return chosen


def _check_values(path: Path, data: ad.AnnData) -> None:
    """Bring the barcodes into the form in which they were written, and refuse values that no barcode can have."""
    if data.X is None:
        raise CytosaeError(f"{path}: has no barcodes in X. {_AGAIN}")
    if sp.issparse(data.X):
        data.X = data.X.toarray()
    values = np.asarray(data.X)
    if values.dtype.kind != "f" or not np.isfinite(values).all() or values.min(initial=0) < 0:
        raise CytosaeError(
            f"{path}: holds barcodes that are negative, not finite or no numbers, so another program has changed it. "
            f"{_AGAIN}"
        )


def read_patient_columns(path: Path) -> ad.AnnData:
    """The columns of the patients of some barcodes alone, without their matrices.

    Raises
    ------
    CytosaeError
        The file is missing or not readable.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    _check_there(path)
    with reading_hdf5(path, _AGAIN), h5py.File(path) as file:
        return ad.AnnData(obs=read_elem(file["obs"]))


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise CytosaeError(f"{path}: no such file. Make it with `cytosae barcodes CONCEPTS -o {path}`.")


def read_methods(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of ``classification.json`` by method.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    result = read_json(folder / "classification.json")
    rows = result[METHODS] if METHODS in result else result[_FORMERLY]
    return {row.get("method", row.get(_FORMERLY_A_ROW)): row for row in rows}


def read_warnings(folder: Path) -> list[str]:
    """What a reader has to know before the figures of a classification, a sentence each.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    result = read_json(folder / "classification.json")
    stated = [f"{warning['kind']}: {warning['text']}" for warning in result.get("warnings", [])]
    return [*stated, *result.get("caveats", [])]


def methods_figure(folder: Path) -> Path:
    """The figure of the methods of a classification.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    path = folder / f"{METHODS}.png"
    return path if path.is_file() else folder / f"{_FORMERLY}.png"
