"""From the activations of cells to the statistics of each latent in a data set; statistics of disjoint cells merge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.concepts.discovery import CountMoments
from cytosae.concepts.references import ReferenceImages
from cytosae.concepts.schema import GROUPED
from cytosae.concepts.statistics import Groups, LatentSums
from cytosae.settings import EncodeConfig


@dataclass(frozen=True)
class CellTable:
    """What the statistics need to know of some consecutive cells of a data set."""

    position: int
    """Number of the first within the data set."""
    patients: NDArray[np.int64]
    """Number of each cell's patient in the data set, -1 where unknown; ``(n_cells,)``."""
    groups: Mapping[str, tuple[tuple[str, ...], NDArray[np.int64]]]
    """By column (label, diagnosis): the names of the data set, and each cell's number among them, -1 where unknown."""

    @classmethod
    def from_cells(cls, cells: pd.DataFrame) -> CellTable:
        """Of all cells of a data set."""
        groups = {}
        for column in GROUPED:
            codes, names = pd.factorize(cells[column], sort=True)
            if len(names):
                groups[column] = tuple(map(str, names)), np.asarray(codes, np.int64)
        return cls(0, np.asarray(pd.factorize(cells["patient"])[0], np.int64), groups)

    def codes(self, column: str) -> NDArray[np.int64]:
        """Number of each cell's group, -1 where unknown."""
        return self.groups[column][1] if column in self.groups else np.full(len(self.patients), -1)

    def __getitem__(self, rows: slice) -> CellTable:
        start, _, _ = rows.indices(len(self.patients))
        codes = {column: (names, numbers[rows]) for column, (names, numbers) in self.groups.items()}
        return CellTable(self.position + start, self.patients[rows], codes)


@dataclass(frozen=True)
class Statistics:
    """Statistics and reference images of some cells of a data set.

    Those of disjoint cells merge to those of all: the same bytes, in any order and grouping, since the sums are exact
    (`cytosae.concepts.statistics.ExactSums`), reference images are ordered by value and row, and a random draw by a
    hash of the cell alone. The entropy of the labels is a function of the reference images.
    """

    sums: LatentSums
    counts: CountMoments
    groups: Mapping[str, Groups]
    references: ReferenceImages

    @classmethod
    def empty(cls, n_latents: int, cell_table: CellTable, config: EncodeConfig, per_patient: int) -> Statistics:
        """Of no cells yet.

        Parameters
        ----------
        n_latents
            Latents of the autoencoder.
        cell_table
            The cells, with the names of the groups.
        config
            Settings.
        per_patient
            Spread references of one patient; 0 where no patient of the data set is known.
        """
        return cls(
            LatentSums.empty(n_latents),
            CountMoments.empty(n_latents),
            {column: Groups.empty(names, n_latents) for column, (names, _) in cell_table.groups.items()},
            ReferenceImages.empty(n_latents, config.references, per_patient, config.draw_seed),
        )

    def add(self, counts: sp.csr_matrix, means: sp.csr_matrix, cell_table: CellTable) -> None:
        """Take in more cells, a_i[s] and m_i[s], ``(n_cells, n_latents)``."""
        self.sums.add(means)
        self.counts.add(counts)
        for column, sums in self.groups.items():
            sums.add(means, cell_table.groups[column][1])
        self.references.add(means, cell_table.position, cell_table.patients)

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of the cells of both."""
        groups = {column: sums + other.groups[column] for column, sums in self.groups.items()}
        return Statistics(
            self.sums + other.sums, self.counts + other.counts, groups, self.references.merge(other.references)
        )
