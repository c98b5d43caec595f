"""Statistics of a large study: frequency, mean, ten references and label entropy of every latent, and a loop beside it.

``python -m benchmarks.statistics --cells 171373 --latents 49152``
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import NDArray

from cytosae.concepts import LatentSums, is_concept, label_entropy, reference_images
from cytosae.concepts.references import ReferenceImages

N_LABELS, N_PATIENTS = 21, 900


@njit(cache=True)
def _fill(rng: np.random.Generator, n_latents: int, per_row: int, indptr: Any, indices: Any, data: Any) -> None:
    """Rows with about `per_row` different latents, low numbers far more often than high ones."""
    seen = np.full(n_latents, -1, np.int64)
    position = 0
    for row in range(len(indptr) - 1):
        first = position
        while position - first < per_row:
            latent = int(n_latents * rng.random() ** 2)
            if seen[latent] != row:
                seen[latent] = row
                indices[position] = latent
                data[position] = np.float32(-np.log(1 - rng.random()))
                position += 1
        indices[first:position] = np.sort(indices[first:position])
        indptr[row + 1] = position


def simulated(n_cells: int, n_latents: int, per_cell: int, seed: int = 0) -> sp.csr_matrix:
    """Image activations of cells: `per_cell` of `n_latents` are above 0."""
    indptr = np.zeros(n_cells + 1, np.int64)
    indices, data = np.empty(n_cells * per_cell, np.int32), np.empty(n_cells * per_cell, np.float32)
    _fill(np.random.default_rng(seed), n_latents, per_cell, indptr, indices, data)
    return sp.csr_matrix((data, indices, indptr), shape=(n_cells, n_latents), copy=False)


def by_loop(columns: sp.csc_matrix, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same figures, latent by latent on dense columns: frequency, mean, entropy of ten references."""
    found = np.empty((columns.shape[1], 3))
    for s in range(columns.shape[1]):
        column = columns[:, [s]].toarray()[:, 0]
        positive = column[column > 0]
        top = np.argsort(-column, kind="stable")[:10]
        weights = column[top].astype(float)
        share = np.array([weights[labels[top] == c].sum() for c in np.unique(labels[top])]) / max(weights.sum(), 1e-30)
        entropy = -(share * np.log(share + 1e-9)).sum() if weights.any() else np.nan
        found[s] = len(positive) / len(column), positive.mean() if len(positive) else 0, entropy
    return found


def measure(
    n_cells: int = 171_373, n_latents: int = 49_152, per_cell: int = 1_850, slice_of: int = 300
) -> dict[str, Any]:
    """Seconds and memory of the whole, seconds a latent of the loop on a slice, and that both agree."""
    small = simulated(8, 64, 4)
    (
        LatentSums.from_matrix(small),
        ReferenceImages.from_matrix(small, 10, 0, patients=np.arange(8), per_patient=1, seed=0),
    )  # compile
    matrix = simulated(n_cells, n_latents, per_cell)
    labels = np.random.default_rng(0).integers(0, N_LABELS, n_cells)
    patients = np.random.default_rng(1).integers(0, N_PATIENTS, n_cells)
    start = time.perf_counter()
    sums, references = LatentSums.from_matrix(matrix), reference_images(matrix, 10)
    frequency, mean = sums.activation_frequency(), sums.mean_activation()
    entropy = label_entropy(references.values, np.where(references.cells >= 0, labels[references.cells], -1))
    concepts = is_concept(mean)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    ReferenceImages.from_matrix(matrix, 10, 0, patients=patients, per_patient=1, seed=0)
    gallery = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    chosen = np.sort(np.random.default_rng(2).permutation(n_latents)[:slice_of])
    columns = matrix[:, chosen].tocsc()
    start = time.perf_counter()
    looped = by_loop(columns, labels)
    loop = time.perf_counter() - start
    np.testing.assert_allclose(
        looped, np.stack([frequency[chosen], mean[chosen], entropy[chosen]], axis=1), rtol=1e-4, atol=1e-6
    )
    return {
        "cells": n_cells,
        "latents": n_latents,
        "entries": int(matrix.nnz),
        "concepts": int(concepts.sum()),
        "seconds": seconds,
        "seconds_of_all_kinds_of_references": gallery,
        "peak_gib": peak,
        "loop_seconds_extrapolated": loop / slice_of * n_latents,
        "loop_over_ours": loop / slice_of * n_latents / seconds,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=171_373)
    parser.add_argument("--latents", type=int, default=49_152)
    parser.add_argument("--per-cell", type=int, default=1_850, help="latents above 0 in a cell")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    found = measure(given.cells, given.latents, given.per_cell)
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<36} {value:,.4g}" if isinstance(value, float) else f"{name:<36} {value:,}")


if __name__ == "__main__":
    main()
