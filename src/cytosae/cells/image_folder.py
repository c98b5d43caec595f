"""A folder as a source: every file below it is an image of a cell or is named with a reason; folders say what it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from cytosae.artefacts import MANIFEST, parse_json
from cytosae.cells.images import SLIDES, SUFFIXES, looks_like_image
from cytosae.cells.slide_files import slide_beside
from cytosae.cells.walk import HIDDEN, printable, walk
from cytosae.errors import CytosaeError
from cytosae.storage import StoredPath, address

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "holdout", "hold-out", "hold_out"), "test"),
}
"""Names of splits, in lower case, and the split that each means."""

_SPLIT = re.compile(r"(.+?)[ _-]?(set|data|split|images)?([ _-]?[0-9]+|[ _-][a-z])?")
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp", ".bak", ".orig")
_NO_CELLS = frozenset({"mask", "masks", "segmentation", "segmentations", "annotations", "ground_truth"})


def split_named(name: str) -> str | None:
    """The split that a name means, such as ``Train``, ``test_set`` or ``Test-A``; None for other names.

    Examples
    --------
    >>> split_named("TestSet"), split_named("Test-A"), split_named("basophil")
    ('test', 'test', None)
    """
    plain = name.strip().lower()
    if plain in SPLITS:
        return SPLITS[plain]
    parts = _SPLIT.fullmatch(plain)
    return SPLITS.get(parts[1]) if parts else None


_TIFF_HEADS = (b"II*\x00", b"MM\x00*")  # raw files of cameras and slide scanners begin so too
_STUDY_FILES = {"cells.parquet", "backbone.json"}
_OF_A_SLIDE = "the pixels of a slide"


@dataclass
class _Sorted:
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


def cells_below(folder: Path, slides: bool = False) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The images below a folder, the other files with the reason, and what a reader has to know.

    Whole slides are among the images if `slides`.

    Raises
    ------
    CytosaeError
        The folder holds no image, or cannot be opened.
    """
    files = _sort(folder, slides)
    if not files.images:
        reasons = Counter(reason for _, reason in files.left_out).most_common(3)
        seen = f"; left out: {', '.join(f'{count:,} {reason}' for reason, count in reasons)}" if reasons else ""
        raise CytosaeError(
            f"{printable(str(folder))}: holds no image ({', '.join(sorted(SUFFIXES))}){seen}. Give a folder of images, a "
            "folder of class folders, or a table."
        )
    names = [files.relative(path) for path in files.images]
    labels, splits, remarks = _understood([tuple(name.split("/")) for name in names], printable(folder.absolute().name))
    if files.odd_endings:
        first = files.relative(files.odd_endings[0])
        remarks.append(f"{len(files.odd_endings):,} files are images by content, not by ending (first: {first})")
    cells = pd.DataFrame(
        {"cell_id": names, "path": [address(path) for path in files.images], "label": labels, "split": splits}
    )
    left_out = pd.DataFrame(files.left_out, columns=["cell_id", "reason"], dtype=object)
    left_out.insert(1, "path", [printable(address(folder / name)) for name, _ in files.left_out])
    left_out["cell_id"] = left_out["cell_id"].map(printable)
    return cells, left_out, remarks


def _sort(folder: Path, slides: bool) -> _Sorted:
    """The images below a folder, and everything else with the reason."""
    files = _Sorted(folder)
    hidden = []
    for entry in walk(folder, closed=_not_entered):
        if entry.refused == HIDDEN:
            hidden.append(entry.name)
        elif entry.refused == _OF_A_SLIDE:
            continue  # the slide beside it stands for it
        elif reason := entry.refused or _no_image(entry.path, slides):
            files.left_out.append((entry.name, reason))
        else:
            files.images.append(entry.path)
            if entry.path.suffix.lower() not in SUFFIXES | SLIDES:
                files.odd_endings.append(entry.path)
    if hidden:
        files.left_out.append((min(hidden), f"{HIDDEN} ({len(hidden):,} such files and folders)"))
    files.images.sort()
    files.left_out.sort()
    return files


def _no_image(path: Path, slides: bool) -> str | None:
    """Why a regular file is no image; None if it is one, by ending or by content."""
    ending = path.suffix.lower()
    if path.name.lower().endswith(_UNFINISHED) or path.name.startswith("~$"):
        return "a backup or an unfinished copy by its name"
    if ending in SLIDES:
        return None if slides else "a whole slide: `cytosae fields` finds its cells"
    if ending in SUFFIXES:
        return None
    if not isinstance(path, StoredPath):
        try:
            with path.open("rb") as file:
                head = file.read(4)
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if head.startswith(_TIFF_HEADS):
            return "a TIFF without the ending .tif or .tiff: add it if this is a plain TIFF"
        if head and looks_like_image(path):
            return None
    return f"not an image ({ending or 'no ending'})"


def _not_entered(folder: Path, names: Collection[str]) -> str | None:
    """Why to skip a folder: the pixels of a slide, a study, or the output of a stage, whose figures are no cells."""
    if slide_beside(folder) is not None:
        return _OF_A_SLIDE
    stated: object = None
    if MANIFEST in names:
        with suppress(OSError, ValueError):
            stated = parse_json((folder / MANIFEST).read_text(encoding="utf-8"))
    ours = _STUDY_FILES.issubset(names) or (isinstance(stated, dict) and "cytosae" in stated)
    return "a folder made by cytosae" if ours else None


def _understood(paths: Sequence[tuple[str, ...]], source: str) -> tuple[list[str | None], list[str | None], list[str]]:
    """Label and split of each image by the folders it lies in, and in words how these were understood."""
    folders = [path[:-1] for path in paths]
    around = _around_splits(folders)
    source = "/".join((source, *around))
    folders = [path[len(around) :] for path in folders]
    first, second = _level(folders, 0), _level(folders, 1)
    deep = all(len(path) > 1 for path in folders)
    splits: list[str | None] = [None] * len(folders)
    at = 0
    remarks = []
    if first and all(map(_is_split, first)):
        splits, at = [split_named(path[0]) if path else None for path in folders], 1
        remarks.append(f"folders are read as {source}/SPLIT/CLASS" if second else f"folders are read as {source}/SPLIT")
    elif deep and all(map(_is_split, second)):
        splits = [split_named(path[1]) for path in folders]
        remarks.append(f"folders are read as {source}/CLASS/SPLIT")
    elif some := sorted(filter(_is_split, {*first, *second})):
        remarks.append(
            f"folders such as {some[0]!r} are taken for classes and not for splits, since others beside them are none: "
            "if they are splits, put all images into SPLIT/CLASS/, or give a table with the columns label and split"
        )
    labels = [path[at] if len(path) > at else None for path in folders]
    classes = Counter(label for label in labels if label is not None)
    if counts := Counter(split for split in splits if split is not None):
        stated = f"{len(classes)} classes ({_first_few(sorted(classes))})" if classes else "no classes"
        remarks[0] += f": {stated}; " + ", ".join(f"{name} {count:,}" for name, count in counts.items())
    deeper = sum(len(path) > at + (2 if at == 0 and counts else 1) for path in folders)
    if deeper:
        remarks.append(
            f"{deeper:,} images lie in folders below the {'class' if at == 0 else 'split and class'} folder; the names "
            f"of those folders are not used: the labels are {_first_few(sorted(classes))}"
        )
    if masks := sorted(label for label in classes if label.lower() in _NO_CELLS):
        remarks.append(
            f"the folder {masks[0]!r} is taken for a class of cells. If it holds masks, give a table with the columns path "
            "and mask"
        )
    bare = sum(label is None for label in labels)
    if classes and bare:
        remarks.append(f"{bare:,} images lie in no class folder and have no label")
    return labels, splits, remarks


def _is_split(name: str) -> bool:
    return split_named(name) is not None


def _around_splits(folders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders, each the only one, that lie around folders of splits and are neither splits nor classes themselves."""
    shallowest = min(map(len, folders))
    for depth in range(1, shallowest):
        names = {path[:depth] for path in folders}
        if len(names) > 1 or _is_split(folders[0][depth - 1]):
            break
        if shallowest > depth + 1 and all(map(_is_split, _level(folders, depth))):
            return folders[0][:depth]
    return ()


def _level(folders: Sequence[tuple[str, ...]], depth: int) -> set[str]:
    return {path[depth] for path in folders if len(path) > depth}


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
