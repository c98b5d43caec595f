"""Which cells look like this one, by their concepts; and which show what is active in a region of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.explorer.caching import bounded
from cytosae.explorer.dataset import DataSet
from cytosae.explorer.schemas import cells as s

COMPARED = 20_000
"""Cells of a data set that are compared, evenly spread over it."""
SHOWN, TOGETHER = 24, 5
"""Cells that are listed; concepts of a region that a cell has to show together."""
_BYTES = 128 * 2**20


@dataclass(frozen=True)
class _Compared:
    rows: NDArray[np.int64]
    means: sp.csr_matrix
    """m_i[s] of these cells, ``(n_cells, n_latents)``."""
    unit: sp.csr_matrix
    """The same, weighted by rarity, with length 1."""
    weight: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        return int(sum(m.data.nbytes + m.indices.nbytes for m in (self.means, self.unit)))


@bounded(_BYTES, lambda compared: compared.nbytes)
def _compared(data: DataSet) -> _Compared:
    rows = np.unique(np.linspace(0, data.n_cells - 1, min(COMPARED, data.n_cells)).round().astype(np.int64))
    means = sp.csr_matrix(data.activations(rows)[1], dtype=np.float32)
    frequency = data.var["activation_frequency"].to_numpy(np.float64)
    weight = np.where(data.concepts & (frequency > 0), -np.log(np.clip(frequency, 1e-12, 1)), 0).astype(np.float32)
    return _Compared(rows, means, _unit(means, weight), weight)


def _unit(means: sp.csr_matrix, weight: NDArray[np.float32]) -> sp.csr_matrix:
    """Square roots of m_i[s], times the weight of each latent, with length 1: no single strong concept decides."""
    weighted = sp.csr_matrix(means.sqrt().multiply(weight[None]))
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return sp.csr_matrix(sp.diags(1 / np.maximum(length, 1e-12)) @ weighted)


def similar_cells(data: DataSet, means: sp.csr_matrix, row: int | None = None) -> s.SimilarCells:
    """The cells of a data set whose concepts are most like those of a cell.

    Parameters
    ----------
    data
        Where to look.
    means
        m_i[s] of the cell, ``(1, n_latents)``.
    row
        Its own row, which is left out; None for a cell of elsewhere.

    Returns
    -------
    Cosine of the square roots of m_i[s], each times the logarithm of one over the share of cells that show the concept; and
    the concepts that add most to it.
    """
    compared = _compared(data)
    own = _unit(sp.csr_matrix(means, dtype=np.float32), compared.weight)
    cosine = np.asarray((compared.unit @ own.T).todense()).ravel()
    cosine[compared.rows == (-1 if row is None else row)] = -1
    chosen = np.argsort(-cosine, kind="stable")[:SHOWN]
    chosen = chosen[cosine[chosen] > 0]
    shared = []
    for index in chosen:
        products = compared.unit[index].multiply(own).tocsr()
        strongest = np.argsort(-products.data, kind="stable")[:3]
        shared.append(products.indices[strongest].tolist())
    return _listed(data, compared, chosen, cosine, shared)


def cells_of_region(data: DataSet, region: Sequence[s.RegionConcept], row: int) -> s.SimilarCells:
    """The cells that show the concepts of a region together, most of them first.

    The score of a cell is the geometric mean, over the first `TOGETHER` concepts of the region, of m_i[s] over
    the largest in the data set's compared cells; 0 where one of them is silent.
    """
    compared = _compared(data)
    latents = [one.latent for one in region[:TOGETHER]]
    if not latents:
        return s.SimilarCells(compared=len(compared.rows), cells=[])
    columns = compared.means[:, latents].toarray()
    largest = np.maximum(columns.max(axis=0), 1e-12)
    with np.errstate(divide="ignore"):
        score = np.exp(np.log(columns / largest).mean(axis=1))
    score[compared.rows == row] = 0
    chosen = np.argsort(-score, kind="stable")[:SHOWN]
    chosen = chosen[score[chosen] > 0]
    return _listed(data, compared, chosen, score, [latents] * len(chosen))


def _listed(
    data: DataSet,
    compared: _Compared,
    chosen: NDArray[np.int64],
    scores: NDArray[np.floating],
    shared: Sequence[Sequence[int]],
) -> s.SimilarCells:
    refs = data.refs(compared.rows[chosen])
    cells = [
        s.SimilarCell(**ref, score=float(scores[index]), shared=list(latents))
        for ref, index, latents in zip(refs, chosen, shared, strict=True)
    ]
    return s.SimilarCells(compared=len(compared.rows), cells=cells)
