"""The loop over the counts of cells that makes the sums of their patients, compiled; it releases the interpreter's lock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def add_counts(
    indptr: Array, indices: Array, data: Array, patients: Array, powers: Array, shown: Array, largest: Array
) -> None:
    """Add the positive entries of a CSR matrix of counts to the sums of the row's patient; a negative one is left out.

    `powers` ``(4, n_patients, n_latents)`` are the sums of the counts to the first to fourth power, `shown` ``(n_patients,
    n_latents)`` the cells with a count, `largest` ``(n_patients, n_latents, n_largest)`` the largest counts, falling.
    """
    for row in range(len(indptr) - 1):
        patient = patients[row]
        if patient < 0:
            continue
        for entry in range(indptr[row], indptr[row + 1]):
            count = np.int64(data[entry])
            if count <= 0:
                continue
            latent = indices[entry]
            power = count
            for exponent in range(len(powers)):
                powers[exponent, patient, latent] += power
                power *= count
            shown[patient, latent] += 1
            slot = largest.shape[2] - 1
            if largest[patient, latent, slot] >= count:
                continue
            while slot > 0 and largest[patient, latent, slot - 1] < count:
                largest[patient, latent, slot] = largest[patient, latent, slot - 1]
                slot -= 1
            largest[patient, latent, slot] = count
