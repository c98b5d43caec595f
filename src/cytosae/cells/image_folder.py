"""A folder as a source: every file below it is an image of a cell or is named with a reason; folders say what it is."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from cytosae.artefacts import MANIFEST, parse_json
from cytosae.cells.images import SUFFIXES, looks_like_image
from cytosae.errors import CytosaeError
from cytosae.storage import StoredPath, address

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "holdout", "hold-out", "hold_out"), "test"),
}
"""Names of splits, in lower case, and the split that each means."""

_TIFF_HEADS = (b"II*\x00", b"MM\x00*")  # raw files of cameras and slide scanners begin so too
_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_OF_A_STUDY = {"cells.parquet", "backbone.json"}


@dataclass
class Tree:
    """The files below a folder."""

    folder: Path
    images: list[Path] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Path relative to the folder, and why it is no cell."""
    odd_endings: list[Path] = field(default_factory=list)
    """Images by content whose name does not say so."""

    def relative(self, path: Path) -> str:
        """Path below the folder, with slashes."""
        return path.relative_to(self.folder).as_posix()

    def leave_out(self, path: Path, reason: str) -> None:
        """Name a file or folder that is no cell."""
        self.left_out.append((self.relative(path), reason))


def cells_below(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The images below a folder, the other files with the reason, and what a reader has to know.

    Raises
    ------
    CytosaeError
        The folder holds no image, or cannot be opened.
    """
    tree = _tree(folder)
    if not tree.images:
        reasons = Counter(reason for _, reason in tree.left_out).most_common(3)
        seen = f"; left out: {', '.join(f'{count:,} {reason}' for reason, count in reasons)}" if reasons else ""
        raise CytosaeError(
            f"{printable(str(folder))}: holds no image ({', '.join(sorted(SUFFIXES))}){seen}. Give a folder of images, a "
            "folder of class folders, or a table."
        )
    names = [tree.relative(path) for path in tree.images]
    labels, splits, remarks = _understood([tuple(name.split("/")) for name in names], printable(folder.absolute().name))
    if tree.odd_endings:
        first = tree.relative(tree.odd_endings[0])
        remarks.append(f"{len(tree.odd_endings):,} files are images by content, not by ending (first: {first})")
    cells = pd.DataFrame(
        {"cell_id": names, "path": [address(path) for path in tree.images], "label": labels, "split": splits}
    )
    left_out = pd.DataFrame(tree.left_out, columns=["cell_id", "reason"])
    left_out.insert(1, "path", [printable(address(folder / name)) for name, _ in tree.left_out])
    left_out["cell_id"] = left_out["cell_id"].map(printable)
    return cells, left_out, remarks


def printable(name: str) -> str:
    """A file's name as it can be printed and stored: bytes that are not UTF-8 are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _tree(folder: Path) -> Tree:
    tree = Tree(folder)
    hidden = []
    for path in _files(folder, tree):
        name = tree.relative(path)
        if any(map(_hidden, name.split("/"))):
            hidden.append(name)
        elif printable(name) != name:
            tree.left_out.append((name, "its name is not UTF-8: rename the file or folder"))
        else:
            _sort(tree, path)
    if hidden:
        tree.left_out.append(
            (min(hidden), f"hidden or of the operating system ({len(hidden):,} such files and folders)")
        )
    tree.images.sort()
    tree.left_out.sort()
    return tree


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _sort(tree: Tree, path: Path) -> None:
    """Put a file with the images or, with the reason, with those left out."""
    ending = path.suffix.lower()
    try:
        if not isinstance(path, StoredPath) and not stat.S_ISREG(path.stat().st_mode):
            tree.leave_out(path, "not a regular file")
            return
        if ending in SUFFIXES:
            tree.images.append(path)
            return
        head = b"" if isinstance(path, StoredPath) else _head(path)
    except OSError as error:
        broken = path.is_symlink() and not path.exists()
        tree.leave_out(path, "a link to a file that is missing" if broken else f"cannot be read ({error.strerror})")
        return
    if head.startswith(_TIFF_HEADS):
        tree.leave_out(path, "a TIFF without the ending .tif or .tiff: add it if this is a plain TIFF")
    elif head and looks_like_image(path):
        tree.images.append(path)
        tree.odd_endings.append(path)
    else:
        tree.leave_out(path, f"not an image ({ending or 'no ending'})")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _files(folder: Path, tree: Tree) -> Iterator[Path]:
    """All files below a folder; links to folders are followed, each folder once, real ones before links."""
    if isinstance(folder, StoredPath):
        yield from folder.rglob("*")
        return
    waiting: list[Path] = [folder]
    links: list[Path] = []
    seen: set[tuple[int, int]] = set()
    while waiting or links:
        current = waiting.pop() if waiting else links.pop(0)
        try:
            if (identity := _identity(current)) in seen:
                tree.leave_out(current, "leads to a folder that is listed already")
                continue
            seen.add(identity)
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            if current == folder:
                raise CytosaeError(f"{printable(str(folder))}: cannot be opened ({error.strerror}).") from error
            tree.leave_out(current, f"the folder cannot be opened ({error.strerror})")
            continue
        if current != folder and _made_here(current, {entry.name for entry in entries}):
            tree.leave_out(current, "a folder made by cytosae")
            continue
        for entry in entries:
            path = current / entry.name
            if _hidden(entry.name) or not os.path.isdir(path):  # noqa: PTH112 (never raises)
                yield path
            else:
                (links if entry.is_symlink() else waiting).append(path)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _made_here(folder: Path, names: set[str]) -> bool:
    """Whether a folder is a study or the result of a stage, whose figures are no cells."""
    if names >= _OF_A_STUDY:
        return True
    if MANIFEST not in names:
        return False
    try:
        stated = parse_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(stated, dict) and "cytosae" in stated


def _understood(parts: Sequence[tuple[str, ...]], source: str) -> tuple[list[str | None], list[str | None], list[str]]:
    """Label and split of each image by the folders it lies in, and in words how these were understood."""
    folders = [part[:-1] for part in parts]
    first, second = _level(folders, 0), _level(folders, 1)
    deep = all(len(part) > 1 for part in folders)
    splits: list[str | None] = [None] * len(folders)
    at = 0
    remarks = []
    if first and all(folders) and all(map(_is_split, first)):
        splits, at = [SPLITS[part[0].lower()] for part in folders], 1
        remarks.append(f"folders are read as {source}/SPLIT/CLASS" if second else f"folders are read as {source}/SPLIT")
    elif deep and all(map(_is_split, second)):
        splits = [SPLITS[part[1].lower()] for part in folders]
        wrapped = len(first) == 1 and all(len(part) > 2 for part in folders)
        at = 2 if wrapped else 0
        shape = f"{next(iter(first))}/SPLIT/CLASS" if wrapped else "CLASS/SPLIT"
        remarks.append(f"folders are read as {source}/{shape}")
    elif some := sorted(filter(_is_split, {*first, *second})):
        remarks.append(
            f"folders such as {some[0]!r} are taken for classes and not for splits, since others beside them are none: "
            "if they are splits, put all images into SPLIT/CLASS/, or give a table with the columns label and split"
        )
    labels = [part[at] if len(part) > at else None for part in folders]
    classes = Counter(label for label in labels if label is not None)
    if counts := Counter(split for split in splits if split is not None):
        stated = f"{len(classes)} classes ({_some(sorted(classes))})" if classes else "no classes"
        remarks[0] += f": {stated}; " + ", ".join(f"{name} {count:,}" for name, count in counts.items())
    deeper = sum(len(part) > at + (2 if at == 0 and counts else 1) for part in folders)
    if deeper:
        remarks.append(
            f"{deeper:,} images lie in folders below the {'class' if at == 0 else 'split and class'} folder, which are not "
            f"looked at: the labels are {_some(sorted(classes))}"
        )
    bare = sum(label is None for label in labels)
    if classes and bare:
        remarks.append(f"{bare:,} images lie in no class folder and have no label")
    return labels, splits, remarks


def _is_split(name: str) -> bool:
    return name.lower() in SPLITS


def _level(folders: Sequence[tuple[str, ...]], depth: int) -> set[str]:
    return {part[depth] for part in folders if len(part) > depth}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
