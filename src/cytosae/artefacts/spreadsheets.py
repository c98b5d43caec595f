"""Text in tables that people open with a spreadsheet: none of it is taken for a formula."""

from __future__ import annotations

from typing import Any

_RISKY = ("=", "+", "-", "@", "\t", "\r", "'")


def guarded(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it; `bare` takes it away again.

    Examples
    --------
    >>> guarded("=A1"), guarded("rod"), guarded(3), bare(guarded("=A1"))
    ("'=A1", 'rod', 3, '=A1')
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_RISKY) else value


def bare(value: Any) -> Any:
    """Text without the apostrophe that `guarded` put before it; anything else as it is."""
    guards = isinstance(value, str) and value[:1] == "'" and value[1:].startswith(_RISKY)
    return value[1:] if guards else value
