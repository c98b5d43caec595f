"""Loops over the entries of sparse matrices of cells and latents, compiled; they release the interpreter's lock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def add_sums(
    indptr: Array, indices: Array, data: Array, codes: Array, active: Array, whole: Array, fraction: Array
) -> None:
    """Add the positive entries of a CSR matrix to their number and their sum, ``(n_groups, n_latents)``, by the row's group.

    A sum is a fixed-point number in two words, `whole` (int64) and `fraction` (uint64, in units of 2**-64). Rows with a
    negative group are left out.
    """
    for row in range(len(indptr) - 1):
        group = codes[row]
        if group < 0:
            continue
        for entry in range(indptr[row], indptr[row + 1]):
            value = np.float64(data[entry])
            if value > 0:
                latent = indices[entry]
                units = np.floor(value)
                rest = np.uint64((value - units) * 18446744073709551616.0)
                before = fraction[group, latent]
                after = before + rest
                active[group, latent] += 1
                fraction[group, latent] = after
                whole[group, latent] += np.int64(units) + (1 if after < before else 0)


@njit(cache=True, nogil=True)
def _insert(
    cell: int, value: float, key: float, owner: int, cap: int, lists: tuple[Array, Array, Array, Array]
) -> None:
    """Put an entry into the list of one latent, ordered by falling key and then by cell, where it belongs there."""
    cells, values, keys, owners = lists
    k = len(cells)
    last = k - 1  # the slot that is given up
    if owner >= 0:
        count = 0
        for slot in range(k):
            if cells[slot] >= 0 and owners[slot] == owner:
                count += 1
                if count == cap:
                    last = slot
                    break
    if cells[last] >= 0 and (keys[last] > key or (keys[last] == key and cells[last] < cell)):
        return
    slot = last
    while slot > 0 and (
        cells[slot - 1] < 0 or keys[slot - 1] < key or (keys[slot - 1] == key and cells[slot - 1] > cell)
    ):
        cells[slot], values[slot] = cells[slot - 1], values[slot - 1]
        keys[slot], owners[slot] = keys[slot - 1], owners[slot - 1]
        slot -= 1
    cells[slot], values[slot], keys[slot], owners[slot] = cell, value, key, owner


@njit(cache=True, nogil=True)
def cell_hash(cell: int, latent: int, seed: int) -> float:
    """A number from 0 to 1 that depends on its arguments alone (finaliser of SplitMix64; Steele et al., 2014)."""
    z = np.uint64(cell) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(latent) * np.uint64(0xD1B54A32D192ED03)
    z += np.uint64(seed) * np.uint64(0x8CB92BA72F3D8DD7) + np.uint64(0x2545F4914F6CDD1D)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) / 9007199254740992.0


@njit(cache=True, nogil=True)
def keep(
    indptr: Array,
    indices: Array,
    data: Array,
    first: int,
    row_owners: Array,
    cap: int,
    seed: int,
    lists: tuple[Array, Array, Array, Array],
) -> None:
    """Put the positive entries of a CSR matrix of cells into the lists of their latents, each array ``(n_latents, k)``.

    The key is the value, or with a seed of 0 and more a hash of the cell and the latent.
    """
    cells, values, keys, owners = lists
    last = cells.shape[1] - 1
    for row in range(len(indptr) - 1):
        cell, owner = first + row, row_owners[row]
        for entry in range(indptr[row], indptr[row + 1]):
            value, latent = data[entry], indices[entry]
            if value <= 0:
                continue
            key = float(value) if seed < 0 else cell_hash(cell, latent, seed)
            if cells[latent, last] >= 0 and key < keys[latent, last]:
                continue
            _insert(cell, value, key, owner, cap, (cells[latent], values[latent], keys[latent], owners[latent]))


@njit(cache=True, nogil=True)
def keep_lists(more: tuple[Array, Array, Array, Array], cap: int, lists: tuple[Array, Array, Array, Array]) -> None:
    """Put the entries of other lists of the same shape into lists."""
    cells, values, keys, owners = lists
    for latent in range(len(cells)):
        for slot in range(cells.shape[1]):
            if more[0][latent, slot] >= 0:
                _insert(
                    more[0][latent, slot],
                    more[1][latent, slot],
                    more[2][latent, slot],
                    more[3][latent, slot],
                    cap,
                    (cells[latent], values[latent], keys[latent], owners[latent]),
                )
