"""Archives, unpacked so that nothing leaves the folder: no path outside it, no links, no devices."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from cytosae.artefacts import make_folder
from cytosae.cells.datasets.folders import is_current, whole_folder
from cytosae.cells.datasets.tree import Tree
from cytosae.cells.walk import printable
from cytosae.errors import CytosaeError

_ZIP = (".zip",)
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_OTHERS = (".rar", ".7z")
_UNIX = 3  # system of a zip member whose attributes hold a Unix mode
_LINK, _KIND, _PLAIN = 0o120000, 0o170000, (0, 0o100000, 0o040000)
_DEPTH = 3  # an archive in an archive in an archive

Progress = Callable[[int, int], None]


def is_archive(path: Path) -> bool:
    """Whether `unpack` takes the file, by its name."""
    return path.name.lower().endswith(_ZIP + _TAR)


def is_other_archive(path: Path) -> bool:
    """Whether the file is an archive that has to be unpacked by another program."""
    return path.name.lower().endswith(_OTHERS)


def stem(path: Path) -> str:
    """Name of an archive without its ending."""
    lower = path.name.lower()
    ending = max((e for e in _ZIP + _TAR + _OTHERS if lower.endswith(e)), key=len, default="")
    return path.name[: len(path.name) - len(ending)]


def unpack_all(archives: list[Path], folder: Path, on_progress: Progress | None = None) -> list[Path]:
    """Unpack archives, and those found in them, each into a folder of its own below `folder`.

    What was unpacked before, from the same file, is kept.

    Returns
    -------
    The folders, one per archive.

    Raises
    ------
    CytosaeError
        A damaged or encrypted archive, a member outside of it, a link, or too little disk. What was unpacked of
        that archive is removed.
    """
    made: list[Path] = []
    waiting = [(path, 1) for path in archives]
    while waiting:
        archive, depth = waiting.pop(0)
        target = _free_name(folder / stem(archive), made)
        if not is_current(target, archive):
            unpack(archive, target, on_progress)
        made.append(target)
        if depth < _DEPTH:
            inner = [path for path in Tree.below(target).files if is_archive(path) and not already_unpacked(path)]
            waiting += [(path, depth + 1) for path in inner]
    return made


def already_unpacked(archive: Path) -> bool:
    """Whether a folder with the archive's name lies beside it."""
    return (archive.parent / stem(archive)).is_dir()


def _free_name(target: Path, taken: list[Path]) -> Path:
    number = 1
    name = target
    while name in taken:
        number += 1
        name = target.with_name(f"{target.name}-{number}")
    return name


def unpack(archive: Path, folder: Path, on_progress: Progress | None = None) -> None:
    """Unpack one archive into a folder that then exists whole; see `unpack_all`."""
    make_folder(folder.parent)
    members = _zip_members if archive.name.lower().endswith(_ZIP) else _tar_members
    with whole_folder(folder, archive) as temporary, _damage(archive):
        for name, done, total, stream in members(archive, folder.parent):
            target = temporary / _inside(archive, name)
            if target.is_dir():
                raise CytosaeError(f"{archive}: {name!r} is a file and a folder at once. Fetch the archive again.")
            target.parent.mkdir(parents=True, exist_ok=True)
            with stream, target.open("wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
            if on_progress:
                on_progress(done, total)


@contextmanager
def _damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        RuntimeError,
        OSError,
        UnicodeError,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:  # gzip and bz2 raise it without a number
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CytosaeError(
            f"{archive}: cannot be unpacked ({reason}). Fetch it again, or unpack it yourself and give the folder."
        ) from error


def _inside(archive: Path, name: str) -> PurePosixPath:
    """Path of a member below the folder; an error where it would be elsewhere."""
    path = PurePosixPath(name.replace("\\", "/"))
    drive = bool(path.parts) and path.parts[0].endswith(":")
    if path.is_absolute() or ".." in path.parts or drive or not path.parts or "\0" in name:
        raise CytosaeError(f"{archive}: refused, its member {name!r} lies outside of the archive's folder.")
    if printable(name) != name:
        raise CytosaeError(
            f"{archive}: refused, the name of its member {printable(name)!r} is not UTF-8. Unpack it yourself, rename the "
            "file and give the folder."
        )
    return path


def _zip_members(archive: Path, folder: Path) -> Iterator[tuple[str, int, int, IO[bytes]]]:
    """Files of a zip archive: name, bytes up to its end, bytes of all, and the stream."""
    with zipfile.ZipFile(archive) as zip_file:
        files = [member for member in zip_file.infolist() if not member.filename.replace("\\", "/").endswith("/")]
        for member in files:
            _inside(archive, member.filename)
            mode = member.external_attr >> 16 & _KIND if member.create_system == _UNIX else 0
            if mode not in _PLAIN:
                kind = "a link" if mode == _LINK else "no plain file"
                raise CytosaeError(f"{archive}: refused, its member {member.filename!r} is {kind}.")
        total = sum(member.file_size for member in files)
        _check_room(archive, folder, total)
        done = 0
        for member in files:
            done += member.file_size
            yield member.filename, done, total, zip_file.open(member)


def _tar_members(archive: Path, folder: Path) -> Iterator[tuple[str, int, int, IO[bytes]]]:
    """The same of a tar archive, in bytes of the archive: it is read only once."""
    with archive.open("rb") as raw, tarfile.open(fileobj=raw) as tar_file:
        total = archive.stat().st_size
        _check_room(archive, folder, total)
        for member in tar_file:
            if member.isdir():
                continue
            _inside(archive, member.name)
            stream = tar_file.extractfile(member) if member.isreg() else None
            if stream is None:
                kind = "a link" if member.issym() or member.islnk() else "no plain file"
                raise CytosaeError(f"{archive}: refused, its member {member.name!r} is {kind}.")
            yield member.name, raw.tell(), total, stream


def _check_room(archive: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CytosaeError(
            f"{folder}: {archive.name} needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free. Free some space or "
            "choose another folder."
        )
