"""Mistakes that a user can mend: each becomes one message and exit code 2, never a traceback."""

from __future__ import annotations


class CytosaeError(Exception):
    """A problem with the user's input or machine.

    The message says which file or option, what was found, what was expected and what to do.
    """


class Interrupted(BaseException):
    """The process was asked to stop (SIGINT or SIGTERM); finished work is on disk."""

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum
