"""Which files make up an image: a slide of MIRAX is an index file and a folder of the same name beside it."""

from __future__ import annotations

from pathlib import Path

from cytosae.artefacts import digest, sha256_file
from cytosae.storage import StoredPath, state

_MIRAX = ".mrxs"


def files_of_image(path: Path) -> list[Path]:
    """The image's file, then those in the folder of a MIRAX slide, by name; not at URLs, where no slide is read."""
    if isinstance(path, StoredPath) or path.suffix.lower() != _MIRAX:
        return [path]
    return [path, *sorted(file for file in path.with_suffix("").rglob("*") if file.is_file())]


def slide_beside(folder: Path) -> Path | None:
    """The MIRAX slide whose pixels a folder holds; None for other folders."""
    if isinstance(folder, StoredPath):
        return None
    beside = (folder.with_name(folder.name + ending) for ending in (_MIRAX, _MIRAX.upper()))
    return next((slide for slide in beside if slide.is_file()), None)


def image_state(path: Path) -> tuple[int, int]:
    """Bytes of all files of an image, and the time of change in ns of one file, or a number that changes with several.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    files = files_of_image(path)
    states = [state(file) for file in files]
    if len(files) == 1:
        return states[0]
    return sum(size for size, _ in states), int(digest([_names(files), states])[:15], 16)


def image_sha256(path: Path) -> str:
    """SHA-256 of one file; of several that of their names and their SHA-256."""
    files = files_of_image(path)
    if len(files) == 1:
        return sha256_file(path)
    return digest([_names(files), [sha256_file(file) for file in files]])


def _names(files: list[Path]) -> list[str]:
    """Names of the files of a slide, which stay when it is renamed."""
    return ["", *(file.relative_to(files[0].with_suffix("")).as_posix() for file in files[1:])]
