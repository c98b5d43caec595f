"""Results that are kept, up to a number of bytes, the longest unused going first."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition
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
