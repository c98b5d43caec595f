"""What is made once and kept: for good, or up to a number of bytes, the longest unused going first."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition, Lock
from typing import Any, ParamSpec, TypeVar

from cachetools import LRUCache, cached

P = ParamSpec("P")
R = TypeVar("R")


def bounded(limit: int, size: Callable[[Any], int] = len) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function to keep its results by its arguments; each is made once, also when several threads ask together.

    Parameters
    ----------
    limit
        Bytes that are kept, at most. A result larger than that is not kept.
    size
        Bytes of a result.
    """
    return cached(LRUCache(limit, size), condition=Condition())


def once(make: Callable[[], R]) -> Callable[[], R]:
    """What is made on first use, and once also when several threads ask together: two would need twice the memory.

    `make` takes no lock that a thread may hold when it asks: each of the two would wait for the other, for ever. That is
    why it is not `functools.cached_property`, which holds a lock of its own up to Python 3.11 and none later.
    """
    lock, made = Lock(), list[R]()

    def get() -> R:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return get
