"""Counts and means of ranges of cells, a file for each, so that an interrupted encoding resumes at the next range."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cytosae.artefacts import remove_work_files, whole_file, work_folder

_RANGE_FILE = re.compile(r"part-\d{8,}\.safetensors")


@dataclass(frozen=True)
class CellRanges:
    """Counts and means on disk, a file for every `size` cells.

    Parameters
    ----------
    folder
        Of the files.
    size
        Cells in a range.
    n_latents
        Columns of the matrices.
    """

    folder: Path
    size: int
    n_latents: int

    @classmethod
    def for_inputs(cls, folder: Path, size: int, n_latents: int, identity: dict[str, Any]) -> CellRanges:
        """The ranges in a folder that were encoded from these inputs with these settings."""
        return cls(work_folder(folder, identity), size, n_latents)

    def _path(self, start: int) -> Path:
        return self.folder / f"part-{start:08d}.safetensors"

    def missing(self, n_cells: int) -> list[int]:
        """First rows of the ranges that are not there yet."""
        return [start for start in range(0, n_cells, self.size) if not self._path(start).is_file()]

    def write(self, start: int, counts: sp.csr_matrix, means: sp.csr_matrix) -> None:
        """Write the range that begins with the row `start`; any number of processes may."""
        with whole_file(self._path(start), shared=True) as temporary:
            save_file({**_arrays("counts", counts), **_arrays("means", means)}, temporary)

    def read(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, sp.csr_matrix, sp.csr_matrix]]:
        """The chosen rows (ascending) range by range: position of the first within the choice, counts, means."""
        for start in np.unique(rows // self.size) * self.size:
            arrays = load_file(self._path(int(start)))
            first, last = np.searchsorted(rows, [start, start + self.size])
            chosen = rows[first:last] - start
            yield int(first), self._matrix(arrays, "counts")[chosen], self._matrix(arrays, "means")[chosen]

    def _matrix(self, arrays: dict[str, NDArray[Any]], name: str) -> sp.csr_matrix:
        data, indices, indptr = (arrays[f"{name}.{key}"] for key in ("data", "indices", "indptr"))
        return sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, self.n_latents))


def remove_ranges(folder: Path) -> None:
    """Remove all ranges in the folder of a stage, whatever they were made from; nothing else that lies there."""
    remove_work_files(folder, _RANGE_FILE)


def _arrays(name: str, matrix: sp.csr_matrix) -> dict[str, NDArray[Any]]:
    return {
        f"{name}.data": matrix.data,
        f"{name}.indices": matrix.indices.astype(np.int32),
        f"{name}.indptr": matrix.indptr.astype(np.int64),
    }
