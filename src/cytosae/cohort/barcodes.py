"""How often each concept occurs in a patient's cells, and in the patients of a disease (Eq. 3). Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from cytosae.cohort.blocks import CountSums
from cytosae.concepts import Groups


@dataclass(frozen=True)
class BarcodeSums:
    """Sums over the cells of each patient, from which the barcodes follow.

    Parts of the same patients add up, to the last bit, in any order and grouping: counts are whole numbers, and the sums of
    activations are exact.
    """

    patients: Groups
    """Cells of each patient, and sums of m_i[s] over them."""
    counts: CountSums
    """Sums of a_i[s] over them."""

    @classmethod
    def empty(cls, n_patients: int, n_latents: int) -> BarcodeSums:
        """Of no cells yet."""
        return cls(Groups.empty(map(str, range(n_patients)), n_latents), CountSums.empty(n_patients, n_latents))

    @classmethod
    def from_cells(
        cls, counts: sp.csr_matrix, means: sp.csr_matrix, patients: ArrayLike, n_patients: int
    ) -> BarcodeSums:
        """Sums over some cells.

        Parameters
        ----------
        counts, means
            a_i[s] and m_i[s], ``(n_cells, n_latents)``.
        patients
            Number of each cell's patient, negative where unknown: such a cell counts for nobody; ``(n_cells,)``.
        """
        sums = cls.empty(n_patients, counts.shape[1])
        sums.add(counts, means, patients)
        return sums

    def add(self, counts: sp.csr_matrix, means: sp.csr_matrix, patients: ArrayLike) -> None:
        """Take in more cells; see `from_cells`."""
        codes = np.asarray(patients, dtype=np.int64)
        self.patients.add(sp.csr_matrix(means), codes)
        self.counts.add(sp.csr_matrix(counts), codes)

    def __add__(self, other: BarcodeSums) -> BarcodeSums:
        return BarcodeSums(self.patients + other.patients, self.counts + other.counts)

    @property
    def n_cells(self) -> NDArray[np.int64]:
        """Cells of each patient, ``(n_patients,)``."""
        return self.patients.n_cells

    @property
    def active(self) -> NDArray[np.int64]:
        """Cells with m_i[s] > 0, ``(n_patients, n_latents)``."""
        return self.patients.active

    @property
    def total(self) -> NDArray[np.float64]:
        """Sum of m_i[s], ``(n_patients, n_latents)``."""
        return self.patients.total

    def mean_activation(self) -> NDArray[np.float32]:
        """Mean of m_i[s] over all the patient's images; ``(n_patients, n_latents)``."""
        return self.patients.mean_activation().T


def disease_barcodes(barcodes: ArrayLike, diseases: ArrayLike, n_diseases: int) -> NDArray[np.float64]:
    """Disease barcodes a_d[s]: the mean of the barcodes of its patients, however many cells each has (Eq. 3).

    Parameters
    ----------
    barcodes
        ``(n_patients, n_latents)``.
    diseases
        Number of each patient's disease, negative where unknown; ``(n_patients,)``.

    Returns
    -------
    ``(n_diseases, n_latents)``; NaN for a disease without patients.

    Examples
    --------
    >>> disease_barcodes([[1.0, 0.0], [3.0, 2.0]], [0, 0], 1).tolist()
    [[2.0, 1.0]]
    """
    values, codes = np.asarray(barcodes), np.asarray(diseases)
    means = np.full((n_diseases, values.shape[1]), np.nan)
    for disease in np.unique(codes[codes >= 0]):
        means[disease] = values[codes == disease].mean(axis=0, dtype=np.float64)
    return means


def pooled_mean_activation(means: ArrayLike, active: ArrayLike, n_cells: ArrayLike) -> NDArray[np.float64]:
    """Mean activation of each latent over the images of some patients that activate it, as in the overview;
    ``(n_latents,)``.

    Parameters
    ----------
    means, active
        Mean of m_i[s] over each patient's images, and its images with m_i[s] > 0; ``(n_patients, n_latents)``.
    n_cells
        Images of each patient, ``(n_patients,)``.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    total = np.asarray(n_cells, np.float64) @ np.asarray(means)
    images = np.asarray(active).sum(axis=0)
    return np.divide(total, images, out=np.zeros(len(total)), where=images > 0)


def barcode_correlation(barcodes: ArrayLike) -> NDArray[np.float64]:
    """Correlation (Pearson) of every patient's barcode with every other; NaN for a barcode that is constant.

    Returns
    -------
    ``(n_patients, n_patients)``.

    Examples
    --------
    >>> barcode_correlation([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]).round(2).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    values = np.asarray(barcodes, dtype=np.float64)
    centred = values - values.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    unit = np.divide(centred, norm, out=np.full_like(centred, np.nan), where=norm > 0)
    return np.clip(unit @ unit.T, -1, 1)


def variance_between(barcodes: ArrayLike, groups: ArrayLike) -> float:
    """Share of the variance of the barcodes that lies between groups of patients, over all latents; from 0 to 1.

    What laboratories, rather than diseases, do to the barcodes shows here first. Groups by chance have about
    (n_groups - 1) / (n_patients - 1).

    Parameters
    ----------
    barcodes
        ``(n_patients, n_latents)``.
    groups
        Number of each patient's group, negative where unknown: left out; ``(n_patients,)``.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    codes = np.asarray(groups)
    values, codes = np.asarray(barcodes, np.float64)[codes >= 0], codes[codes >= 0]
    if not len(values):
        return float("nan")
    whole = ((values - values.mean(axis=0)) ** 2).sum()
    members = (values[codes == group] for group in np.unique(codes))
    within = sum(((group_values - group_values.mean(axis=0)) ** 2).sum() for group_values in members)
    return float(1 - within / whole) if whole > 0 else float("nan")
