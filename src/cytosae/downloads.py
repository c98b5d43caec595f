"""Downloads through pooch: checksums as published, progress, and a second try that resumes where the first one stopped."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytosae.artefacts import PARTIAL, disk_errors, make_folder
from cytosae.errors import CytosaeError, in_short

PATIENCE = 30.0
"""Seconds without an answer after which a download is given up."""

_CHUNK = 1 << 16  # bytes received together; up to so many are lost where a connection breaks off

Progress = Callable[[str, int, int], None]
"""Called with the file's name, the bytes that are there and the bytes that it has (0 where unknown)."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that has a stable address."""

    name: str
    address: str
    checksum: str | None = None
    """``md5:...`` or ``sha256:...`` as published; None where none is."""
    bytes: int | None = None


def is_offline() -> bool:
    """Whether downloads are switched off (``HF_HUB_OFFLINE``)."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() not in {"", "0", "false", "no", "off"}


def zenodo_files(record: str, by_hand: str) -> list[RemoteFile]:
    """Files of a Zenodo record, with the checksums that it publishes.

    Parameters
    ----------
    record
        Address of its description, ``https://zenodo.org/api/records/...``.
    by_hand
        What the user can do without it.

    Raises
    ------
    CytosaeError
        No answer, or one that is not the description of a record.
    """
    import requests

    try:
        answer = requests.get(record, timeout=PATIENCE)
        answer.raise_for_status()
        files: list[dict[str, Any]] = answer.json()["files"]
        return [RemoteFile(f["key"], f["links"]["self"], f.get("checksum"), f.get("size")) for f in files]
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise CytosaeError(
            f"{record}: did not list its files ({in_short(error)}); nothing was downloaded. Try again later; or: {by_hand}"
        ) from error


def download(file: RemoteFile, target: Path, on_progress: Progress | None = None, by_hand: str = "") -> None:
    """Download a file, unless it is there already with the published checksum.

    Without a checksum nothing is resumed: a file that was changed in between would be spliced unnoticed.

    Parameters
    ----------
    file
        What to fetch.
    target
        Where it goes; it appears there whole and checked.
    on_progress
        See `Progress`.
    by_hand
        What the user can do where it fails, as a sentence.

    Raises
    ------
    CytosaeError
        No answer, a broken download, another checksum, no permission or space.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}{PARTIAL}")
    advice = f" {by_hand}" if by_hand else ""
    try:
        with disk_errors(target):
            pooch.retrieve(
                file.address,
                file.checksum,
                fname=target.name,
                path=target.parent,
                downloader=lambda url, output, _: _resume(file, url, temporary, Path(output), on_progress),
            )
    except requests.RequestException as error:  # before OSError, of which it is one
        hint = (
            "What has arrived is kept; run the same command again." if file.checksum else "Run the same command again."
        )
        raise CytosaeError(f"{file.address}: could not be downloaded ({in_short(error)}). {hint}{advice}") from error
    except ValueError as error:  # of pooch, for a checksum that differs
        raise CytosaeError(
            f"{file.name}: what was downloaded has another checksum than the published {file.checksum}, and was removed. "
            f"Run the same command again; if it happens twice, the file was changed at its source.{advice}"
        ) from error


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


def _resume(file: RemoteFile, url: str, temporary: Path, output: Path, on_progress: Progress | None) -> None:
    """Download to `output`; what has arrived is kept in `temporary` until it is whole."""
    import requests

    if file.checksum is None:
        temporary.unlink(missing_ok=True)
    received = temporary.stat().st_size if temporary.is_file() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={received}-"} if received else {})
    with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if total != str(received):  # a part of something else
                temporary.unlink()
                return _resume(file, url, temporary, output, on_progress)
        else:
            answer.raise_for_status()
            resumed = answer.status_code == requests.codes.partial_content
            _receive(answer, temporary, received if resumed else 0, file, on_progress)
    temporary.replace(output)


def _receive(answer: Any, temporary: Path, done: int, file: RemoteFile, on_progress: Progress | None) -> None:
    length = int(answer.headers.get("Content-Length") or 0)
    total = done + length if length else file.bytes or 0
    with temporary.open("ab" if done else "wb") as out:
        for chunk in answer.iter_content(_CHUNK):
            out.write(chunk)
            done += len(chunk)
            if on_progress:
                on_progress(file.name, done, total)
