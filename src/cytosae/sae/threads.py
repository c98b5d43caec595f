"""Threads for the work along the active latents on a CPU.

They are Python's own, each with one thread of torch: the kernels release the interpreter's lock, and two pools of OpenMP
threads that wait for one another by spinning would cost more than the work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.sae.dead_latents import ranges


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(threads, "sae", initializer=begin)
    met = threading.Barrier(threads)
    list(pool.map(lambda _: met.wait(), range(threads)))  # all have begun
    return pool


def begin() -> None:
    """Make a new thread one of those that work side by side."""
    # MKL counts the threads of each thread by itself: a new one has as many as the machine, and other last bits of products.
    torch.set_num_threads(1)
    # Moments of latents that have long been silent fade into numbers so small that processors take a hundred times as long.
    torch.set_flush_denormal(True)


_local = threading.local()


@contextmanager
def _single_threads() -> Iterator[int]:
    """One thread of torch for each of ours; gives their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@contextmanager
def alone() -> Iterator[None]:
    """In the block, this thread does everything itself: for one that works beside others, each at an autoencoder of its own.

    It has to have one thread of torch.
    """
    _local.alone = True
    try:
        yield
    finally:
        _local.alone = False


def each(function: Callable[..., Any], items: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Results of calls in threads, in order."""
    if getattr(_local, "alone", False):
        return [function(*item) for item in items]
    with _single_threads() as threads:
        return list(_pool(threads).map(lambda item: function(*item), items))


def scratch(rows: int, columns: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Room for tokens and values, the same in every call of a thread: new memory is slow when it is touched first."""
    room: NDArray[np.int32] = getattr(_local, "room", np.empty((2, 0), np.int32))
    if room.shape[1] < rows * columns:
        _local.room = room = np.empty((2, rows * columns), np.int32)
    tokens, values = room[:, : rows * columns]
    return tokens.reshape(rows, columns), values.view(np.float32).reshape(rows, columns)


def thread_ranges(n: int, most: int | None = None) -> list[tuple[int, int]]:
    """One range for each thread, or more of them that are no longer than `most`."""
    size = max(1, -(-n // torch.get_num_threads()))
    return ranges(n, size if most is None else min(size, most))
