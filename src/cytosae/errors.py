"""Mistakes that a user can mend: each becomes one message and exit code 2, never a traceback."""

from __future__ import annotations


class CytosaeError(Exception):
    """A problem with the user's input or machine.

    The message says which file or option, what was found, what was expected and what to do.
    """


class NotFound(CytosaeError):
    """What was asked for by name or number is not there; nothing is damaged."""


class Unanswerable(CytosaeError):
    """What was asked for is there, but the question makes no sense for it."""


class Interrupted(BaseException):
    """The process was asked to stop (SIGINT or SIGTERM); finished work is on disk."""

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum


_TELLING = "GLOBAL", "Unsupported"
"""Words of the line in which torch says what it refused to unpickle."""


def in_short(error: Exception) -> str:
    """Another library's exception in one line: its kind and its first line, or the first that tells more."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    line = next((line for line in lines if any(word in line for word in _TELLING)), lines[0])
    return f"{type(error).__name__}: {line[:200]}".removesuffix(": ")
