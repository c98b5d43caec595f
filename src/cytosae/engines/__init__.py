"""Who does the work of many independent units: this process, processes of this machine, or a Ray cluster.

What a unit gives depends on the unit alone, so that results do not depend on the engine, the number of replicas, or the
order. Units leave files that are written whole; a unit that is done twice leaves the same bytes.
"""

from cytosae.engines.choice import open_engine
from cytosae.engines.engine import Engine, LocalEngine, Tick, Work, WorkFactory
from cytosae.engines.partition import Partition

__all__ = ["Engine", "LocalEngine", "Partition", "Tick", "Work", "WorkFactory", "open_engine"]
