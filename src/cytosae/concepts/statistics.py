"""What one latent does over many cells: frequency, mean, label entropy. Arrays in, numbers out.

Sparse matrices are cells x latents; ``mean_activation`` m_i[s] and counts a_i[s] are those of `cytosae.concepts.encode`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from cytosae.concepts import kernels
from cytosae.settings import CONCEPT_THRESHOLD


@dataclass(frozen=True)
class ExactSums:
    """Sums of values of 0 and more that do not depend on the order, nor on how partial sums were grouped.

    Fixed-point numbers of 64 bits before and 64 bits after the point, so that adding is adding of whole numbers (Kulisch's
    accumulator, cut to the range that activations have). A float32 above 2**-41 is added exactly, a smaller one without its
    bits below 2**-64; the sum is rounded once, when it is read. Sums have to stay below 2**63.
    """

    whole: NDArray[np.int64]
    fraction: NDArray[np.uint64]
    """In units of 2**-64."""

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> ExactSums:
        """Of nothing yet."""
        return cls(np.zeros(shape, np.int64), np.zeros(shape, np.uint64))

    def __add__(self, other: ExactSums) -> ExactSums:
        fraction = self.fraction + other.fraction
        return ExactSums(self.whole + other.whole + (fraction < self.fraction), fraction)

    def value(self) -> NDArray[np.float64]:
        """The sums, rounded."""
        return self.whole + self.fraction * 2.0**-64


@dataclass(frozen=True)
class Groups:
    """Mergeable sums over the cells of each group: of a label, of a diagnosis, of a patient, or of all.

    Parts of the cells add up to the sums of all, to the last bit, in any order and grouping.
    """

    names: tuple[str, ...]
    n_cells: NDArray[np.int64]
    """``(n_groups,)``."""
    active: NDArray[np.int64]
    """Cells with m_i[s] > 0, ``(n_groups, n_latents)``."""
    sums: ExactSums
    """Sum of m_i[s], ``(n_groups, n_latents)``."""

    @classmethod
    def empty(cls, names: Iterable[str], n_latents: int) -> Groups:
        """Of no cells yet."""
        known = tuple(names)
        shape = (len(known), n_latents)
        return cls(known, np.zeros(len(known), np.int64), np.zeros(shape, np.int64), ExactSums.zeros(shape))

    def add(self, mean_activation: sp.csr_matrix, codes: NDArray[np.integer]) -> None:
        """Take in more cells; `codes` ``(n_cells,)`` are the groups' numbers, negative where unknown."""
        group_numbers = np.asarray(codes, np.int64)
        self.n_cells[:] += np.bincount(group_numbers[group_numbers >= 0], minlength=len(self.names))
        matrix = mean_activation.indptr, mean_activation.indices, mean_activation.data
        kernels.add_sums(*matrix, group_numbers, self.active, self.sums.whole, self.sums.fraction)

    def __add__(self, other: Groups) -> Groups:
        if self.names != other.names:
            raise ValueError("only sums of the same groups can be added")
        return Groups(self.names, self.n_cells + other.n_cells, self.active + other.active, self.sums + other.sums)

    @property
    def total(self) -> NDArray[np.float64]:
        """Sum of m_i[s], ``(n_groups, n_latents)``."""
        return self.sums.value()

    def mean_activation(self) -> NDArray[np.float32]:
        """Mean of m_i[s] over all cells of each group, silent ones too; ``(n_latents, n_groups)``."""
        return (self.total / np.maximum(self.n_cells, 1)[:, None]).T.astype(np.float32)

    def activation_frequency(self) -> NDArray[np.float32]:
        """Share of each group's cells with m_i[s] > 0; ``(n_latents, n_groups)``."""
        return (self.active / np.maximum(self.n_cells, 1)[:, None]).T.astype(np.float32)


@dataclass(frozen=True)
class LatentSums:
    """Mergeable sums over cells, from which frequency and mean activation follow; exact as `Groups` are."""

    all_cells: Groups
    """One group: all cells."""

    @classmethod
    def empty(cls, n_latents: int) -> LatentSums:
        """Of no cells yet."""
        return cls(Groups.empty(["all"], n_latents))

    @classmethod
    def from_matrix(cls, mean_activation: sp.csr_matrix) -> LatentSums:
        """Sums over the cells of a matrix."""
        sums = cls.empty(mean_activation.shape[1])
        sums.add(mean_activation)
        return sums

    def add(self, mean_activation: sp.csr_matrix) -> None:
        """Take in more cells."""
        self.all_cells.add(mean_activation, np.zeros(mean_activation.shape[0], np.int64))

    def __add__(self, other: LatentSums) -> LatentSums:
        return LatentSums(self.all_cells + other.all_cells)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return int(self.all_cells.n_cells[0])

    @property
    def active(self) -> NDArray[np.int64]:
        """Cells with m_i[s] > 0, ``(n_latents,)``."""
        return self.all_cells.active[0]

    @property
    def total(self) -> NDArray[np.float64]:
        """Sum of m_i[s], ``(n_latents,)``."""
        return self.all_cells.total[0]

    def activation_frequency(self) -> NDArray[np.float64]:
        """Share of cells with m_i[s] > 0 (section 4 of the paper's definitions)."""
        return self.active / max(1, self.n_cells)

    def mean_activation(self) -> NDArray[np.float64]:
        """Mean of m_i[s] over the cells with m_i[s] > 0; 0 where there is none."""
        total = self.total
        return np.divide(total, self.active, out=np.zeros_like(total), where=self.active > 0)


def activation_frequency(mean_activation: sp.csr_matrix) -> NDArray[np.float64]:
    """Share of cells in which each latent is active at all, m_i[s] > 0; ``(n_latents,)``.

    Examples
    --------
    >>> activation_frequency(sp.csr_matrix([[0.0, 2.0], [1.0, 3.0]])).tolist()
    [0.5, 1.0]
    """
    return LatentSums.from_matrix(mean_activation).activation_frequency()


def mean_activation(mean_activation: sp.csr_matrix) -> NDArray[np.float64]:
    """Mean of m_i[s] over the cells with m_i[s] > 0, 0 where there is none; ``(n_latents,)``.

    Examples
    --------
    >>> mean_activation(sp.csr_matrix([[0.0, 2.0], [1.0, 3.0]])).tolist()
    [1.0, 2.5]
    """
    return LatentSums.from_matrix(mean_activation).mean_activation()


def is_common(activation_frequency: ArrayLike, fraction: float = 0.99) -> NDArray[np.bool_]:
    """Latents that are active in nearly every image of a data set, more than `fraction` of them; ``(n_latents,)``.

    Examples
    --------
    >>> is_common([0.5, 0.995]).tolist()
    [False, True]
    """
    return np.asarray(activation_frequency) > fraction


def is_concept(mean_activation: ArrayLike, threshold: float = CONCEPT_THRESHOLD) -> NDArray[np.bool_]:
    """Discovered concepts: latents with log10(mean activation) above `threshold`.

    Parameters
    ----------
    mean_activation
        Mean activation of each latent, ``(n_latents,)``.
    threshold
        In log10 units.

    Examples
    --------
    >>> is_concept([1e-4, 0.1]).tolist()
    [False, True]
    """
    values = np.asarray(mean_activation, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.log10(values) > threshold


def label_entropy(values: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    r"""Entropy of the labels of a latent's reference images, each weighted by its value.

    .. math:: p_c = \sum_{j: l_j = c} v_j \,/\, \sum_j v_j, \qquad E = - \sum_c p_c \ln(p_c + 10^{-9})

    Parameters
    ----------
    values
        m_i[s] of the reference images, ``(n_latents, k)``, none negative.
    labels
        Their labels as whole numbers, ``(n_latents, k)``; negative where a label is unknown. Images of unknown label
        are left out.

    Returns
    -------
    ``(n_latents,)``, in nats; NaN where no labelled reference image has a value above 0.

    Raises
    ------
    ValueError
        The shapes differ, or a value is negative.

    Examples
    --------
    >>> label_entropy([[1.0, 1.0]], [[0, 1]]).round(3).tolist()  # two images of two types
    [0.693]
    """
    weights, classes = np.asarray(values, dtype=np.float64), np.asarray(labels)
    if weights.shape != classes.shape or weights.ndim != 2:
        raise ValueError(f"values {weights.shape} and labels {classes.shape} must both be (n_latents, k)")
    if (weights < 0).any():
        raise ValueError("values must not be negative")
    weights = np.where(classes >= 0, weights, 0.0)
    # Sort each row by class; the weight of a class is then a run, found for all rows at once.
    order = np.argsort(classes, axis=1, kind="stable")
    classes, weights = np.take_along_axis(classes, order, 1), np.take_along_axis(weights, order, 1)
    new_run = np.ones(classes.shape, dtype=bool)
    new_run[:, 1:] = classes[:, 1:] != classes[:, :-1]
    runs = np.cumsum(new_run.ravel()) - 1
    mass = np.bincount(runs, weights=weights.ravel()) if weights.size else np.zeros(0)
    latent = np.repeat(np.arange(len(weights)), weights.shape[1])[new_run.ravel()]
    total = weights.sum(axis=1)
    fraction = np.divide(mass, total[latent], out=np.zeros_like(mass), where=total[latent] > 0)
    entropy = -np.bincount(latent, weights=fraction * np.log(fraction + 1e-9), minlength=len(weights))
    return np.where(total > 0, entropy, np.nan)
