"""What an engine is, and the one that needs nothing: this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

Tick = Callable[[int], None]
"""Called with the number of cells that were finished since the last call."""
Work = Callable[[Iterable[Any], Tick], Iterator[Any]]
"""Yields the result of each unit, in their order."""
WorkFactory = Callable[[], Work]
"""Loads what the work needs, a model for instance. Called once in each replica, so it has to be picklable."""


class Engine(Protocol):
    """Does units of work."""

    @property
    def replicas(self) -> int:
        """Units that are worked on at the same time."""

    def map(self, factory: WorkFactory, units: Iterable[Any], tick: Tick) -> Iterator[Any]:
        """Yield the results of all units, in the order in which they are finished.

        A unit is asked for only when a replica can take it: `units` may be endless.
        """


class LocalEngine:
    """The engine that works in this process: one replica, which sees all units and may look ahead."""

    replicas = 1

    def map(self, factory: WorkFactory, units: Iterable[Any], tick: Tick) -> Iterator[Any]:
        """See `Engine.map`."""
        yield from factory()(units, tick)


def run_unit(work: Work, unit: Any) -> tuple[Any, int]:
    """The result of a single unit, and the cells that were finished for it."""
    cells: list[int] = []
    (result,) = work([unit], cells.append)
    return result, sum(cells)
