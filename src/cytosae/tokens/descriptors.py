"""Files that stay open for reading, but only so many of them: a system allows a process few descriptors."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

LIMIT_DIVISOR = 8
"""Of the descriptors that this process may have, one in so many is for the files of one store."""
_MOST = 4096


def allowed() -> int:
    """Files that one store keeps open, by the limit that is set for this process (``ulimit -n``)."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return 64
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft < 0 else max(1, min(_MOST, soft // LIMIT_DIVISOR))


@dataclass
class _Lent:
    descriptor: int
    users: int = 0


class Descriptors:
    """Open files, at most `limit` of them when nobody reads; those used longest ago are closed first.

    Threads may share it: a file in use is closed by nobody. A process that was forked starts with none.

    Parameters
    ----------
    limit
        Files that stay open.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = allowed() if limit is None else limit
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._files: OrderedDict[Path, _Lent] = OrderedDict()

    def __len__(self) -> int:
        return len(self._files)

    @contextmanager
    def reading(self, path: Path) -> Iterator[int]:
        """A descriptor of a file, for positioned reads, that stays valid within the block."""
        if self._process != os.getpid():
            self._begin()  # another thread of the parent may have held the lock
        with self._lock:
            lent = self._files.get(path)
            if lent is None:
                self._close_beyond(self.limit - 1)
                lent = self._files[path] = _Lent(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)))
            self._files.move_to_end(path)
            lent.users += 1
        try:
            yield lent.descriptor
        finally:
            with self._lock:
                lent.users -= 1
                self._close_beyond(self.limit)

    def _close_beyond(self, limit: int) -> None:
        """Close files that nobody uses until there are no more than `limit`."""
        idle = (path for path, lent in self._files.items() if not lent.users)
        for path in list(islice(idle, max(0, len(self._files) - limit))):
            os.close(self._files.pop(path).descriptor)

    def close(self) -> None:
        """Close all files that nobody uses."""
        if self._process == os.getpid():
            with self._lock:
                self._close_beyond(0)
