"""Worker processes on this machine, each with a replica of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any

from cytosae.console import say
from cytosae.engines.engine import Tick, WorkFactory, run_unit
from cytosae.errors import CytosaeError

ATTEMPTS = 4
"""Times that a unit is given out, if the process that works on it dies each time."""
AHEAD = 2
"""Units that a process is given at the same time: the one it works on and the next, so that it never waits."""

_SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit threads of torch in any state


class _Unit:
    """A unit of work and how often it was begun."""

    def __init__(self, content: Any) -> None:
        self.content, self.attempts = content, 0


class _Process:
    """One worker process, and the units that it was given and has not finished."""

    def __init__(self, factory: WorkFactory, threads: int) -> None:
        self.pipe, child_end = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_serve, args=(child_end, threads))
        self.process.start()
        child_end.close()  # or its end would go unnoticed
        self.units: deque[_Unit] = deque()
        self.prepare(factory)

    def prepare(self, factory: WorkFactory) -> None:
        self._send("factory", factory)

    def give(self, unit: _Unit) -> None:
        self.units.append(unit)
        self._send("unit", unit.content)

    def _send(self, kind: str, content: Any) -> None:
        with suppress(BrokenPipeError):  # it has died: noticed when it is waited for
            self.pipe.send((kind, content))

    def end(self) -> int | None:
        """End it, and tell its exit code."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        return self.process.exitcode


class ProcessEngine:
    """The engine of several worker processes.

    Parameters
    ----------
    replicas
        Processes, at most; they divide the cores. They are started when there is work for them, and live until `close`.

    Notes
    -----
    A process that dies (killed, out of memory) is replaced, and costs the unit that it worked on.
    """

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self._processes: list[_Process] = []

    def map(self, factory: WorkFactory, units: Iterable[Any], tick: Tick) -> Iterator[Any]:
        """See `Engine.map`.

        Raises
        ------
        CytosaeError
            What the work raises, or a unit at which process after process dies.
        """
        for process in self._processes:
            process.prepare(factory)
        left = map(_Unit, units)
        again: deque[_Unit] = deque()
        while True:
            self._feed(factory, left, again)
            busy = {process.pipe: process for process in self._processes if process.units}
            if not busy:
                return
            for pipe in wait(list(busy)):
                process = busy[pipe]  # type: ignore[index]
                try:
                    result, cells, error = process.pipe.recv()
                except (EOFError, ConnectionResetError):
                    again.extend(self._bury(process))
                    continue
                if error is not None:
                    raise error
                process.units.popleft()
                tick(cells)
                yield result

    def _feed(self, factory: WorkFactory, left: Iterator[_Unit], again: deque[_Unit]) -> None:
        """Give out units while there is somebody to take them, to those with the fewest first."""
        while True:
            process = min(self._processes, key=lambda p: len(p.units), default=None)
            new = (process is None or process.units) and len(self._processes) < self.replicas
            if process is not None and not new and len(process.units) >= AHEAD:
                return
            unit = again.popleft() if again else next(left, None)
            if unit is None:
                return
            if new or process is None:
                process = _Process(factory, _threads(self.replicas))
                self._processes.append(process)
            process.give(unit)

    def _bury(self, process: _Process) -> Iterable[_Unit]:
        """Forget a process that has died; the units that it leaves behind."""
        code = process.end()
        self._processes.remove(process)
        lost = process.units[0]
        lost.attempts += 1
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        if lost.attempts == ATTEMPTS:
            raise CytosaeError(
                f"a worker process {how}, as those before it on the same work unit: too little memory for so many "
                "replicas? Finished work is kept; run the same command with fewer --replicas."
            )
        say(f"a worker process {how}; what it worked on is made again")
        return process.units

    def close(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.end()
        self._processes.clear()


def _threads(replicas: int) -> int:
    """Cores for each of some replicas."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(os.environ.get("OMP_NUM_THREADS") or cores) // replicas)


def _serve(pipe: Connection, threads: int) -> None:
    """Do what comes through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = str(threads)  # torch is not imported yet
    messages: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, messages), daemon=True).start()
    factory, work = None, None
    while True:
        kind, content = messages.get()
        if kind == "factory":
            factory, work = content, None
            continue
        try:
            if kind == "unreadable":
                raise content
            work = work or factory()  # type: ignore[misc]
            reply: tuple[Any, int, Exception | None] = (*run_unit(work, content), None)
        except Exception as error:
            error.add_note(traceback.format_exc())
            reply = (None, 0, error)
        pipe.send(reply)


def _receive(pipe: Connection, messages: SimpleQueue[tuple[str, Any]]) -> None:
    """Take what comes at once, so that the parent never waits to be heard; end this process when the parent has gone."""
    while True:
        try:
            messages.put(pipe.recv())
        except (EOFError, OSError):
            os._exit(1)
        except Exception as error:
            messages.put(("unreadable", error))
