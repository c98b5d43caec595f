"""Progress and messages on standard error, so that standard output stays free for results."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)

_PLAIN_EVERY = 15.0  # seconds between lines where standard error is not a terminal


def say(message: str) -> None:
    """Tell the user something, on standard error."""
    console.print(message, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """A time in a few letters."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Bar:
    """Progress of one stage: done, total (0 where it is not known yet), rate and remaining time.

    On a terminal a bar that redraws itself; elsewhere (a log file, a batch job) a plain line now and then.
    """

    def __init__(self, title: str, total: int, unit: str, done: int = 0) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.first = self.done = done
        self.start = self.last_line = time.monotonic()
        self._rich: Progress | None = None
        self._task: TaskID | None = None
        if sys.stderr.isatty():
            self._rich = Progress(
                TextColumn("{task.description:>10}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[count]}"),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=console,
                expand=True,
            )
            self._rich.start()
            self._task = self._rich.add_task(title, total=total or None, completed=done, note="", count=self._count())

    def resize(self, total: int) -> None:
        """Correct the total, where it was not known at the start."""
        self.total = total
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, total=total or None, count=self._count())

    def to(self, done: int, note: str = "") -> None:
        """Report that `done` units are finished."""
        self.done = done
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, completed=done, note=note, count=self._count())
        elif time.monotonic() - self.last_line >= _PLAIN_EVERY:
            self.last_line = time.monotonic()
            say(self._line(note))

    def advance(self, more: int) -> None:
        """Report that `more` units are finished."""
        self.to(self.done + more)

    @property
    def _is_known(self) -> bool:
        """Whether the total is."""
        return self.total >= max(1, self.done)

    def _count(self) -> str:
        return f"{self.done:,}{f'/{self.total:,}' if self._is_known else ''} {self.unit}"

    def _line(self, note: str) -> str:
        elapsed = time.monotonic() - self.start
        rate = (self.done - self.first) / elapsed if elapsed > 0 else 0.0
        left = timedelta(seconds=round((self.total - self.done) / rate)) if rate > 0 else "?"
        fields = [
            f"{self.title}: {self._count()}",
            f"{rate:,.1f}/s",
            f"{left} left" if self._is_known else "",
            note,
        ]
        return ", ".join(field for field in fields if field)

    def close(self) -> None:
        """Stop drawing."""
        if self._rich is not None:
            self._rich.stop()


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
    """Show the progress of a stage while the block runs."""
    bar = Bar(title, total, unit, done)
    try:
        yield bar
    finally:
        bar.close()
