"""A folder that one process at a time may change, and who holds it."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from cytosae.artefacts import disk_errors, foreign, make_folder, write_json
from cytosae.console import say
from cytosae.errors import CytosaeError

LOCK, HOLDER = ".cytosae-lock", ".cytosae-lock.json"
"""In the folder: the file that the system locks, and a note about who holds it."""
_GRACE = 10.0  # seconds in which the helpers of a process that was killed have to let go


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from changing a folder while the block runs.

    The system releases the lock when its process ends, however it ends. A folder at a URL is locked among the processes
    of this machine that share its working copies.

    Raises
    ------
    CytosaeError
        Another process holds it: says which, on which host and since when.
        Or the folder holds files of other programs under the lock's names.
    """
    make_folder(folder)
    lock, note = FileLock(os.fspath(folder / LOCK)), Path(os.fspath(folder / HOLDER))
    file = Path(lock.lock_file)
    if file.is_file() and file.stat().st_size:  # ours are empty
        raise foreign(folder / LOCK, "run")
    with disk_errors(folder):
        _acquire(lock, folder, note)
    if note.is_symlink() or (note.exists() and note.stat().st_size and "host" not in _read(note)):
        lock.release()
        raise foreign(note, "run")
    try:
        write_json(note, _this_process())
        yield
    finally:
        with suppress(OSError):
            note.unlink()
        lock.release()


def _acquire(lock: FileLock, folder: Path, note: Path) -> None:
    give_up = time.monotonic() + _GRACE
    while True:
        try:
            lock.acquire(timeout=0)
            return
        except Timeout:
            holder = _read(note)
            if not _has_ended(holder) or time.monotonic() > give_up:
                raise CytosaeError(
                    f"{folder}: in use by {_described(holder)}. Wait until it has ended, or stop it. Two processes in "
                    "one folder would mix their results."
                ) from None
            time.sleep(0.1)
        except NotImplementedError:
            say(f"{folder}: this disk has no locks. Make sure that no other process works in this folder.")
            return


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": psutil.Process().create_time(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _read(note: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}  # it has just begun, or has just ended


def _has_ended(holder: dict[str, Any]) -> bool:
    """Whether the process of a note is dead, as far as this host can tell."""
    if not holder:
        return True
    if holder.get("host") != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(holder["process"]))
        return abs(process.create_time() - float(holder["started"])) > 1 or process.status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return True


def _described(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return (
        f"process {holder.get('process')} on {holder.get('host')} since {holder.get('since')} ({holder.get('command')})"
    )
