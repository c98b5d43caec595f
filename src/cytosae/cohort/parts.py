"""What each cell and each active patch adds to a patient's barcode, in every block: parts that sum to its value."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.cohort.blocks import TOP, CountSums
from cytosae.cohort.representation import TRANSFORMS, Representation


def patch_parts(counts: sp.csr_matrix, representation: Representation) -> list[sp.csr_matrix]:
    """What an active patch of each cell adds to each latent's value, for every block, each ``(n_cells, n_latents)``.

    A block is a mean of parts of cells: of a_i[s] (count), of 1 where a_i[s] > 0 (share), of a_i[s] in the five cells
    with most (top), or in the one (strongest). A part is divided evenly among the active patches of its cell. What a
    transform makes of a block is divided as the block itself.

    Parameters
    ----------
    counts
        a_i[s] of all cells of the patient, ``(n_cells, n_latents)``.

    Returns
    -------
    Matrices with the same entries in the same order. ``counts.multiply(part)`` sums over the cells to the block after
    the transform.

    Examples
    --------
    >>> counts = sp.csr_matrix(np.array([[4], [0]]))
    >>> [part.toarray().tolist() for part in patch_parts(counts, Representation("share", "none"))]
    [[[0.125], [0.0]]]
    """
    cells = sp.coo_matrix(counts)
    keep = cells.data > 0
    row, latent, count = cells.row[keep], cells.col[keep], cells.data[keep].astype(np.float64)
    n = counts.shape[0]
    sums = CountSums.empty(1, counts.shape[1])
    sums.add(sp.csr_matrix(counts), np.zeros(n, np.int64))
    blocks = {"count": sums.barcodes(), **sums.layers()}
    order = np.lexsort((row, -count, latent))
    first = np.searchsorted(latent[order], latent[order])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - first
    parts = {"count": 1 / n, "share": 1 / (n * count), "top": (rank < TOP) / min(n, TOP), "strongest": rank < 1}
    matrices = []
    for block in representation.blocks:
        value = blocks[block][0].astype(np.float64)
        made = TRANSFORMS[representation.transform](value)
        slope = np.divide(made, value, out=np.zeros_like(value), where=value > 0)
        matrices.append(sp.csr_matrix((slope[latent] * parts[block], (row, latent)), shape=counts.shape))
    return matrices


def cell_values(
    counts: sp.csr_matrix, representation: Representation, latents: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Values of each cell whose mean over the patient's cells is the patient's, ``(n_cells, n_chosen)``.

    Parameters
    ----------
    counts
        a_i[s] of all cells of the patient, ``(n_cells, n_latents)``.
    representation
        With one block.
    """
    (part,) = patch_parts(sp.csr_matrix(counts[:, latents]), representation)
    return np.asarray(counts[:, latents].multiply(part).toarray() * counts.shape[0], np.float64)
