"""The command ``cytosae``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command; a user's mistake ends with one message and exit code 2, a signal with 128 plus its number."""
    from cytosae.console import say
    from cytosae.errors import CytosaeError, Interrupted
    from cytosae.interrupts import no_more_signals, raise_on_signals

    raise_on_signals()
    try:
        from cytosae.cli.commands import app

        app()
    except CytosaeError as error:
        no_more_signals()
        say(f"error: {error}")
        sys.exit(2)
    except Interrupted as stop:
        no_more_signals()
        say(str(stop) or "stopped; finished work is kept, the same command goes on from there")
        sys.exit(128 + stop.signum)
