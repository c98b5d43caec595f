"""Files written whole or not at all, and clear errors if the disk refuses."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from cytosae.errors import CytosaeError

if TYPE_CHECKING:
    import pandas as pd

PARTIAL = ".cytosae-partial"
"""Ending of a file that is not whole yet."""

SPREADSHEET = "utf-8-sig"
"""Encoding of CSV that people open in a spreadsheet: UTF-8 with the mark by which Excel knows it."""

_LEFT_BEHIND = re.compile(rf"\.(.+?)(\.[0-9a-f]{{32}})?{re.escape(PARTIAL)}")
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_UMASK = os.umask(0)  # can only be read by setting it
os.umask(_UMASK)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)$")
"""Libraries in Rust report a failed write by an error of their own, with the system's number in its text."""

_ERRNO = re.compile(r"\[Errno (\d+)\]")
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_WRITABLE = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE, errno.EIO}


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into a message that names `path`."""
    try:
        yield
    except OSError as failure:
        error = _first(failure)
        if error.errno in _FULL:
            raise CytosaeError(
                f"{path}: the disk is full or a size limit was reached ({error.strerror}). What was finished "
                "before is kept; free some space or choose another folder, and run the same command again."
            ) from error
        if error.errno in _FORBIDDEN:
            raise CytosaeError(
                f"{path}: no permission to write here ({error.strerror}). Choose another folder or change "
                "its permissions."
            ) from error
        temporary = str(error.filename or "").endswith(PARTIAL)  # nothing can be made there
        if error.errno in _NOT_WRITABLE or (error.errno == errno.ENOENT and temporary):
            raise CytosaeError(
                f"{path}: cannot be written ({error.strerror}). Choose another name or place."
            ) from error
        raise


def _first(error: OSError) -> OSError:
    """The failure itself; of a copy of a folder the first of them, of which `shutil` keeps the text alone."""
    if isinstance(error, shutil.Error) and (number := _ERRNO.search(str(error))):
        return OSError(int(number[1]), os.strerror(int(number[1])))
    return error


def make_folder(path: Path) -> Path:
    """Create a folder with its parents; a clear error where that is not allowed."""
    with disk_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # below a folder that has gone, or where the system makes none
            raise CytosaeError(f"{path}: cannot be made ({error.strerror}). Choose another place.") from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path


@contextlib.contextmanager
def whole_file(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Write a file so that it exists whole or not at all.

    Yields a temporary path in the same folder. On success its bytes are flushed to the disk and it takes the
    final name in one step; on any failure it is removed and what stood under the final name stays. Where other processes
    may write the same file at the same time (`shared`), the temporary path carries this machine and process in its name,
    and the last one stays.
    """
    make_folder(path.parent)
    unique = f".{_HOST}{os.getpid():08x}{uuid4().hex[:16]}" if shared else ""
    temporary = path.with_name(f".{path.name}{unique}{PARTIAL}")
    with disk_errors(path):
        try:
            yield temporary
            temporary.chmod(0o666 & ~_UMASK)  # some writers make files that only their owner can read
            descriptor = os.open(temporary, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
        except Exception as error:
            if number := _SYSTEM_ERROR.search(str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
            raise
        finally:
            temporary.unlink(missing_ok=True)


def write_csv(path: Path, table: pd.DataFrame, *, index: bool = False) -> None:
    """Write a table as CSV for people, whole or not at all; see `whole_file`."""
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=index, encoding=SPREADSHEET)


def remove_left_behind(folder: Path) -> None:
    """Remove the temporary files that killed processes of this machine left in a folder, see `whole_file`."""
    import psutil

    for path in folder.iterdir() if folder.is_dir() else ():
        unique = (left := _LEFT_BEHIND.fullmatch(path.name)) and left[2]
        if unique and unique[1:9] == _HOST and not psutil.pid_exists(int(unique[9:17], 16)):
            with contextlib.suppress(OSError):
                path.unlink()


def whole_name(name: str) -> str:
    """The name that a file will have; of one that a killed `whole_file` left behind, which name it would have had."""
    left = _LEFT_BEHIND.fullmatch(name)
    return name if left is None else left[1]
