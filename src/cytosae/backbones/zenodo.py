"""DinoBloom's own files on Zenodo: fetched with checksum, and gone on with where a download broke off."""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cytosae.artefacts import PARTIAL, disk_errors, make_folder, parse_json
from cytosae.backbones.dinobloom import ZENODO_FILES, ZENODO_RECORD
from cytosae.cells.datasets.downloads import refuse_another
from cytosae.console import progress
from cytosae.errors import CytosaeError

SITE = "https://zenodo.org"

PINNED = {"dinobloom-s": "sha256:c2f7990b003e89bcece80e379fb8fe0ba2ec392ce19b286e8a294abd99568e44"}
"""Checksums that others publish too (KatherLab's STAMP); those of the other sizes are the record's own."""

_CHUNK = 1 << 20  # bytes read together
_PATIENCE = 30.0  # seconds without an answer


def zenodo_path(name: str) -> Path:
    """Where a fetched file of a ``dinobloom-*`` name is kept."""
    import pooch

    return Path(pooch.os_cache("cytosae")) / ZENODO_RECORD / ZENODO_FILES[name]


def fetch_zenodo(name: str, target: Path) -> Path:
    """Download DinoBloom's weights from Zenodo, unless they are there already.

    The record is asked for the file's checksum. What came before a connection broke lies beside the target and is gone on
    with.

    Parameters
    ----------
    name
        ``dinobloom-s|b|l|g``.
    target
        File to write.

    Raises
    ------
    CytosaeError
        No answer, a record without a checksum, a broken download, a file that is not the published one, no permission or
        space.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    file = ZENODO_FILES[name]
    make_folder(target.parent)
    try:
        checksum = PINNED.get(name) or _published(file)
        if target != zenodo_path(name):  # the cache is ours: what is damaged there is fetched again
            refuse_another(target, checksum)
        with disk_errors(target):
            pooch.retrieve(
                f"{SITE}/records/{ZENODO_RECORD}/files/{file}?download=1",
                known_hash=checksum,
                fname=target.name,
                path=target.parent,
                downloader=lambda url, output, _: _resumed(url, Path(output), target),
            )
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise CytosaeError(
            f"{file}: Zenodo did not give it ({error}). Run the same command again, it goes on where it was; or download "
            f"it by hand from {SITE}/records/{ZENODO_RECORD} and pass it: --backbone {name} --weights {file}"
        ) from error
    except ValueError as error:  # of pooch, for a checksum that differs
        raise CytosaeError(
            f"{file}: what Zenodo gave is not the published file ({error}). It was removed; run the same command again."
        ) from error
    return target


def _published(file: str) -> str:
    """The checksum that the record names for a file, as ``md5:…``.

    Raises
    ------
    CytosaeError
        It names none that can be used: nothing is downloaded that could not be checked.
    """
    record = f"{SITE}/api/records/{ZENODO_RECORD}"
    with _open(record) as answer:
        content = answer.read()
    try:
        entries = parse_json(content)["files"]
        checksum = next((one["checksum"] for one in entries if one["key"] == file), None)
    except (ValueError, KeyError, TypeError) as error:
        raise CytosaeError(
            f"{file}: what {record} answered is not the record of it, so there is no checksum to compare with, and nothing "
            f"was downloaded. Run the same command again later; or download it by hand from {SITE}/records/{ZENODO_RECORD}, "
            f"compare its checksum, and pass it with --weights {file}."
        ) from error
    algorithm, _, digest = str(checksum).partition(":")
    if algorithm not in hashlib.algorithms_available or not re.fullmatch(r"[0-9a-fA-F]{32,}", digest):
        raise CytosaeError(
            f"{file}: {record} names no checksum for it that can be compared ({checksum}), and nothing was downloaded. "
            f"Download it by hand from {SITE}/records/{ZENODO_RECORD}, and pass it with --weights {file}."
        )
    return str(checksum)


def _resumed(url: str, output: Path, target: Path) -> None:
    """Download to `output`, keeping what has come beside `target` until it is whole."""
    partial = target.with_name(f".{target.name}{PARTIAL}")
    have = partial.stat().st_size if partial.is_file() else 0
    try:
        answer = _open(url, have)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        partial.replace(output)  # nothing is left to ask for: the checksum will tell
        return
    with answer:
        if answer.status != 206:
            have = 0  # from the start: the server does not go on
        size = have + int(answer.headers.get("Content-Length") or 0)
        with partial.open("ab" if have else "wb") as sink, progress(target.name, size, "bytes", have) as bar:
            while chunk := answer.read(_CHUNK):
                sink.write(chunk)
                have += len(chunk)
                bar.to(have)
    if have < size:
        raise ConnectionError(f"the connection broke off after {have:,} of {size:,} bytes")
    partial.replace(output)


def _open(url: str, start: int = 0) -> Any:
    headers = {"User-Agent": "cytosae", **({"Range": f"bytes={start}-"} if start else {})}
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_PATIENCE)
