"""Downloads with progress, checksums as published, and a second try that goes on where the first one stopped."""

from __future__ import annotations

import fnmatch
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytosae.artefacts import PARTIAL, disk_errors, make_folder
from cytosae.cells.datasets.description import DataSet, RemoteFile
from cytosae.errors import CytosaeError, in_short

PATIENCE = 30.0
"""Seconds without an answer after which a download is given up."""

_PIECE = 1 << 20

Progress = Callable[[str, int, int], None]
"""Called with the file's name, the bytes that are there and the bytes that it has (0 where unknown)."""


@dataclass(frozen=True)
class Fetched:
    """A file that is now there, and whether it was compared with a published checksum."""

    path: Path
    checked: bool


def is_offline() -> bool:
    """Whether downloads are switched off (``HF_HUB_OFFLINE``)."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() not in {"", "0", "false", "no", "off"}


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
        See `Progress`.

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
    listed = dataset.files or _recorded(dataset)
    wanted = [file for file in listed if fnmatch.fnmatch(file.name, pattern or dataset.fetched)]
    if not wanted:
        names = ", ".join(file.name for file in listed)
        raise CytosaeError(f"{dataset.name}: no file is named {pattern or dataset.fetched!r}. There are: {names}.")
    make_folder(folder)
    return [_fetch(file, folder, on_progress) for file in wanted]


def _recorded(dataset: DataSet) -> list[RemoteFile]:
    """Files of a Zenodo record, with the checksums that it publishes."""
    import requests

    try:
        answer = requests.get(str(dataset.record), timeout=PATIENCE)
        answer.raise_for_status()
        files: list[dict[str, Any]] = answer.json()["files"]
        return [RemoteFile(f["key"], f["links"]["self"], f.get("checksum"), f.get("size")) for f in files]
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise CytosaeError(
            f"{dataset.record}: did not say which files {dataset.name} has ({in_short(error)}). Try again later; or: "
            f"{dataset.by_hand}"
        ) from error


def _fetch(file: RemoteFile, folder: Path, on_progress: Progress | None) -> Fetched:
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    target = folder / _plain(file.name)
    refuse_another(target, file.checksum)
    partial = target.with_name(f".{target.name}{PARTIAL}")
    downloader = _Download(file, partial, on_progress)
    try:
        with disk_errors(target):
            pooch.retrieve(file.address, file.checksum, fname=target.name, path=folder, downloader=downloader)
    except requests.RequestException as error:  # before OSError, of which it is one
        kept = "What has arrived is kept; run the same command again" if file.checksum else "Run the same command again"
        raise CytosaeError(f"{file.address}: could not be downloaded ({in_short(error)}). {kept}.") from error
    except ValueError as error:
        raise CytosaeError(
            f"{file.name}: what was downloaded has another checksum than the published {file.checksum}, and was removed. "
            "Run the same command again; where it happens twice, the file was changed at its source."
        ) from error
    return Fetched(target, file.checksum is not None)


def refuse_another(target: Path, checksum: str | None) -> None:
    """Refuse to download over a file that is not the published one."""
    import pooch

    if checksum is None or not target.exists():
        return
    if not target.is_file() or not pooch.hashes.hash_matches(str(target), checksum):
        raise CytosaeError(
            f"{target}: exists already and has another checksum than the published {checksum}. It was left as it is. Move "
            "it away, or choose another folder."
        )


def _plain(name: str) -> str:
    if Path(name).name != name or name.startswith("."):
        raise CytosaeError(f"{name!r}: refused as the name of a file to be downloaded.")
    return name


class _Download:
    """Downloader for pooch that keeps what has arrived, and asks for the rest the next time.

    Only where a checksum is published: without one, a file that was changed in between would be spliced unnoticed.
    """

    def __init__(self, file: RemoteFile, partial: Path, on_progress: Progress | None) -> None:
        self.file, self.partial, self.on_progress = file, partial, on_progress

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        import requests

        if self.file.checksum is None:
            self.partial.unlink(missing_ok=True)
        there = self.partial.stat().st_size if self.partial.is_file() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
        with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                total = answer.headers.get("Content-Range", "").rpartition("/")[2]
                if total != str(there):  # a part of something else
                    self.partial.unlink()
                    return self(url, output_file, pooch)
            else:
                answer.raise_for_status()
                self._receive(answer, there if answer.status_code == requests.codes.partial_content else 0)
        self.partial.replace(output_file)

    def _receive(self, answer: Any, done: int) -> None:
        total = done + int(answer.headers.get("Content-Length", 0)) if answer.headers.get("Content-Length") else 0
        with self.partial.open("ab" if done else "wb") as out:
            for piece in answer.iter_content(_PIECE):
                out.write(piece)
                done += len(piece)
                if self.on_progress:
                    self.on_progress(self.file.name, done, total or self.file.bytes or 0)
