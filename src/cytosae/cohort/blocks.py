"""Statistics of a concept's counts over the cells of a patient: count, share, top, strongest and dispersion, with errors.

The mean count a_p[s] (Eq. 3) is the barcode. A structure in one of sixty cells hardly moves it. The other blocks say how
many cells show the concept, how much of it the strongest cells have, and how much the cells differ. Arrays in, numbers out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from cytosae.cohort.kernels import add_counts

TOP = 5
"""Cells of the block ``top``."""
LARGEST = TOP + 1
"""Counts that are kept of each patient and latent: the jackknife needs the next one."""


@dataclass(frozen=True)
class CountSums:
    """Sums of a_i[s] over the cells of each patient, from which every block follows.

    All are whole numbers, so parts of the same patients add up, to the last bit, in any order and grouping.
    """

    n_cells: NDArray[np.int64]
    """``(n_patients,)``."""
    powers: NDArray[np.int64]
    """Sums of a_i[s] to the first, second, third and fourth power, ``(4, n_patients, n_latents)``."""
    shown: NDArray[np.int32]
    """Cells with a_i[s] > 0, ``(n_patients, n_latents)``."""
    largest: NDArray[np.uint16]
    """The `LARGEST` largest a_i[s], falling, 0 where there are fewer; ``(n_patients, n_latents, LARGEST)``."""

    @classmethod
    def empty(cls, n_patients: int, n_latents: int) -> CountSums:
        """Of no cells yet."""
        shape = (n_patients, n_latents)
        return cls(
            np.zeros(n_patients, np.int64),
            np.zeros((4, *shape), np.int64),
            np.zeros(shape, np.int32),
            np.zeros((*shape, LARGEST), np.uint16),
        )

    def add(self, counts: sp.csr_matrix, patients: NDArray[np.int64]) -> None:
        """Take in more cells.

        Parameters
        ----------
        counts
            a_i[s], ``(n_cells, n_latents)``.
        patients
            Number of each cell's patient, negative where unknown; ``(n_cells,)``.
        """
        if counts.nnz and counts.data.max() > np.iinfo(self.largest.dtype).max:
            raise ValueError(f"a cell with {counts.data.max():,} active patches; at most 65,535 can be counted")
        self.n_cells[:] += np.bincount(patients[patients >= 0], minlength=len(self.n_cells))
        matrix = counts.indptr, counts.indices, counts.data
        add_counts(*matrix, patients, self.powers, self.shown, self.largest)

    def __add__(self, other: CountSums) -> CountSums:
        both = np.sort(np.concatenate([self.largest, other.largest], axis=2), axis=2)[..., ::-1]
        return CountSums(
            self.n_cells + other.n_cells,
            self.powers + other.powers,
            self.shown + other.shown,
            np.ascontiguousarray(both[..., :LARGEST]),
        )

    @classmethod
    def from_barcodes(
        cls, n_cells: ArrayLike, barcodes: NDArray[np.floating], layers: Mapping[str, Any], largest: NDArray[np.uint16]
    ) -> CountSums:
        """The sums from which some barcodes were made: counts exactly, higher powers as well as float32 kept them.

        Parameters
        ----------
        n_cells
            ``(n_rows,)``.
        barcodes
            ``(n_rows, n_latents)``.
        layers
            Of `layers` and `for_pooling`.
        largest
            ``(n_rows, n_latents, LARGEST)``.
        """
        cells = np.asarray(n_cells, np.int64)
        n, mean = cells[:, None].astype(np.float64), np.asarray(barcodes, np.float64)
        # The error of a single cell is its count, which says nothing of a spread.
        variance = np.where(n > 1, np.square(layers["standard_error"], dtype=np.float64) * (n - 1), 0)
        third, fourth = (np.asarray(layers[name], np.float64) for name in ("third_moment", "fourth_moment"))
        powers = (
            mean,
            variance + mean**2,
            third + 3 * mean * variance + mean**3,
            fourth + 4 * mean * third + 6 * mean**2 * variance + mean**4,
        )
        shown = np.rint(n * layers["share"]).astype(np.int32)
        return cls(cells, np.stack([np.rint(n * power).astype(np.int64) for power in powers]), shown, largest)

    def pooled(self) -> CountSums:
        """Of all rows together, such as the cell types of one patient: sums of one row."""
        largest = np.sort(self.largest.transpose(1, 0, 2).reshape(self.shown.shape[1], -1), axis=1)[:, ::-1]
        return CountSums(
            self.n_cells.sum(keepdims=True),
            self.powers.sum(axis=1, keepdims=True),
            self.shown.sum(axis=0, keepdims=True, dtype=np.int32),
            np.ascontiguousarray(largest[None, :, :LARGEST]),
        )

    def _rows(self, rows: slice) -> CountSums:
        return CountSums(self.n_cells[rows], self.powers[:, rows], self.shown[rows], self.largest[rows])

    @property
    def _n(self) -> NDArray[np.float64]:
        """Cells as a column that divides, ``(n_patients, 1)``; 1 for a patient without cells."""
        return np.maximum(self.n_cells, 1)[:, None].astype(np.float64)

    def barcodes(self) -> NDArray[np.float32]:
        """Patient barcodes a_p[s]: the mean of a_i[s] over the patient's images (Eq. 3); ``(n_patients, n_latents)``.

        Divided by the number of images, as the equation says; the published code divides by the number of latents,
        which makes a patient with twice the cells look twice as abnormal.
        """
        return (self.powers[0] / self._n).astype(np.float32)

    def central_moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Second, third and fourth central moment of a_i[s] over the patient's images, each ``(n_patients, n_latents)``."""
        mean, second, third, fourth = self.powers / self._n
        return (
            np.maximum(second - mean**2, 0),
            third - 3 * mean * second + 2 * mean**3,
            np.maximum(fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4, 0),
        )

    def for_pooling(self) -> dict[str, NDArray[np.float32]]:
        """The moments that the blocks do not have, by the names of their layers; see `from_barcodes`."""
        _, third, fourth = self.central_moments()
        return {"third_moment": third.astype(np.float32), "fourth_moment": fourth.astype(np.float32)}

    def layers(self) -> dict[str, NDArray[np.float32]]:
        """All blocks beside the barcode and the standard error of each, ``(n_patients, n_latents)``, by their names.

        One image says nothing of a spread: there the errors of count, top and dispersion are as large as the count.

        Notes
        -----
        ``dispersion`` is the standard deviation d of a_i[s] over the n images, with n - 1 in its denominator, and
        ``standard_error`` is d / sqrt(n). ``dispersion_error`` is sqrt((m4 - d^4 (n - 3) / (n - 1)) / n) / (2 d), where m4
        is the fourth central moment. ``share_error`` is the standard deviation of the share's posterior with Jeffreys'
        prior Beta(1/2, 1/2), which is not 0 where all images show a concept, or none. ``top_error`` is the jackknife's:
        leaving out one of the five largest counts puts the sixth in its place, leaving out any other changes nothing.
        ``strongest_error`` is the jackknife's too, of the largest count: the distance to the second, times (n - 1) / n.
        """
        by_patient = [self._rows(slice(row, row + 1))._layers() for row in range(len(self.n_cells))]  # little memory
        return {name: np.concatenate([layers[name] for layers in by_patient]) for name in by_patient[0]}

    def _layers(self) -> dict[str, NDArray[np.float32]]:
        n, single = self._n, self.n_cells[:, None] <= 1
        counts = self.barcodes()
        second, _, fourth = self.central_moments()
        variance = second * n / np.maximum(n - 1, 1)
        spread = np.sqrt(variance)
        of_variance = np.sqrt(np.maximum(fourth - variance**2 * (n - 3) / np.maximum(n - 1, 1), 0) / n)
        of_spread = np.divide(of_variance, 2 * spread, out=np.zeros_like(spread), where=spread > 0)
        expected = (self.shown + 0.5) / (n + 1)
        largest = self.largest.astype(np.float64)
        n_top = np.minimum(n, TOP)
        moves = np.maximum(largest[..., :TOP] - largest[..., TOP:], 0) / TOP
        jackknife = (n - 1) / n * np.maximum((moves**2).sum(axis=2) - moves.sum(axis=2) ** 2 / n, 0)
        blocks = {
            "standard_error": np.where(single, counts, spread / np.sqrt(n)),
            "share": self.shown / n,
            "share_error": np.sqrt(expected * (1 - expected) / (n + 2)),
            "top": largest[..., :TOP].sum(axis=2) / n_top,
            "top_error": np.where(single, counts, np.sqrt(np.where(n > TOP, jackknife, variance / n))),
            "strongest": largest[..., 0],
            "strongest_error": np.where(single, counts, (n - 1) / n * (largest[..., 0] - largest[..., 1])),
            "dispersion": np.where(single, 0, spread),
            "dispersion_error": np.where(single, counts, of_spread),
        }
        return {name: values.astype(np.float32) for name, values in blocks.items()}
