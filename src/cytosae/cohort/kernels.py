"""Loops over the counts of cells and over the levels of patients, compiled; they release the interpreter's lock."""

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


@njit(cache=True, nogil=True)
def _weights(order: Array, values: Array, stratum: Array, spread: Array, weights: Array) -> None:
    """One over the standard deviation of the sum of the labels of the patients up to each place of the order; 0 where the
    next patient has the same value, and where the sum does not vary. All are ``(n_patients,)``.
    """
    n = len(order)
    taken = np.zeros(len(spread))
    for index in range(n):
        taken[stratum[order[index]]] += 1
        weights[index] = 0
        if index + 1 < n and values[order[index]] > values[order[index + 1]]:
            variance = 0.0
            for s in range(len(spread)):
                size = spread[s, 0]
                variance += taken[s] * (size - taken[s]) / (size - 1) * spread[s, 1]
            if variance > 0:
                weights[index] = 1 / np.sqrt(variance)


@njit(cache=True, nogil=True)
def largest_excess(order: Array, values: Array, centred: Array, stratum: Array, spread: Array) -> tuple[Array, Array]:
    """The largest standardised sum of centred labels over the patients with the largest values, and the place of the last.

    `order` ``(n_latents, n_patients)`` are the patients by falling values, `values` ``(n_patients, n_latents)``; `spread`
    has the patients and the variance of a label of each stratum. Returns z and places, ``(n_latents,)``.
    """
    n_latents, n = order.shape
    z, at, weights = np.zeros(n_latents), np.zeros(n_latents, np.int64), np.zeros(n)
    for latent in range(n_latents):
        _weights(order[latent], values[:, latent], stratum, spread, weights)
        total = 0.0
        for index in range(n):
            total += centred[order[latent, index]]
            if abs(total * weights[index]) > abs(z[latent]) + 1e-9:
                z[latent], at[latent] = total * weights[index], index
    return z, at


@njit(cache=True, nogil=True)
def reaches_as_far(order: Array, values: Array, labels: Array, stratum: Array, spread: Array, least: Array) -> Array:
    """In how many permuted `labels` ``(n_permutations, n_patients)`` the largest standardised sum is at least as large.

    Otherwise as for `largest_excess`; `least` are its absolute values, ``(n_latents,)``.
    """
    n_latents, n = order.shape
    reached, weights = np.zeros(n_latents, np.int64), np.zeros(n)
    for latent in range(n_latents):
        _weights(order[latent], values[:, latent], stratum, spread, weights)
        enough = least[latent] * (1 - 1e-5)
        for draw in range(len(labels)):
            total = 0.0
            for index in range(n):
                total += labels[draw, order[latent, index]]
                if weights[index] > 0 and abs(total * weights[index]) >= enough:
                    reached[latent] += 1
                    break
    return reached
