"""Files of the work units of a stage, until it is finished: what was interrupted resumes at the next unit."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from cytosae.artefacts.documents import digest
from cytosae.artefacts.files import whole_name

WORK_FILES = "cytosae-pieces"
"""Folder of these files in the folder of the stage; in it one for everything that they are made from."""
_INPUTS = re.compile(r"[0-9a-f]{16}")


def work_folder(folder: Path, made_from: Any) -> Path:
    """Where the files of a stage in `folder` go, which are made from `made_from` (settings, digests; as JSON)."""
    return folder.absolute() / WORK_FILES / digest(made_from)[:16]


def remove_work_files(folder: Path, own: re.Pattern[str]) -> None:
    """Remove those of a stage, whatever they were made from, and what a killed process left of one; nothing else.

    Parameters
    ----------
    folder
        Of the stage.
    own
        What its files are called.
    """
    everything = folder / WORK_FILES
    folders = [path for path in everything.iterdir() if _INPUTS.fullmatch(path.name)] if everything.is_dir() else []
    for own_folder in filter(Path.is_dir, folders):
        for path in own_folder.iterdir():
            if own.fullmatch(whole_name(path.name)):
                path.unlink()
    for empty in (*folders, everything):
        with contextlib.suppress(OSError):  # not empty: the rest is not ours
            empty.rmdir()
