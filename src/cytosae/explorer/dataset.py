"""The concepts of a data set: read lazily, and never a column over all cells at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import read_elem
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from cytosae.artefacts import reading_hdf5
from cytosae.concepts import (
    alike_leaders,
    count_correlations,
    interest_scores,
    is_common,
    middle_share,
    read_rows,
    spread_rows,
)
from cytosae.concepts.schema import DESCRIPTION, KINDS, WHY_NOT
from cytosae.errors import CytosaeError, NotFound

COMMON_SHARE = 0.99
"""A latent that is active in more than this share of the cells says little of any of them."""

_BLOCK = 512  # maps that are in memory together


class DataSet:
    """The concepts of one data set.

    Parameters
    ----------
    name
        Its name.
    h5ad, maps
        Its files.
    unchanged
        Raises `CytosaeError` where the concepts have been made anew since.
    """

    def __init__(self, name: str, h5ad: Path, maps: Path, unchanged: Callable[[], None]) -> None:
        self.name, self._h5ad, self._maps, self._unchanged = name, h5ad, maps, unchanged

    @cached_property
    def _handle(self) -> h5py.File:
        return h5py.File(self._h5ad)

    @contextmanager
    def _file(self) -> Iterator[h5py.File]:
        self._unchanged()
        with reading_hdf5(self._h5ad, "Run the study again.", name=self._h5ad.name):
            yield self._handle

    @contextmanager
    def _map_file(self) -> Iterator[Any]:
        self._unchanged()
        try:
            yield self._map_handle
        except (OSError, SafetensorError, ValueError, IndexError) as error:
            raise CytosaeError(f"{self._maps.name}: not readable ({error}). Run the study again.") from error

    @cached_property
    def _map_handle(self) -> Any:
        return safe_open(self._maps, framework="np")

    def close(self) -> None:
        """Close the files."""
        if "_handle" in self.__dict__:
            self._handle.close()

    @cached_property
    def about(self) -> dict[str, Any]:
        """Settings and backbone."""
        with self._file() as file:
            return dict(read_elem(file["uns/cytosae"]))

    @cached_property
    def var(self) -> pd.DataFrame:
        """Statistics of the latents."""
        with self._file() as file:
            return read_elem(file["var"])

    @cached_property
    def n_cells(self) -> int:
        """Cells of the data set."""
        with self._file() as file:
            return int(file["X"].attrs["shape"][0])

    @property
    def n_latents(self) -> int:
        """Latents of the autoencoder."""
        return len(self.var)

    @cached_property
    def concepts(self) -> NDArray[np.bool_]:
        """Discovered concepts, ``(n_latents,)``."""
        return self.var["is_concept"].to_numpy(dtype=bool)

    @cached_property
    def common_latents(self) -> NDArray[np.bool_]:
        """Latents that nearly every cell has, ``(n_latents,)``."""
        return is_common(self.var["activation_frequency"].to_numpy(), COMMON_SHARE)

    @cached_property
    def kinds(self) -> list[str]:
        """Kinds of reference images that are kept."""
        with self._file() as file:
            return [kind for kind in KINDS if f"{kind}_cells" in file["varm"]]

    def check_row(self, row: int) -> None:
        """Refuse the number of a cell that is not there."""
        if not 0 <= row < self.n_cells:
            raise NotFound(f"cell {row}: data set {self.name!r} has cells 0 to {self.n_cells - 1}.")

    def check_latent(self, latent: int) -> None:
        """Refuse the number of a latent that is not there."""
        if not 0 <= latent < self.n_latents:
            raise NotFound(f"latent {latent}: the study has latents 0 to {self.n_latents - 1}.")

    def column(self, name: str) -> pd.Categorical | None:
        """What the table says of every cell in one of the columns with few values; None where it says nothing."""
        if name not in self._columns:
            with self._file() as file:
                values = read_elem(file["obs"][name]) if name in file["obs"] else None
            known = values is None or isinstance(values, pd.Categorical)
            self._columns[name] = values if known else pd.Categorical(np.asarray(values).astype(str))
        return self._columns[name]

    @cached_property
    def _columns(self) -> dict[str, pd.Categorical | None]:
        return {}

    def values(self, name: str, rows: Sequence[int] | NDArray[np.int64]) -> list[str | None]:
        """One of the columns with few values, in some cells."""
        column = self.column(name)
        if column is None:
            return [None] * len(rows)
        return [None if code < 0 else str(column.categories[code]) for code in column.codes[np.asarray(rows, int)]]

    def names(self, rows: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """``cell_id`` of some cells."""
        with self._file() as file:
            index = file["obs"][file["obs"].attrs["_index"]]
            return [name.decode() for name in _points(index, rows)]

    def rows_of(self, names: Collection[str]) -> dict[str, int]:
        """Rows of some cells by their ``cell_id``; those that are not in the data set are left out."""
        return {
            name: int(row)
            for name, row in zip(names, self._index.get_indexer(pd.Index(list(names))), strict=True)
            if row >= 0
        }

    @cached_property
    def _index(self) -> pd.Index[str]:
        with self._file() as file:
            return pd.Index(file["obs"][file["obs"].attrs["_index"]].asstr()[()])

    def size(self, row: int) -> tuple[int | None, int | None]:
        """Width and height of a cell's image in pixels; None where they are not kept."""
        with self._file() as file:
            obs = file["obs"]
            width, height = (int(obs[name][row]) if name in obs else None for name in ("width", "height"))
        return width, height

    def refs(self, rows: Sequence[int] | NDArray[np.int64]) -> list[dict[str, Any]]:
        """Row, name, label, patient and diagnosis of each cell."""
        columns = {name: self.values(name, rows) for name in ("label", "patient", "diagnosis")}
        entries = zip(rows, self.names(rows), *columns.values(), strict=True)
        return [
            {"row": int(row), "cell_id": name, **dict(zip(columns, known, strict=True))}
            for row, name, *known in entries
        ]

    def groups(self, column: str) -> tuple[list[str], NDArray[np.int64]]:
        """Names and cells of the labels or diagnoses whose activation is kept."""
        return self._groups.get(column, ([], np.array([], np.int64)))

    @cached_property
    def _groups(self) -> dict[str, tuple[list[str], NDArray[np.int64]]]:
        with self._file() as file:
            if "groups" not in file["uns"]:
                return {}
            groups = read_elem(file["uns/groups"])
        return {
            c: ([str(n) for n in np.atleast_1d(group["names"])], np.atleast_1d(group["cells"]))
            for c, group in groups.items()
        }

    def in_groups(self, column: str, latent: int) -> list[dict[str, Any]]:
        """Mean and frequency of a latent in the cells of each label or diagnosis."""
        names, cells = self.groups(column)
        if not names:
            return []
        self.check_latent(latent)
        with self._file() as file:
            mean, frequency = (file["varm"][f"{column}_{figure}"][latent] for figure in ("mean", "frequency"))
        rows = zip(names, cells, mean, frequency, strict=True)
        return [{"name": n, "cells": int(c), "mean": float(m), "frequency": float(f)} for n, c, m, f in rows]

    def group_frequency(self, column: str) -> NDArray[np.float64]:
        """Share of the cells of each label or diagnosis that show each latent, ``(n_latents, n_groups)``."""
        with self._file() as file:
            return np.asarray(file["varm"][f"{column}_frequency"][()], np.float64)

    @cached_property
    def top_label(self) -> NDArray[np.int64]:
        """Number of the label with the largest mean of each latent, ``(n_latents,)``; -1 where it is silent or unknown."""
        if not self.groups("label")[0]:
            return np.full(self.n_latents, -1)
        with self._file() as file:
            means = file["varm/label_mean"][()]
        return np.where(means.max(axis=1) > 0, means.argmax(axis=1), -1)

    def references(self, kind: str, latent: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows and values of the reference cells of a latent, strongest first."""
        if kind not in self.kinds:
            raise NotFound(
                f"{kind}: no such images in data set {self.name!r}; there are {', '.join(self.kinds)}."
                f"{' That kind needs cells of known patients.' if kind == 'spread' else ''}"
            )
        with self._file() as file:
            cells, values = (file["varm"][f"{kind}_{column}"][latent] for column in ("cells", "values"))
        return cells[cells >= 0], values[cells >= 0]

    def activations(self, rows: Sequence[int] | NDArray[np.int64]) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Counts a_i[s] and means m_i[s] of a few cells, ``(n_cells, n_latents)``."""
        with self._file() as file:
            return read_rows(file, rows)

    @cached_property
    def _mapped(self) -> NDArray[np.int64]:
        with self._map_file() as file:
            return file.get_tensor("latents")

    def reference_maps(self, latent: int) -> NDArray[np.float16] | None:
        """Maps of the strongest reference images of a concept, ``(k, rows, columns)``; None where they are not kept."""
        position = int(np.searchsorted(self._mapped, latent))
        if position == len(self._mapped) or self._mapped[position] != latent:
            return None
        with self._map_file() as file:
            return file.get_slice("maps")[position : position + 1][0]

    def statistic(self, name: str) -> NDArray[np.float32]:
        """A column of ``var``, ``(n_latents,)``; NaN in a study of an earlier version that did not write it."""
        if name not in self.var:
            return np.full(len(self.var), np.nan, np.float32)
        return self.var[name].to_numpy(np.float32)

    @cached_property
    def descriptions(self) -> dict[int, str]:
        """What concepts show, by latent; empty where they were not described."""
        if DESCRIPTION not in self.var:
            return {}
        texts = self.var[DESCRIPTION].astype(object)
        return {latent: str(text) for latent, text in enumerate(texts) if not pd.isna(text)}

    def why_not(self, latent: int) -> str | None:
        """Why a latent is no concept; None where it is one, or an earlier version did not write it."""
        reason = self.var[WHY_NOT].iloc[latent] if WHY_NOT in self.var else None
        return None if pd.isna(reason) else str(reason)

    @property
    def border(self) -> NDArray[np.float64]:
        """Share of each concept's map mass that lies in the outermost ring of patches, ``(n_latents,)``; else NaN."""
        return self._places[0]

    @property
    def middle(self) -> NDArray[np.float64]:
        """See `cytosae.concepts.middle_share`, ``(n_latents,)``; NaN where no maps are kept."""
        return self._places[1]

    @cached_property
    def interest(self) -> NDArray[np.float64]:
        """See `cytosae.concepts.interest_scores`, ``(n_latents,)``."""
        return interest_scores(self.var, self._places[1], self.n_cells, len(self.groups("label")[0]))

    @cached_property
    def _spread_counts(self) -> sp.csc_matrix:
        return sp.csc_matrix(self.activations(spread_rows(self.n_cells))[0], dtype=np.float32)

    @cached_property
    def alike(self) -> NDArray[np.int64]:
        """See `cytosae.concepts.alike_leaders`, ``(n_latents,)``."""
        return alike_leaders(self._spread_counts, self.interest, self.concepts)

    def together(self, latent: int, count: int) -> list[tuple[int, float]]:
        """Concepts whose counts go with those of a latent over cells, the nearest first, with the correlation."""
        (correlation,) = count_correlations(self._spread_counts, [latent])
        correlation[~self.concepts] = 0
        correlation[latent] = 0
        nearest = np.argsort(-correlation, kind="stable")[:count]
        return [(int(other), float(correlation[other])) for other in nearest if correlation[other] > 0]

    @cached_property
    def _places(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Share in the outermost ring and `middle_share` of each concept, in one pass over the maps; else NaN."""
        ring, middle = np.full((2, self.n_latents), np.nan)
        with self._map_file() as file:
            maps = file.get_slice("maps")
            for start in range(0, len(self._mapped), _BLOCK):
                rows = self._mapped[start : start + _BLOCK]
                block = maps[start : start + len(rows)].astype(np.float32)
                total = block.sum(axis=(1, 2, 3))
                inner = block[:, :, 1:-1, 1:-1].sum(axis=(1, 2, 3))
                ring[rows] = np.divide(total - inner, total, out=np.full_like(total, np.nan), where=total > 0)
                middle[rows] = middle_share(block)
        return ring, middle


def category(column: pd.Categorical, value: str) -> int:
    """Code of a value; -1 where no cell has it."""
    matches = np.flatnonzero(column.categories.astype(str) == value)
    return int(matches[0]) if len(matches) else -1


def _points(dataset: h5py.Dataset, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
    """A few elements of an array on disk, in any order."""
    wanted, back = np.unique(np.asarray(rows, np.int64), return_inverse=True)
    if not len(wanted):
        return np.array([], object)
    if len(wanted) == wanted[-1] - wanted[0] + 1:
        return dataset[wanted[0] : wanted[-1] + 1][back]
    return dataset[wanted][back]
