"""Downloads the files of a data set from where it is published."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path

from cytosae.cells.datasets.description import DataSet
from cytosae.downloads import Progress, download, is_offline, refuse_another, zenodo_files
from cytosae.errors import CytosaeError


@dataclass(frozen=True)
class Fetched:
    """A file that is now there, and whether it was compared with a published checksum."""

    path: Path
    checked: bool


def fetch(
    dataset: DataSet, folder: Path, pattern: str | None = None, on_progress: Progress | None = None
) -> list[Fetched]:
    """Download the files of a data set.

    Parameters
    ----------
    dataset
        One with files or a record at a stable address.
    folder
        Where they go. Files that are there, with the published checksum, are not fetched again.
    pattern
        Names of the files to fetch, with ``*`` and ``?``.
    on_progress
        See `cytosae.downloads.Progress`.

    Raises
    ------
    CytosaeError
        No stable address (with what to do by hand), offline, no such file, no answer, or another checksum.
    """
    if not dataset.files and dataset.record is None:
        raise CytosaeError(
            f"{dataset.name}: has no stable address to download from. {dataset.by_hand} Then run "
            f"`cytosae datasets prepare {dataset.name} FOLDER -o DIR`."
        )
    if is_offline():
        raise CytosaeError(
            f"{dataset.name}: nothing is downloaded while HF_HUB_OFFLINE is set. Unset it; or, elsewhere: "
            f"{dataset.by_hand}"
        )
    files = dataset.files or zenodo_files(str(dataset.record), dataset.by_hand)
    wanted = [file for file in files if fnmatch.fnmatch(file.name, pattern or dataset.fetched)]
    if not wanted:
        names = ", ".join(file.name for file in files)
        raise CytosaeError(f"{dataset.name}: no file is named {pattern or dataset.fetched!r}. There are: {names}.")
    fetched = []
    for file in wanted:
        target = folder / _plain(file.name)
        refuse_another(target, file.checksum)
        download(file, target, on_progress)
        fetched.append(Fetched(target, file.checksum is not None))
    return fetched


def _plain(name: str) -> str:
    if Path(name).name != name or name.startswith("."):
        raise CytosaeError(f"{name!r}: refused as the name of a file to be downloaded.")
    return name
