"""The command ``cytosae``."""

from __future__ import annotations

import sys


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory could not be had, of the machine or of an accelerator."""
    return isinstance(error, MemoryError) or ("memory" in str(error).lower() and "alloc" in str(error).lower())


def main() -> None:
    """Run a command; a user's mistake ends with one message and exit code 2, a signal with 128 plus its number."""
    from cytosae.console import say
    from cytosae.errors import CytosaeError, Interrupted, in_short
    from cytosae.interrupts import no_more_signals, raise_on_signals

    raise_on_signals()
    try:
        from cytosae.cli.commands import app

        app()
    except CytosaeError as error:
        no_more_signals()
        say(f"error: {error}")
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        no_more_signals()
        say(
            f"error: out of memory ({in_short(error)}). What was finished before is kept. Close other programs, use a "
            "machine with more memory, or ask for less: a smaller --expansion, --batch-images or --batch-size."
        )
        sys.exit(2)
    except Interrupted as stop:
        no_more_signals()
        say(str(stop) or "stopped; finished work is kept, the same command goes on from there")
        sys.exit(128 + stop.signum)
