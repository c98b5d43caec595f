"""Folders as people have them after unpacking: one level too high or too low, with odd files in between."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cytosae.cells.datasets.folders import MARK
from cytosae.cells.images import SUFFIXES

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
        Visible files, sorted; `junk` the others.
    """

    roots: tuple[Path, ...]
    files: tuple[Path, ...]
    junk: tuple[Path, ...]

    @classmethod
    def of(cls, *roots: Path, without: Collection[Path] = ()) -> Tree:
        """List the files below `roots`, but for those that are, or are below, one of `without`."""
        folders = tuple(Path(os.path.abspath(root)) for root in roots)
        left = {os.path.abspath(path) for path in without} - {str(folder) for folder in folders}
        visible: list[Path] = []
        junk: list[Path] = []
        for root in folders:
            for path in _walk(root, left):
                (junk if is_junk(path.relative_to(root).parts) else visible).append(path)
        return cls(folders, tuple(sorted(visible)), tuple(sorted(junk)))

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


def _walk(root: Path, without: Collection[str]) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if str(Path(folder, name)) not in without)
        yield from (path for name in files if name != MARK and str(path := Path(folder, name)) not in without)


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
