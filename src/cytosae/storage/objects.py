"""Requests to object stores through fsspec, each tried a few times before it becomes one message."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cytosae.errors import CytosaeError

TRIES = 4
"""Times that a request is made; the protocols' own clients repeat some failures besides."""
PAUSE = 0.5
"""Seconds before the second try; doubled before every further one."""

_INSTALL = {"s3": "'cytosae[s3]'", "gs": "gcsfs", "gcs": "gcsfs"}
_VERSION = ("ETag", "etag", "blob_id", "md5Hash", "mtime", "created", "LastModified")
"""Fields that identify the state of an object, by file system; the first one present counts."""
_LOCAL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # not the server's fault, and no better the next time

T = TypeVar("T")


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the URL as it calls it.

    Asked for anew each time: fsspec keeps one for each process, and knows when a process was forked.

    Raises
    ------
    CytosaeError
        The protocol is unknown or its package is missing.
    """
    from fsspec.core import url_to_fs  # type: ignore[import-untyped, unused-ignore]

    protocol = url.partition("://")[0]
    try:
        return url_to_fs(url)
    except ImportError as error:
        package = _INSTALL.get(protocol, "the package that it names")
        raise CytosaeError(f"{url}: {protocol}:// is not installed ({error}): pip install {package}") from error
    except ValueError as error:
        raise CytosaeError(f"{url}: {protocol}:// is not known to fsspec ({error}). Check the address.") from error


def tried(url: str, doing: str, work: Callable[[], T], patience: int = TRIES) -> T:
    """What `work` returns, tried again where a request failed.

    Raises
    ------
    FileNotFoundError
        The server says that it is not there.
    CytosaeError
        No permission, or no success in `patience` tries: the URL, the last reason, what to do.
    """
    failure: Exception
    for attempt in range(patience):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
        try:
            return work()
        except (CytosaeError, FileNotFoundError):
            raise
        except PermissionError as error:
            raise CytosaeError(
                f"{url}: may not be {doing} ({error}). Check the credentials that this machine has for it, and its name."
            ) from error
        except Exception as error:  # each protocol's client has failures of its own kinds
            if isinstance(error, OSError) and error.errno in _LOCAL:
                raise
            failure = error
    raise CytosaeError(
        f"{url}: cannot be {doing}, {patience} tries failed, the last with {type(failure).__name__}: {failure}. What was "
        "finished is kept; check network and server, and run the same command again."
    ) from failure


def info(url: str) -> Mapping[str, Any] | None:
    """What the server says of an object or folder; None where there is none."""

    def ask() -> Mapping[str, Any]:
        fs, path = filesystem(url)
        return fs.info(path)

    try:
        return tried(url, "looked at", ask)
    except FileNotFoundError:
        return None


def version(info: Mapping[str, Any]) -> str:
    """Digest of an object's size and ETag (or the store's equivalent), which identifies its state."""
    etag = next((str(info[key]) for key in _VERSION if info.get(key)), "")
    return hashlib.sha256(f"{info['size']} {etag}".encode()).hexdigest()


def listed(url: str, *, deep: bool = False) -> list[str]:
    """Names in a folder, relative to it; with `deep` all objects below it, at any depth."""

    def ask() -> list[str]:
        fs, path = filesystem(url)
        names = fs.find(path) if deep else fs.ls(path, detail=False)
        root = path.rstrip("/") + "/"
        return sorted(name[len(root) :].strip("/") for name in names if name.startswith(root))

    try:
        return [name for name in tried(url, "listed", ask) if name]
    except FileNotFoundError:
        return []


def receive(url: str, target: Path) -> None:
    """Write an object's bytes to a local file, all of them.

    Raises
    ------
    FileNotFoundError
        There is none.
    """

    def get() -> None:
        fs, path = filesystem(url)
        fs.get_file(path, str(target))
        if (arrived := target.stat().st_size) != (size := fs.info(path)["size"]):
            raise OSError(errno.EIO, f"{arrived:,} of {size:,} bytes arrived")

    tried(url, "fetched", get)


def send(source: Path, url: str) -> Mapping[str, Any]:
    """Write a local file to a URL, where it appears whole or not at all; returns what the server then says of it."""

    def put() -> Mapping[str, Any]:
        fs, path = filesystem(url)
        fs.put_file(str(source), path)
        info: Mapping[str, Any] = fs.info(path)
        if info["size"] != source.stat().st_size:
            raise OSError(errno.EIO, f"{info['size']:,} of {source.stat().st_size:,} bytes are there")
        return info

    try:
        return tried(url, "written", put)
    except FileNotFoundError as error:
        raise CytosaeError(f"{url}: cannot be written, there is no such bucket ({error}). Make it first.") from error


def remove(url: str, *, tree: bool = False) -> None:
    """Remove an object, or with `tree` all below it; none there is fine."""

    def ask() -> None:
        fs, path = filesystem(url)
        fs.invalidate_cache()  # or it would not see what another process wrote
        fs.rm(path, recursive=tree)

    with contextlib.suppress(FileNotFoundError):
        tried(url, "removed", ask)


def ranges(wanted: Sequence[tuple[str, int, int | None]]) -> list[bytes]:
    """Bytes `start` up to `stop` (to the end if None) of objects of one store, read side by side.

    Only what failed or came short is asked for again.

    Raises
    ------
    FileNotFoundError, CytosaeError
        As `tried`, for the first that cannot be had.
    """
    chunks: list[bytes | None] = [None] * len(wanted)

    def ask() -> None:
        missing = [number for number, chunk in enumerate(chunks) if chunk is None]
        fs, _ = filesystem(wanted[missing[0]][0])
        urls, starts, stops = (list(column) for column in zip(*(wanted[number] for number in missing), strict=True))
        failures: list[Exception] = []
        for number, chunk in zip(missing, fs.cat_ranges(urls, starts, stops), strict=True):
            _, start, stop = wanted[number]
            if isinstance(chunk, Exception):
                failures.append(chunk)
            elif stop is not None and len(chunk) != stop - start:
                failures.append(OSError(errno.EIO, f"{len(chunk):,} of {stop - start:,} bytes arrived"))
            else:
                chunks[number] = chunk
        if failures:
            raise failures[0]

    if wanted:
        tried(wanted[0][0] if len(wanted) == 1 else f"{wanted[0][0]} and {len(wanted) - 1} more", "read", ask)
    return [chunk for chunk in chunks if chunk is not None]


def contents(urls: Sequence[str]) -> list[bytes | None]:
    """Whole objects, read in parallel from each store; None for a missing one."""
    objects: dict[str, bytes | None] = {}
    for protocol in {url.partition("://")[0] for url in urls}:
        chosen = [url for url in urls if url.startswith(f"{protocol}://")]
        try:
            objects.update(zip(chosen, ranges([(url, 0, None) for url in chosen]), strict=True))
        except FileNotFoundError:
            objects.update({url: _whole(url) for url in chosen})
    return [objects[url] for url in urls]


def _whole(url: str) -> bytes | None:
    try:
        return ranges([(url, 0, None)])[0]
    except FileNotFoundError:
        return None
