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


@dataclass(frozen=True)
class LatentSums:
    """Mergeable sums over cells, from which frequency and mean activation follow; each ``(n_latents,)``."""

    n_cells: int
    active: NDArray[np.int64]
    """Cells with m_i[s] > 0."""
    total: NDArray[np.float64]
    """Sum of m_i[s]."""

    @classmethod
    def of(cls, mean_activation: sp.csr_matrix) -> LatentSums:
        """Sums over the cells of a matrix."""
        n_cells, n_latents = mean_activation.shape
        active, total = np.zeros(n_latents, np.int64), np.zeros(n_latents)
        kernels.add_sums(mean_activation.indices, mean_activation.data, active, total)
        return cls(n_cells, active, total)

    def __add__(self, other: LatentSums) -> LatentSums:
        return LatentSums(self.n_cells + other.n_cells, self.active + other.active, self.total + other.total)

    def activation_frequency(self) -> NDArray[np.float64]:
        """Share of cells with m_i[s] > 0 (section 4 of the paper's definitions)."""
        return self.active / max(1, self.n_cells)

    def mean_activation(self) -> NDArray[np.float64]:
        """Mean of m_i[s] over the cells with m_i[s] > 0; 0 where there is none."""
        return np.divide(self.total, self.active, out=np.zeros_like(self.total), where=self.active > 0)


@dataclass(frozen=True)
class Groups:
    """Sums over the cells of each group (of a label, of a diagnosis)."""

    names: tuple[str, ...]
    n_cells: NDArray[np.int64]
    """``(n_groups,)``."""
    active: NDArray[np.int64]
    """Cells with m_i[s] > 0, ``(n_groups, n_latents)``."""
    total: NDArray[np.float64]
    """Sum of m_i[s], ``(n_groups, n_latents)``."""

    @classmethod
    def empty(cls, names: Iterable[str], n_latents: int) -> Groups:
        """Of no cells yet."""
        known = tuple(names)
        shape = (len(known), n_latents)
        return cls(known, np.zeros(len(known), np.int64), np.zeros(shape, np.int64), np.zeros(shape))

    def add(self, mean_activation: sp.csr_matrix, codes: NDArray[np.integer]) -> None:
        """Take in more cells; `codes` ``(n_cells,)`` are the groups' numbers, negative where unknown."""
        for group in np.unique(codes[codes >= 0]):
            part = mean_activation[codes == group]
            self.n_cells[group] += part.shape[0]
            kernels.add_sums(part.indices, part.data, self.active[group], self.total[group])

    def mean_activation(self) -> NDArray[np.float32]:
        """Mean of m_i[s] over all cells of each group, silent ones too; ``(n_latents, n_groups)``."""
        return (self.total / np.maximum(self.n_cells, 1)[:, None]).T.astype(np.float32)

    def activation_frequency(self) -> NDArray[np.float32]:
        """Share of each group's cells with m_i[s] > 0; ``(n_latents, n_groups)``."""
        return (self.active / np.maximum(self.n_cells, 1)[:, None]).T.astype(np.float32)


def activation_frequency(mean_activation: sp.csr_matrix) -> NDArray[np.float64]:
    """Share of cells in which each latent is active at all, m_i[s] > 0; ``(n_latents,)``."""
    return LatentSums.of(mean_activation).activation_frequency()


def mean_activation(mean_activation: sp.csr_matrix) -> NDArray[np.float64]:
    """Mean of m_i[s] over the cells with m_i[s] > 0, 0 where there is none; ``(n_latents,)``."""
    return LatentSums.of(mean_activation).mean_activation()


def is_common(activation_frequency: ArrayLike, share: float = 0.99) -> NDArray[np.bool_]:
    """Latents that are active in nearly every image of a data set, more than `share` of them; ``(n_latents,)``."""
    return np.asarray(activation_frequency) > share


def is_concept(mean_activation: ArrayLike, threshold: float = -3.0) -> NDArray[np.bool_]:
    """Discovered concepts: latents with log10(mean activation) above `threshold`.

    Parameters
    ----------
    mean_activation
        Mean activation of each latent, ``(n_latents,)``.
    threshold
        In log10 units; the paper's is -3.
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
    share = np.divide(mass, total[latent], out=np.zeros_like(mass), where=total[latent] > 0)
    entropy = -np.bincount(latent, weights=share * np.log(share + 1e-9), minlength=len(weights))
    return np.where(total > 0, entropy, np.nan)
