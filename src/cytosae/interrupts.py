"""Ctrl-C and SIGTERM: stop at once where work is in small finished units, or at the next safe point."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cytosae.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopFlag:
    """Remembers that the process was asked to stop."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def __bool__(self) -> bool:
        return self.signum is not None


def _raise(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)


def raise_on_signals() -> None:
    """From now on SIGINT and SIGTERM raise `Interrupted` in the main thread."""
    for signum in _SIGNALS:
        signal.signal(signum, _raise)


def no_more_signals() -> None:
    """From now on SIGTERM is ignored: for a process that is about to end, and whose siblings torchrun ends when it does."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def deferred_signals() -> Iterator[StopFlag]:
    """Within the block the first SIGINT or SIGTERM only sets the flag; a second one raises `Interrupted`.

    Outside the main thread, where Python delivers no signals, the flag is never set.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def remember(signum: int, frame: FrameType | None) -> None:
        if flag:
            raise Interrupted(signum)
        flag.signum = signum

    before = {signum: signal.signal(signum, remember) for signum in _SIGNALS}
    try:
        yield flag
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
