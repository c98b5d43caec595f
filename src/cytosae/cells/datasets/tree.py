"""Folders as people have them after unpacking: one level too high or too low, with odd files in between."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cytosae.cells.datasets.folders import MARK
from cytosae.cells.images import SUFFIXES
from cytosae.cells.walk import walk


@dataclass(frozen=True)
class Tree:
    """All files below some folders.

    Attributes
    ----------
    roots
        The folders, absolute.
    files
        What can be read, sorted.
    refused
        Files, links and folders that cannot be read or are hidden, each with the reason.
    """

    roots: tuple[Path, ...]
    files: tuple[Path, ...]
    refused: tuple[tuple[Path, str], ...] = ()

    @classmethod
    def below(cls, *roots: Path, without: Collection[Path] = ()) -> Tree:
        """List the files below `roots`, but for those that are, or are below, one of `without`.

        Links to folders are followed; each folder is listed once.

        Raises
        ------
        CytosaeError
            A root cannot be opened.
        """
        folders = tuple(Path(os.path.abspath(root)) for root in roots)
        left = {Path(os.path.abspath(path)) for path in without} - {*folders}
        visible: list[Path] = []
        refused: list[tuple[Path, str]] = []
        for entry in walk(*folders, without=left):
            if entry.refused is None:
                visible.append(entry.path)
            elif entry.path.name != MARK:
                refused.append((entry.path, entry.refused))
        return cls(folders, tuple(sorted(visible)), tuple(sorted(refused)))

    def images(self) -> list[Path]:
        """Files with the ending of an image, in upper or lower case."""
        return [path for path in self.files if path.suffix.lower() in SUFFIXES]

    def segments(self, path: Path) -> tuple[str, ...]:
        """Names along a path from its root on, so that a root may itself be the folder of a class."""
        root = next(root for root in self.roots if path.is_relative_to(root))
        return (root.name, *path.relative_to(root).parts)

    def named(self, name: str) -> list[Path]:
        """Files of that name, whatever its case; else such a file directly beside a root."""
        inside = [path for path in self.files if path.name.lower() == name.lower()]
        beside = (root.parent / name for root in self.roots)
        return inside or [path for path in beside if path.is_file()]


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
        segments = tree.segments(path)
        folders = [segment.lower() for segment in segments[:-1]]
        depth = next((i for i in reversed(range(len(folders))) if folders[i] in wanted), None)
        if depth is not None and not set(folders) & set(ignored):
            code = wanted[folders[depth]]
            rows.append((str(path), code, "/".join(segments[depth:])))
    return pd.DataFrame(rows, columns=["path", "code", "cell_id"], dtype="object")
