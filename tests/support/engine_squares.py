"""Work for the tests of the engines that needs no import of torch."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cytosae.engines import Tick, Work
from cytosae.errors import CytosaeError


@dataclass(frozen=True)
class Squares:
    """Squares of numbers; fails at some, and kills its process at others."""

    wrong: int = -1
    fatal: int = -1

    def __call__(self) -> Work:
        return self._work

    def _work(self, units: Iterable[int], tick: Tick) -> Iterator[int]:
        for unit in units:
            if unit == self.wrong:
                raise CytosaeError(f"{unit}: wrong")
            if unit == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            tick(1)
            yield unit * unit
