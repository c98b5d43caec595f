"""A Ray cluster: one that runs already, or one on this machine for the time of the run."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from cytosae.engines.engine import Tick, Work, WorkFactory, run_unit
from cytosae.errors import CytosaeError

# Both are read when ray is imported. Nothing is reported to anybody, and a cluster of its own listens on 127.0.0.1 alone.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

RETRIES = 3
"""Times that a unit is done again, if the worker process or its machine is lost."""
AHEAD = 2
"""Units that an actor is given at the same time: the one it works on and the next, so that it never waits."""


class _Replica:
    """Lives in a worker process of the cluster."""

    def __init__(self) -> None:
        self._key: Any = None
        self._work: Work | None = None

    def do(self, factory: list[Any], unit: Any) -> tuple[Any, int]:
        """The result of a unit; `factory` is a list with the reference, which is fetched when it is another than before."""
        if self._work is None or self._key != factory[0]:
            import ray

            self._key, self._work = factory[0], ray.get(factory[0])()
        return run_unit(self._work, unit)


class RayEngine:
    """The engine of actors in a Ray cluster.

    Parameters
    ----------
    replicas
        Actors; 0 is one for each GPU of the cluster, or each CPU where it has no GPU. Each takes a GPU where there are any.
    address
        Of a running cluster (``host:6379``, ``ray://host:10001``, ``auto``); None starts one on this machine.

    Notes
    -----
    The folders of tokens and concepts have to be the same on all machines: a shared file system.

    An actor that is lost is started anew where there is room, and costs the unit that it worked on.

    Raises
    ------
    CytosaeError
        Ray is not installed, or no cluster answers.
    """

    def __init__(self, replicas: int, address: str | None) -> None:
        if address is None:
            if sys.modules.get("ray") is not None and os.environ.get(_LOOPBACK) != "0":
                raise CytosaeError(
                    f"ray was imported before: a cluster of its own would not keep to this machine. Set {_LOOPBACK}=0 "
                    "before importing it, or give the address of a running cluster."
                )
            os.environ[_LOOPBACK] = "0"
        try:
            import ray
        except ModuleNotFoundError as error:
            raise CytosaeError("--engine ray needs a further package: pip install 'cytosae[ray]'.") from error
        self._ray = ray
        with _restored_signals():
            try:
                if address is None:
                    ray.init(address="local", num_cpus=replicas or None, include_dashboard=False)
                else:
                    ray.init(address=address)
            except (ConnectionError, RuntimeError, ValueError) as error:
                reason = (str(error).strip().splitlines() or [""])[0]
                raise CytosaeError(f"--address {address or 'left out'}: no Ray cluster ({reason}).") from error
        resources = ray.cluster_resources()
        kind = "GPU" if resources.get("GPU") else "CPU"
        room = max(1, int(resources.get(kind, 0)))
        self.replicas = min(replicas or room, room)
        self._options = {"num_cpus": 1, "num_gpus": int(kind == "GPU")}
        self._actors: list[Any] = []

    def _actor(self) -> Any:
        restarts = {"max_restarts": -1, "max_task_retries": RETRIES}
        return self._ray.remote(_Replica).options(**self._options, **restarts).remote()

    def map(self, factory: WorkFactory, units: Iterable[Any], tick: Tick) -> Iterator[Any]:
        """See `Engine.map`.

        Raises
        ------
        CytosaeError
            What the work raises, or a unit at which worker after worker is lost.
        """
        ray, left = self._ray, iter(units)
        if (first := next(left, None)) is None:
            return
        left = chain([first], left)
        reference = [ray.put(factory)]
        self._actors = self._actors or [self._actor() for _ in range(self.replicas)]
        # An actor for which the cluster has no room yet is given nothing.
        starting = {actor.__ray_ready__.remote(): actor for actor in self._actors}
        assigned: dict[Any, Any] = {}
        load: Counter[Any] = Counter()
        ready: list[Any] = []
        while True:
            while ready and load[ready[0]] < AHEAD:
                unit = next(left, None)
                if unit is None:
                    break
                actor = ready[0]
                assigned[actor.do.remote(reference, unit)] = actor
                load[actor] += 1
                ready.sort(key=load.__getitem__)
            if ready and not assigned:
                return
            (done,), _ = ray.wait([*assigned, *starting])
            if done in starting:
                ready.insert(0, starting.pop(done))
                continue
            actor = assigned.pop(done)
            load[actor] -= 1
            ready.sort(key=load.__getitem__)
            result, cells = self._result(done)
            tick(cells)
            yield result

    def _result(self, done: Any) -> tuple[Any, int]:
        errors = self._ray.exceptions
        try:
            result, cells = self._ray.get(done)
        except errors.RayTaskError as error:
            raise error.cause from error
        except errors.RayActorError as error:
            raise CytosaeError(
                f"the Ray cluster could start no worker, or lost {RETRIES + 1} at the same work unit. Is the same "
                "cytosae installed on all its machines, and is there memory for so many --replicas? Finished work is kept. "
                "Ray says: " + " ".join(str(error).split())[:500]
            ) from error
        return result, cells

    def close(self) -> None:
        """Leave the cluster; one that was started for the run ends."""
        self._ray.shutdown()


@contextmanager
def _restored_signals() -> Iterator[None]:
    """Undo that ray takes SIGTERM for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
