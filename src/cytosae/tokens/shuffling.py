"""The order in which training sees cells: a pure function of the seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def shuffled_batches(
    cells: NDArray[np.int64], batch_size: int, seed: int, start: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Endless batches of whole images, each epoch a fresh uniform permutation of all cells.

    Batch `b` holds the positions ``b * batch_size`` up to ``(b + 1) * batch_size`` of the endless sequence of
    epochs, so a batch may straddle two epochs and none is ever short. Since the permutation of epoch `e` depends
    on `seed` and `e` alone, the sequence can be entered at any batch, and any number of readers sees the same.

    Parameters
    ----------
    cells
        Row numbers to draw from, shape ``(n_cells,)``.
    batch_size
        Cells in a batch.
    seed
        Fixes the order.
    start
        First batch to yield.

    Examples
    --------
    >>> batches = shuffled_batches(np.arange(4), 2, seed=0)
    >>> sorted(next(batches).tolist() + next(batches).tolist())
    [0, 1, 2, 3]
    """
    if len(cells) == 0 or batch_size < 1:
        raise ValueError(f"need at least one cell and a positive batch size, got {len(cells)} and {batch_size}")
    epoch, order = -1, cells
    for batch in range(start, 2**62):
        chosen: list[NDArray[np.int64]] = []
        position, stop = batch * batch_size, (batch + 1) * batch_size
        while position < stop:
            if position // len(cells) != epoch:
                epoch = position // len(cells)
                order = cells[np.random.default_rng([seed, 0, epoch]).permutation(len(cells))]
            first = position - epoch * len(cells)
            rows = order[first : first + stop - position]
            chosen.append(rows)
            position += len(rows)
        yield np.concatenate(chosen)


def in_order(n_cells: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """All rows once, in order; the last batch may be short.

    Examples
    --------
    >>> [batch.tolist() for batch in in_order(5, 2)]
    [[0, 1], [2, 3], [4]]
    """
    for start in range(0, n_cells, batch_size):
        yield np.arange(start, min(start + batch_size, n_cells), dtype=np.int64)
