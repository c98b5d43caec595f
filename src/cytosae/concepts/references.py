"""Which cells stand for a latent: the strongest, and what a sceptic wants to see beside them.

Sparse matrices are cells x latents and hold the image activations m_i[s].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.concepts import kernels

SAMPLE = 100
"""Activating cells of each latent that are drawn at random, from which the random, middle and low ones are taken."""
MIDDLE, LOW = 0.5, 0.1
"""Quantiles of the activation among activating cells around which the middle and the low references lie."""


@dataclass(frozen=True)
class References:
    """Up to k cells of each latent, by falling key, ties by the smaller row; the rest is row -1 and value 0.

    Lists of disjoint cells merge to the list of all, in any order and grouping.
    """

    cells: NDArray[np.int64]
    """Rows, ``(n_latents, k)``."""
    values: NDArray[np.float32]
    """m_i[s], ``(n_latents, k)``."""
    keys: NDArray[np.float64]
    """What they are ordered by, ``(n_latents, k)``: the value itself, or a hash."""
    patients: NDArray[np.int32]
    """Number of the cell's patient, ``(n_latents, k)``; -1 where it is unknown."""
    per_patient: int = 0
    """Cells of one patient in a list, at most; 0 is any number."""

    @classmethod
    def from_matrix(
        cls,
        mean_activation: sp.csr_matrix,
        k: int = 10,
        first_row: int = 0,
        *,
        patients: NDArray[np.integer] | None = None,
        per_patient: int = 0,
        seed: int | None = None,
    ) -> References:
        """References among the cells of a matrix.

        Parameters
        ----------
        mean_activation
            m_i[s], ``(n_cells, n_latents)``.
        k
            Length of a list.
        first_row
            Number of the matrix's first row among all cells.
        patients
            Number of each cell's patient, ``(n_cells,)``; -1 where unknown, such cells are not limited.
        per_patient
            Cells of one patient in a list, at most; 0 is any number. A list is then what is left of the full order when
            every cell beyond that number is crossed out.
        seed
            Order by a hash instead of by value: a random draw among the activating cells. The hash is a function of the
            seed, the cell's row and the latent alone.
        """
        references = cls.empty(mean_activation.shape[1], k, per_patient)
        references.add(mean_activation, first_row, patients=patients, seed=seed)
        return references

    def add(
        self,
        mean_activation: sp.csr_matrix,
        first_row: int,
        *,
        patients: NDArray[np.integer] | None = None,
        seed: int | None = None,
    ) -> None:
        """Take in more cells; see `from_matrix`."""
        owners = np.full(mean_activation.shape[0], -1)
        if self.per_patient and patients is not None:
            owners = np.asarray(patients)
        kernels.keep(
            mean_activation.indptr,
            mean_activation.indices,
            mean_activation.data,
            first_row,
            owners.astype(np.int32),
            self.per_patient or self.cells.shape[1],
            -1 if seed is None else seed,
            self._arrays(),
        )

    @classmethod
    def empty(cls, n_latents: int, k: int = 10, per_patient: int = 0) -> References:
        """Lists of no cells yet."""
        shape = (n_latents, k)
        return cls(
            np.full(shape, -1, np.int64),
            np.zeros(shape, np.float32),
            np.zeros(shape),
            np.full(shape, -1, np.int32),
            per_patient,
        )

    def _arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64], NDArray[np.int32]]:
        return self.cells, self.values, self.keys, self.patients

    def merge(self, other: References) -> References:
        """References among the cells of both; a list of other length, or with another limit, is refused."""
        if self.cells.shape != other.cells.shape or self.per_patient != other.per_patient:
            raise ValueError("only lists of the same length, latents and limit per patient can be merged")
        merged = References(
            self.cells.copy(), self.values.copy(), self.keys.copy(), self.patients.copy(), self.per_patient
        )
        kernels.keep_lists(other._arrays(), self.per_patient or self.cells.shape[1], merged._arrays())
        return merged

    def around(self, quantile: float, k: int = 10) -> References:
        """The k cells of each list whose values lie around a quantile of the list's, strongest first.

        Of a random draw these are a draw from the cells around that quantile of all activating cells; where the draw
        holds all of them, they are exact.
        """
        order = np.lexsort((self.cells, -self.values), axis=1)
        count = (self.cells >= 0).sum(axis=1)
        start = np.rint((1 - quantile) * count).astype(np.int64) - k // 2
        start = np.clip(start, 0, np.maximum(count - k, 0))
        positions = start[:, None] + np.arange(k)
        inside = positions < count[:, None]
        chosen = np.take_along_axis(order, np.minimum(positions, order.shape[1] - 1), axis=1)
        return self._chosen(chosen, inside)

    def first(self, k: int = 10) -> References:
        """The first k cells of each list, strongest first."""
        order = np.lexsort((self.cells[:, :k], -self.values[:, :k]), axis=1)
        return self._chosen(order, np.take_along_axis(self.cells, order, axis=1) >= 0)

    def _chosen(self, positions: NDArray[np.int64], inside: NDArray[np.bool_]) -> References:
        def take(array: NDArray[Any], empty: float) -> NDArray[Any]:
            return np.where(inside, np.take_along_axis(array, positions, axis=1), empty).astype(array.dtype)

        owners = take(self.patients, -1)
        return References(take(self.cells, -1), take(self.values, 0), take(self.keys, 0), owners, self.per_patient)


def reference_images(mean_activation: sp.csr_matrix, k: int = 10) -> References:
    """The `k` cells with the largest m_i[s] of each latent (section 2 of CytoSAE).

    Examples
    --------
    >>> reference_images(sp.csr_matrix([[0.0], [2.0], [1.0]]), k=2).cells.tolist()
    [[1, 2]]
    """
    return References.from_matrix(mean_activation, k)


@dataclass(frozen=True)
class ReferenceImages:
    """All kinds of reference cells, gathered together; those of several sets of cells merge to those of all."""

    strongest: References
    spread: References | None
    """The strongest with at most so many of one patient; None where no patient is known."""
    sample: References
    """A random draw of `SAMPLE` activating cells."""

    seed: int
    """Of the draw."""

    @classmethod
    def empty(cls, n_latents: int, k: int, per_patient: int, seed: int) -> ReferenceImages:
        """Of no cells yet; see `References.from_matrix`."""
        spread = References.empty(n_latents, k, per_patient) if per_patient else None
        return cls(References.empty(n_latents, k), spread, References.empty(n_latents, max(k, SAMPLE)), seed)

    @classmethod
    def from_matrix(
        cls,
        mean_activation: sp.csr_matrix,
        k: int,
        first_row: int,
        *,
        patients: NDArray[np.integer],
        per_patient: int,
        seed: int,
    ) -> ReferenceImages:
        """Gather the cells of a matrix; see `References.from_matrix`. Numbers of patients are those of all cells."""
        references = cls.empty(mean_activation.shape[1], k, per_patient, seed)
        references.add(mean_activation, first_row, patients)
        return references

    def add(self, mean_activation: sp.csr_matrix, first_row: int, patients: NDArray[np.integer]) -> None:
        """Take in more cells."""
        self.strongest.add(mean_activation, first_row)
        if self.spread is not None:
            self.spread.add(mean_activation, first_row, patients=patients)
        self.sample.add(mean_activation, first_row, seed=self.seed)

    def merge(self, other: ReferenceImages) -> ReferenceImages:
        """The reference images of the cells of both."""
        spread = self.spread
        if spread is not None and other.spread is not None:
            spread = spread.merge(other.spread)
        return ReferenceImages(
            self.strongest.merge(other.strongest), spread, self.sample.merge(other.sample), self.seed
        )

    def kinds(self) -> dict[str, References]:
        """Lists by kind (`cytosae.concepts.schema.KINDS`), each of the length of `strongest`."""
        k = self.strongest.cells.shape[1]
        lists = {"reference": self.strongest}
        if self.spread is not None:
            lists["spread"] = self.spread
        return {
            **lists,
            "random": self.sample.first(k),
            "middle": self.sample.around(MIDDLE, k),
            "low": self.sample.around(LOW, k),
        }
