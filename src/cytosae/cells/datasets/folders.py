"""Folders that exist whole or not at all, and remember the file that they were made from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from cytosae.artefacts import PARTIAL, FileRecord, disk_errors, make_folder, read_json, write_json
from cytosae.errors import CytosaeError

MARK = ".made-from.json"


@contextmanager
def whole_folder(folder: Path, source: Path) -> Iterator[Path]:
    """Fill a folder so that it exists whole or not at all.

    Yields a temporary folder beside it, which takes its name when the block ends well and is removed otherwise.
    `source` is the file that it is made from; `is_current` then checks whether it still is.

    Raises
    ------
    CytosaeError
        There is such a folder, with something in it that was not made here.
    """
    if folder.exists() and (strangers := _strangers(folder)):
        raise CytosaeError(
            f"{strangers[0]}: exists already and was not made by cytosae; it would be lost. Move it away, or choose "
            "another output."
        )
    temporary = folder.with_name(f".{folder.name}{PARTIAL}")
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(temporary)
    try:
        with disk_errors(folder):
            yield temporary
            files = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if not path.is_dir())
            write_json(temporary / MARK, {**asdict(FileRecord.from_file(source)), "files": files})
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _strangers(folder: Path) -> list[Path]:
    """Files in the folder that were not made here; all of them where nothing says what was."""
    own = {*(read_json(folder / MARK).get("files", []) if has_mark(folder) else []), MARK}
    files = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())
    return [path for path in files if path.relative_to(folder).as_posix() not in own]


def has_mark(folder: Path) -> bool:
    """Whether the folder was made by `whole_folder`."""
    return (folder / MARK).is_file()


def is_current(folder: Path, source: Path) -> bool:
    """Whether the folder was made, whole, from the file as it is now."""
    return has_mark(folder) and source_record(folder).matches(source)


def source_record(folder: Path) -> FileRecord:
    """The file that a folder was made from, as it was then."""
    return FileRecord(**{name: value for name, value in read_json(folder / MARK).items() if name != "files"})
