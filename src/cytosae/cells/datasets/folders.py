"""Folders that exist whole or not at all, and remember the file that they were made from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from cytosae.artefacts import FileRecord, disk_errors, make_folder, read_json, write_json

MARK = ".made-from.json"


@contextmanager
def whole_folder(folder: Path, source: Path) -> Iterator[Path]:
    """Fill a folder so that it exists whole or not at all.

    Yields a temporary folder beside it, which takes its name when the block ends well and is removed otherwise.
    `source` is the file that it is made from; `made_from` then tells whether it still is.
    """
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


def made_from(folder: Path, source: Path) -> bool:
    """Whether the folder was made, whole, from the file as it is now."""
    mark = folder / MARK
    return mark.is_file() and FileRecord(**read_json(mark)).matches(source)
