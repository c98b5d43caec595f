"""Folders that exist whole or not at all, and remember the file that they were made from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from cytosae.artefacts import FileRecord, disk_errors, make_folder, read_json, write_json
from cytosae.errors import CytosaeError

MARK = ".made-from.json"


@contextmanager
def whole_folder(folder: Path, source: Path) -> Iterator[Path]:
    """Fill a folder so that it exists whole or not at all.

    Yields a temporary folder beside it, which takes its name when the block ends well and is removed otherwise.
    `source` is the file that it is made from; `made_from` then tells whether it still is.

    Raises
    ------
    CytosaeError
        There is such a folder, with something in it that was not made here.
    """
    if folder.exists() and not is_made(folder) and any(folder.iterdir()):
        raise CytosaeError(f"{folder}: is there already and was not made by this program. Choose another output.")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    make_folder(partial)
    try:
        with disk_errors(folder):
            yield partial
            write_json(partial / MARK, asdict(FileRecord.of(source)))
            if folder.exists():
                shutil.rmtree(folder)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_made(folder: Path) -> bool:
    """Whether the folder was made by `whole_folder`."""
    return (folder / MARK).is_file()


def made_from(folder: Path, source: Path) -> bool:
    """Whether the folder was made, whole, from the file as it is now."""
    return is_made(folder) and FileRecord(**read_json(folder / MARK)).matches(source)
