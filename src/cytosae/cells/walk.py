"""Every file below some folders: links to folders are followed, each folder once; what cannot be read has a reason."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytosae.errors import CytosaeError
from cytosae.storage import StoredPath

HIDDEN = "hidden or of the operating system"
NOT_UTF8 = "its name is not UTF-8: rename the file or folder"
NO_FILE = "not a regular file"
BROKEN = "a link to a file that is missing"
TWICE = "leads to a folder that is listed already"
ABOVE = "a link to a folder above"

_SYSTEM = frozenset(
    {
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "lost+found", "@eadir", "#recycle", "$recycle.bin"),
        *("system volume information", "recycler"),
    }
)


@dataclass(frozen=True)
class WalkEntry:
    """A file below `root`, or a folder that is not entered.

    Attributes
    ----------
    refused
        Why it is not read; None for a regular file with a name in UTF-8.
    """

    root: Path
    path: Path
    refused: str | None = None

    @property
    def name(self) -> str:
        """Path below the root, with slashes."""
        return self.path.relative_to(self.root).as_posix()


def printable(name: str) -> str:
    """A file's name as it can be printed and stored: bytes that are not UTF-8 are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def walk(
    *roots: Path,
    without: Collection[Path] = (),
    closed: Callable[[Path, Collection[str]], str | None] = lambda folder, names: None,
) -> Iterator[WalkEntry]:
    """All files below some folders, real folders before linked ones.

    Parameters
    ----------
    roots
        Folders, on disk or at a URL.
    without
        Files and folders that are passed over without a word.
    closed
        Tells of a folder and the names in it why it is not entered; None if it is.

    Raises
    ------
    CytosaeError
        A root cannot be opened.
    """
    for root in roots:
        if isinstance(root, StoredPath):
            yield from (_entry(root, path) for path in root.rglob("*"))
    yield from _walk([root for root in roots if not isinstance(root, StoredPath)], {*map(str, without)}, closed)


def _walk(
    roots: Sequence[Path], without: Collection[str], closed: Callable[[Path, Collection[str]], str | None]
) -> Iterator[WalkEntry]:
    waiting, links = [(root, root) for root in reversed(roots)], list[tuple[Path, Path]]()
    passed_over = {_identity(Path(path)) for path in without if os.path.isdir(path)}  # noqa: PTH112 (never raises)
    seen = set(passed_over)
    while waiting or links:
        linked = not waiting
        root, folder = waiting.pop() if waiting else links.pop(0)
        try:
            if linked and Path(os.path.realpath(root)).is_relative_to(os.path.realpath(folder)):
                yield WalkEntry(root, folder, ABOVE)
                continue
            if (identity := _identity(folder)) in seen:
                if linked or identity not in passed_over:
                    yield WalkEntry(root, folder, TWICE)
                continue
            seen.add(identity)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if folder == root:
                raise CytosaeError(f"{printable(str(folder))}: cannot be opened ({error.strerror}).") from error
            yield WalkEntry(root, folder, f"the folder cannot be opened ({error.strerror})")
            continue
        if folder != root and (reason := closed(folder, {entry.name for entry in entries})):
            yield WalkEntry(root, folder, reason)
            continue
        for entry in entries:
            path = folder / entry.name
            if str(path) in without:
                continue
            if _hidden(entry.name) or not os.path.isdir(path):  # noqa: PTH112 (never raises)
                yield _entry(root, path)
            else:
                (links if entry.is_symlink() else waiting).append((root, path))


def _entry(root: Path, path: Path) -> WalkEntry:
    entry = WalkEntry(root, path)
    if any(map(_hidden, entry.name.split("/"))):
        return WalkEntry(root, path, HIDDEN)
    return WalkEntry(root, path, _refusal(path, entry.name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _refusal(path: Path, name: str) -> str | None:
    if printable(name) != name:
        return NOT_UTF8
    if isinstance(path, StoredPath):
        return None
    try:
        return None if stat.S_ISREG(path.stat().st_mode) else NO_FILE
    except OSError as error:
        try:
            broken = path.is_symlink() and not path.exists()
        except OSError:  # too long a path
            broken = False
        return BROKEN if broken else f"cannot be read ({error.strerror})"


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
