"""Which engine the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from cytosae.engines.engine import Engine, LocalEngine
from cytosae.settings import EngineConfig


@contextmanager
def open_engine(config: EngineConfig) -> Iterator[Engine]:
    """The engine that the settings name; what it starts ends with the block.

    Raises
    ------
    CytosaeError
        Ray is not installed, or no cluster answers.
    """
    if config.in_process:
        yield LocalEngine()
    elif config.engine == "ray":
        from cytosae.engines.cluster import RayEngine  # imports ray

        with closing(RayEngine(config.replicas, config.address)) as cluster:
            yield cluster
    else:
        from cytosae.engines.processes import ProcessEngine

        with closing(ProcessEngine(config.replicas)) as processes:
            yield processes
