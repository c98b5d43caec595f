"""Concepts on disk: one AnnData per data set, and the maps of the reference images.

No example: what is here reads and writes the concepts of a study; the README reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import read_elem, sparse_dataset, write_elem
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cytosae.artefacts import (
    MANIFEST,
    Manifest,
    digest,
    reading_hdf5,
    text_as_objects,
    whole_file,
    writing_hdf5,
)
from cytosae.cells.columns import FILE_COLUMNS
from cytosae.concepts import schema
from cytosae.concepts.schema import ANNOTATION, TAUGHT
from cytosae.errors import CytosaeError

if TYPE_CHECKING:
    from cytosae.concepts.references import References
    from cytosae.concepts.statistics import Groups

PER_LATENT = "latents.parquet"
"""Quality measures of each latent, in the folder of ``cytosae evaluate``."""
TUNING = "tuning.parquet"
"""Tuning curves beside it: ``latent``, ``knob``, its ``meaning``, ``level``, ``change`` with ``low`` and ``high``, and
whether the concept ``responds``."""


_LONGEST = 120
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices, whatever ending they have."""


def file_names(datasets: list[str]) -> dict[str, str]:
    """A name for the files of each data set: its own, as far as a file name allows, and no two the same on any disk.

    >>> file_names(["pbc", "PBC"])
    {'pbc': 'pbc', 'PBC': 'PBC-2'}
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for dataset in datasets:
        base = name = _plain(dataset)
        number = 1
        while name.casefold() in taken:  # many disks do not tell capitals from small letters
            number += 1
            name = f"{base}-{number}"
        taken.add(name.casefold())
        names[dataset] = name
    return names


def file_name(name: str) -> str:
    """A name for a file of one thing alone; where its own is not fit for a file, a digest keeps it apart from others."""
    plain = _plain(name)
    return plain if plain == name else f"{plain}-{digest(name)[:6]}"


def _plain(name: str) -> str:
    """The name in characters that every disk takes, of a length that leaves room for endings."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:_LONGEST].rstrip("-.") or "cells"
    return plain.replace(".", "_") + "_" if _RESERVED.fullmatch(plain) else plain


def write_concepts(
    path: Path,
    cells: pd.DataFrame,
    var: pd.DataFrame,
    references: Mapping[str, References],
    groups: Mapping[str, Groups],
    about: dict[str, Any],
    matrices: Iterable[tuple[int, sp.csr_matrix, sp.csr_matrix]],
) -> None:
    """Write an AnnData range by range, so that its matrices are never whole in memory.

    Parameters
    ----------
    path
        The ``.h5ad`` file.
    cells
        The cells of the data set, from the listing.
    var
        Statistics of the latents.
    references
        Kinds of reference images of the latents (`cytosae.concepts.references.ReferenceImages.kinds`).
    groups
        Activation of the latents in the cells of each label and each diagnosis, by column.
    about
        Goes into ``uns["cytosae"]``.
    matrices
        Position, counts and means of consecutive cells (`cytosae.concepts.cell_ranges.CellRanges.read`).
    """
    with writing_hdf5(path) as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        elements: dict[str, Any] = {
            "obs": text_as_objects(_obs(cells)),
            "var": text_as_objects(var),
            "varm": {
                f"{kind}_{name}": getattr(lists, name)
                for kind, lists in references.items()
                for name in ("cells", "values")
            }
            | {f"{column}_mean": sums.mean_activation() for column, sums in groups.items()}
            | {f"{column}_frequency": sums.activation_frequency() for column, sums in groups.items()},
            "uns": {
                "cytosae": about,
                "groups": {
                    c: {"names": np.array(sums.names, object), "cells": sums.n_cells} for c, sums in groups.items()
                },
            },
            **{name: {} for name in ("layers", "obsm", "obsp", "varp")},
        }
        for key, element in elements.items():
            schema.check(schema.CONCEPTS, key, element)
            write_elem(file, key, element)
        for _, counts, means in matrices:
            for group, key, matrix in ((file, "X", counts), (file["layers"], "mean_activation", means)):
                if key in group:
                    sparse_dataset(group[key]).append(matrix)
                else:  # row pointers of 64 bits: all cells may have more entries than 32 bits can count
                    write_elem(group, key, matrix, dataset_kwargs={"indptr_dtype": np.dtype(np.int64)})


def _obs(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells as AnnData stores them: text as categories, columns without any value left out."""
    outside = {*FILE_COLUMNS} - {*schema.names(schema.CONCEPTS, "obs")}  # how a file is known to be unchanged
    obs = cells.drop(columns=[*outside, "cell_id"]).dropna(axis=1, how="all")
    obs.index = pd.Index(cells["cell_id"].astype(object), name="cell_id")
    for column in obs.columns:
        if not pd.api.types.is_numeric_dtype(obs[column]):
            text = obs[column].astype(object)
            obs[column] = pd.Categorical(text.where(text.isna(), text.astype(str)))
    return obs


def write_maps(path: Path, latents: NDArray[np.int64], maps: NDArray[np.float16]) -> None:
    """Write latents ``(n_concepts,)`` and their maps ``(n_concepts, k, rows, columns)``."""
    with whole_file(path) as temporary:
        save_file({"latents": latents, "maps": maps}, temporary)


def read_concepts(folder: Path, dataset: str, *, matrices: bool = True) -> ad.AnnData:
    """The AnnData of a data set: ``obs`` cells, ``var`` latents, ``X`` counts, ``layers["mean_activation"]``.

    Parameters
    ----------
    folder
        Written by `encode`.
    dataset
        Name of the data set.
    matrices
        Read both matrices too; without them the tables and reference images of a large data set are there at once.
    """
    with _open(folder, dataset) as file:
        elements = ("obs", "var", "varm", "uns") if not matrices else ("X", "layers", "obs", "var", "varm", "uns")
        data = ad.AnnData(**{key: read_elem(file[key]) for key in elements})
        if matrices:
            _checked(data.X)
            _checked(data.layers["mean_activation"])
        return data


def stream_concepts(
    folder: Path, dataset: str, cells: int = 2048
) -> Iterator[tuple[int, sp.csr_matrix, sp.csr_matrix]]:
    """Counts and image activations of a data set, some cells at a time.

    Yields
    ------
    Row of the first cell, counts a_i[s] and mean activations m_i[s] of up to `cells` consecutive cells, CSR.
    """
    with _open(folder, dataset) as file:
        counts, means = sparse_dataset(file["X"]), sparse_dataset(file["layers/mean_activation"])
        for start in range(0, counts.shape[0], cells):
            rows = slice(start, min(start + cells, counts.shape[0]))
            yield start, _checked(counts[rows]), _checked(means[rows])


def read_activations(
    folder: Path, dataset: str, rows: ArrayLike, latents: NDArray[np.integer] | slice = slice(None), cells: int = 2048
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Counts and image activations of some cells, in the order of `rows`, and of some latents.

    Only ranges of `cells` rows that hold a wanted cell are read.
    """
    wanted = np.asarray(rows, dtype=np.int64)
    order = np.argsort(wanted, kind="stable")
    blocks: tuple[list[sp.csr_matrix], list[sp.csr_matrix]] = ([], [])
    with _open(folder, dataset) as file:
        stored = sparse_dataset(file["X"]), sparse_dataset(file["layers/mean_activation"])
        chunks = wanted[order] // cells
        for chunk in np.unique(chunks):
            inside = wanted[order][chunks == chunk]
            first, last = int(inside.min()), int(inside.max()) + 1
            for read, matrix in zip(blocks, stored, strict=True):
                read.append(_checked(matrix[first:last])[inside - first][:, latents])
        width = np.arange(stored[0].shape[1])[latents].size
    back = np.argsort(order, kind="stable")
    counts, means = (sp.vstack(read, format="csr")[back] if read else sp.csr_matrix((0, width)) for read in blocks)
    return counts, means


def read_rows(file: h5py.File, rows: ArrayLike) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Counts and image activations of a few cells, in the order of `rows`, from an AnnData that stays open.

    Nothing but these rows is read, neighbours together: the time depends on the rows alone, not on the file.

    Parameters
    ----------
    file
        The AnnData of a data set (`concept_files`).
    rows
        Of the cells.
    """
    wanted, back = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
    runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1) if len(wanted) else []
    matrices = []
    for group in (file["X"], file["layers/mean_activation"]):
        shape = (0, int(group.attrs["shape"][1]))
        blocks = [sp.csr_matrix(shape, dtype=group["data"].dtype)]
        for run in runs:
            ends = group["indptr"][run[0] : run[-1] + 2]
            inside = slice(int(ends[0]), int(ends[-1]))
            arrays = group["data"][inside], group["indices"][inside], ends - ends[0]
            blocks.append(_checked(sp.csr_matrix(arrays, shape=(len(run), shape[1]))))
        matrices.append(sp.csr_matrix(sp.vstack(blocks, format="csr")[back]))
    return matrices[0], matrices[1]


def _checked(matrix: Any) -> sp.csr_matrix:
    """A matrix whose columns are all there: scipy does not look, and would write to memory that is not its own."""
    matrix = sp.csr_matrix(matrix)
    matrix.check_format(full_check=True)
    return matrix


def read_names(folder: Path, column: str = ANNOTATION) -> dict[int, str]:
    """What raters call the latents, by latent, as ``cytosae annotations apply`` writes it.

    `ANNOTATION` has the name that most raters gave, or under which a concept was taught; `NAMES` all names with the raters
    who gave them.
    """
    by_latent: dict[int, str] = {}
    for source in (TAUGHT, column) if column == ANNOTATION else (column,):
        for dataset in _files(folder):
            with _open(folder, dataset) as file:
                if source in file["var"]:
                    names = np.asarray(read_elem(file["var"][source]), dtype=object)
                    by_latent |= {latent: str(names[latent]) for latent in np.flatnonzero(~pd.isna(names)).tolist()}
                    break
    return by_latent


def concept_files(folder: Path, dataset: str) -> tuple[Path, Path]:
    """The AnnData of a data set and its maps of reference images, for a reader that keeps them open."""
    name = _files(folder)[dataset]
    return folder / f"{name}.h5ad", folder / f"{name}.maps.safetensors"


def read_cell_rows(folder: Path, dataset: str, rows: ArrayLike) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """`read_rows` of a data set."""
    with _open(folder, dataset) as file:
        return read_rows(file, rows)


@contextmanager
def _open(folder: Path, dataset: str) -> Iterator[h5py.File]:
    path = folder / f"{_files(folder)[dataset]}.h5ad"
    with reading_hdf5(path, "Run `cytosae encode` again."), h5py.File(path) as file:
        yield file


def read_maps(folder: Path, dataset: str) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """Latents ``(n_concepts,)`` and the maps of their reference images ``(n_concepts, k, rows, columns)``."""
    path = folder / f"{_files(folder)[dataset]}.maps.safetensors"
    try:
        arrays = load_file(path)
        return arrays["latents"], arrays["maps"]
    except (OSError, SafetensorError, KeyError) as error:
        raise CytosaeError(f"{path}: not readable ({error}). Run `cytosae encode` again.") from error


def read_datasets(folder: Path) -> dict[str, dict[str, Any]]:
    """The figures of every data set in a folder of concepts, by name."""
    return dict(_manifest(folder).summary["datasets"])


def check_unchanged(folder: Path, dataset: str) -> None:
    """Refuse the AnnData of a data set that is not the one that was encoded.

    Raises
    ------
    CytosaeError
        It is missing, or another than its manifest has.
    """
    if (folder / f"{_files(folder)[dataset]}.h5ad").is_file():
        with _open(folder, dataset):
            pass  # who has it open for writing has changed it too: say the first
    _manifest(folder).check_output(folder, f"{_files(folder)[dataset]}.h5ad", "Encode the cells again.")


def read_inputs(folder: Path) -> dict[str, str]:
    """Digests of what the concepts in a folder were made from: ``tokens``, ``sae``, ``cells``, and ``taught`` if any are."""
    return dict(_manifest(folder).inputs)


def read_parameters(folder: Path) -> dict[str, Any]:
    """Settings with which the concepts in a folder were encoded."""
    return dict(_manifest(folder).parameters)


def _files(folder: Path) -> dict[str, str]:
    return dict(_manifest(folder).summary["files"])


def _manifest(folder: Path) -> Manifest:
    manifest = Manifest.load(folder)
    if manifest is None or manifest.stage != "concepts":
        raise CytosaeError(
            f"{folder}: no finished concepts there. Make them with `cytosae encode CELLS --sae SAE -o {folder}`."
        )
    datasets, files = manifest.summary.get("datasets"), manifest.summary.get("files")
    whole = isinstance(datasets, dict) and isinstance(files, dict) and datasets.keys() == files.keys()
    if not whole or "sae" not in manifest.inputs:
        raise CytosaeError(f"{folder / MANIFEST}: damaged. Remove it and run `cytosae encode` again.")
    return manifest
