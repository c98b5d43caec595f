"""Folders as people have them after unpacking: one level too high or too low, with odd files in between."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cytosae.cells.datasets.folders import MARK
from cytosae.cells.image_folder import printable
from cytosae.cells.images import SUFFIXES
from cytosae.errors import CytosaeError

NOT_UTF8 = "its name is not UTF-8: rename the file or folder"
NO_FILE = "not a regular file"
BROKEN = "a link to a file that is missing"
TWICE = "a link to a folder that is listed already"
ABOVE = "a link to a folder above"

_JUNK_FILES = frozenset({"thumbs.db", "desktop.ini"})
_JUNK_FOLDERS = frozenset({"__macosx"})


def is_junk(parts: Iterable[str]) -> bool:
    """Whether a path is hidden or is what an operating system leaves behind (``._x``, ``__MACOSX``, ``Thumbs.db``)."""
    return any(part.startswith(".") or part.lower() in _JUNK_FILES | _JUNK_FOLDERS for part in parts)


@dataclass(frozen=True)
class Tree:
    """All files below some folders.

    Attributes
    ----------
    roots
        The folders, absolute.
    files
        Visible files, sorted; `junk` the hidden ones.
    refused
        Files, links and folders that cannot be read, each with the reason.
    """

    roots: tuple[Path, ...]
    files: tuple[Path, ...]
    junk: tuple[Path, ...]
    refused: tuple[tuple[Path, str], ...] = ()

    @classmethod
    def of(cls, *roots: Path, without: Collection[Path] = ()) -> Tree:
        """List the files below `roots`, but for those that are, or are below, one of `without`.

        Links to folders are followed; each folder is listed once.

        Raises
        ------
        CytosaeError
            A root cannot be opened.
        """
        folders = tuple(Path(os.path.abspath(root)) for root in roots)
        left = {os.path.abspath(path) for path in without} - {str(folder) for folder in folders}
        visible: list[Path] = []
        junk: list[Path] = []
        refused: list[tuple[Path, str]] = []
        for root, path, reason in _listed(folders, left):
            if is_junk(path.relative_to(root).parts):
                junk.append(path)
            elif reason is None:
                visible.append(path)
            else:
                refused.append((path, reason))
        return cls(folders, tuple(sorted(visible)), tuple(sorted(junk)), tuple(sorted(refused)))

    def images(self) -> list[Path]:
        """Visible files with the ending of an image, in upper or lower case."""
        return [path for path in self.files if path.suffix.lower() in SUFFIXES]

    def parts(self, path: Path) -> tuple[str, ...]:
        """Parts of a path from the name of its root on, so that a root may itself be the folder of a class."""
        root = next(root for root in self.roots if path.is_relative_to(root))
        return (root.name, *path.relative_to(root).parts)

    def named(self, name: str) -> list[Path]:
        """Files of that name, whatever its case; else such a file directly beside a root."""
        found = [path for path in self.files if path.name.lower() == name.lower()]
        beside = (root.parent / name for root in self.roots)
        return found or [path for path in beside if path.is_file()]


def _listed(roots: Sequence[Path], without: Collection[str]) -> Iterator[tuple[Path, Path, str | None]]:
    """Root and path of every file, with the reason if it is refused.

    Links to folders are followed, each folder once, real ones before links; refused links and folders count as files.
    """
    waiting, links = [(root, root) for root in reversed(roots)], list[tuple[Path, Path]]()
    seen = {_identity(Path(path)) for path in without if os.path.isdir(path)}  # noqa: PTH112 (never raises)
    while waiting or links:
        linked = not waiting
        root, folder = waiting.pop() if waiting else links.pop(0)
        try:
            if linked and Path(os.path.realpath(root)).is_relative_to(os.path.realpath(folder)):
                yield root, folder, ABOVE
                continue
            if (identity := _identity(folder)) in seen:
                if linked:
                    yield root, folder, TWICE
                continue
            seen.add(identity)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if folder == root:
                raise CytosaeError(f"{printable(str(folder))}: cannot be opened ({error.strerror}).") from error
            yield root, folder, f"the folder cannot be opened ({error.strerror})"
            continue
        for entry in entries:
            path = folder / entry.name
            if entry.name == MARK or str(path) in without:
                continue
            if not entry.is_symlink() and entry.is_dir():
                waiting.append((root, path))
            elif os.path.isdir(path) and not is_junk([entry.name]):  # noqa: PTH112 (never raises)
                links.append((root, path))
            else:
                yield root, path, _refusal(path, str(path.relative_to(root)))


def _refusal(path: Path, name: str) -> str | None:
    """Why a file cannot be read at all; None if it can."""
    if printable(name) != name:
        return NOT_UTF8
    try:
        return None if stat.S_ISREG(path.stat().st_mode) else NO_FILE
    except OSError as error:
        return BROKEN if path.is_symlink() else f"cannot be read ({error.strerror})"


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def by_class_folder(tree: Tree, codes: Mapping[str, str], ignored: Collection[str] = ()) -> pd.DataFrame:
    """Images that lie in the folder of a class, at any depth.

    Parameters
    ----------
    tree
        Where to look.
    codes
        Code of the class by name of its folder; case does not matter.
    ignored
        Folders whose images are no cells of the data set, by name in lower case.

    Returns
    -------
    ``path``, ``code``, and ``cell_id``, the path from the class folder on. The innermost folder with the name of a
    class counts. Images elsewhere are not listed.
    """
    wanted = {folder.lower(): code for folder, code in codes.items()}
    rows = []
    for path in tree.images():
        parts = tree.parts(path)
        folders = [part.lower() for part in parts[:-1]]
        depth = next((i for i in reversed(range(len(folders))) if folders[i] in wanted), None)
        if depth is not None and not set(folders) & set(ignored):
            code = wanted[folders[depth]]
            rows.append((str(path), code, "/".join(parts[depth:])))
    return pd.DataFrame(rows, columns=["path", "code", "cell_id"], dtype="object")
