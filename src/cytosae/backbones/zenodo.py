"""DinoBloom's own files on Zenodo, fetched with a checksum."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from cytosae.backbones.dinobloom import ZENODO_FILES, ZENODO_RECORD
from cytosae.console import progress
from cytosae.downloads import RemoteFile, download, refuse_another, zenodo_files
from cytosae.errors import CytosaeError

SITE = "https://zenodo.org"

PINNED = {"dinobloom-s": "sha256:c2f7990b003e89bcece80e379fb8fe0ba2ec392ce19b286e8a294abd99568e44"}
"""Checksums that others publish too (KatherLab's STAMP); those of the other sizes are the record's own."""


def zenodo_path(name: str) -> Path:
    """Where a fetched file of a ``dinobloom-*`` name is kept."""
    import pooch

    return Path(pooch.os_cache("cytosae")) / ZENODO_RECORD / ZENODO_FILES[name]


def fetch_zenodo(name: str, target: Path) -> Path:
    """Download DinoBloom's weights from Zenodo, unless they are there already.

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
    by_hand = (
        f"Download {ZENODO_FILES[name]} by hand from {SITE}/records/{ZENODO_RECORD} and pass it: --backbone {name} "
        f"--weights {ZENODO_FILES[name]}"
    )
    file = _published(name, by_hand)
    if target != zenodo_path(name):  # the cache is ours: what is damaged there is fetched again
        refuse_another(target, file.checksum)
    with progress(target.name, file.bytes or 0, "bytes") as bar:

        def show(_: str, done: int, total: int) -> None:
            bar.resize(total)
            bar.to(done)

        download(file, target, show, by_hand)
    return target


def _published(name: str, by_hand: str) -> RemoteFile:
    """The file as the record describes it, with a checksum to compare with: nothing is downloaded unchecked."""
    wanted = ZENODO_FILES[name]
    address = f"{SITE}/records/{ZENODO_RECORD}/files/{wanted}?download=1"
    if name in PINNED:
        return RemoteFile(wanted, address, PINNED[name])
    record = f"{SITE}/api/records/{ZENODO_RECORD}"
    checksums = {file.name: (file.checksum, file.bytes) for file in zenodo_files(record, by_hand)}
    checksum, size = checksums.get(wanted, (None, None))
    algorithm, _, digest = str(checksum).partition(":")
    if algorithm not in hashlib.algorithms_available or not re.fullmatch(r"[0-9a-fA-F]{32,}", digest):
        raise CytosaeError(
            f"{wanted}: {record} names no checksum for it that can be compared ({checksum}), and nothing was downloaded. "
            f"{by_hand}"
        )
    return RemoteFile(wanted, address, checksum, size)
