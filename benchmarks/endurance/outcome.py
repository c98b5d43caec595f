"""What a trial of the campaign gives, and processes that can be killed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

FINISHED, REFUSED, BROKEN = 0, 2, 3
"""How a process of the campaign ends: with its work done, with one clear message, or with anything else."""

PATIENCE = 600.0
"""Seconds after which a process that still works is killed."""

_SERVER = multiprocessing.get_context("forkserver")
# Imported once, before any thread is there: what is forked from it begins at once.
_SERVER.set_forkserver_preload(
    ["cytosae.study", "cytosae.report", "transformers.models.dinov2.modeling_dinov2", "benchmarks.endurance.studying"]
)


@dataclass
class Outcome:
    """One line of the table."""

    what: str
    tried: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """How often each thing happened."""
    faults: list[str] = field(default_factory=list)
    """What should not have happened."""

    def note(self, thing: str) -> None:
        """Count that something happened."""
        self.counts[thing] = self.counts.get(thing, 0) + 1


def begun(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that works."""
    process = _SERVER.Process(target=work, args=arguments)
    process.start()
    return process


def done(work: Callable[..., None], log: Path, *arguments: Any, seconds: float = PATIENCE) -> tuple[int, str]:
    """Exit code of a process that worked to its end, or was killed after some seconds; what it said last."""
    process = begun(work, log, *arguments)
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
    code = process.exitcode
    return -1 if code is None else code, log.read_text(encoding="utf-8", errors="replace")[-2000:]
