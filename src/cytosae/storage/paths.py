"""Paths that stand for URLs: a working copy on this machine, fetched when it is read and sent when it is whole."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import shutil
import stat
import sys
import threading
from collections.abc import Generator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from cytosae.artefacts import MANIFEST, disk_errors, make_folder, parse_json, sha256_file
from cytosae.errors import CytosaeError
from cytosae.storage import objects

if sys.platform == "win32":
    from pathlib import WindowsPath as LocalPath
else:
    from pathlib import PosixPath as LocalPath

CACHE = "CYTOSAE_CACHE"
"""Environment variable: folder of the working copies."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
_lock = threading.RLock()
_settled: set[str] = set()
"""Working copies that this process has compared with their URL, or has written."""
_open: dict[str, tuple[int, int] | None] = {}
"""Files written under their own name, such as a log, and their size and time when they were last sent."""


def resolve_path(name: str | Path) -> Path:
    """The path of a name that a user gave: a `StoredPath` for a URL, otherwise a local one.

    Raises
    ------
    CytosaeError
        The URL carries a password or a query, which may be one: it would end in manifests and logs.
    """
    if isinstance(name, Path):
        return name
    if "://" not in name or (match := _URL.fullmatch(name)) is None:
        return Path(name)
    protocol, rest = match.groups()
    host, _, key = rest.partition("/")
    if "@" in host or "?" in rest:
        raise CytosaeError(
            f"{protocol}://.../{key.partition('?')[0]}: the URL carries a user, password or query, which would be written "
            "into tables and manifests. Leave it out, and give credentials in the environment (docs/how-to/storage.md)."
        )
    if protocol == "file":
        return Path("/" + rest.lstrip("/"))
    segments = [segment for segment in rest.split("/") if segment]
    if not segments or any(segment in {".", ".."} for segment in segments):
        raise CytosaeError(f"{name}: not the address of a file or folder. Expected {protocol}://bucket/name.")
    return StoredPath(_root(), protocol, *segments)


def _root() -> str:
    chosen = os.environ.get(CACHE)
    return os.path.abspath(chosen) if chosen else os.path.expanduser("~/.cache/cytosae/urls")  # noqa: PTH111


def address(path: Path) -> str:
    """What to write into a table for a path: its URL, or the absolute local path."""
    return path.url if isinstance(path, StoredPath) else os.path.abspath(path)


def below(folder: Path, name: str) -> str:
    """Address of a file that a table in `folder` names: a URL, an absolute path, or one relative to the folder."""
    if "://" in name and _URL.fullmatch(name):
        return address(resolve_path(name))
    if isinstance(folder, StoredPath):  # never asked for its working copy here, which would be a request
        return os.path.normpath(name) if name.startswith("/") else address(resolve_path(f"{folder.url}/{name}"))
    return os.path.normpath(os.path.join(os.path.abspath(folder), name))  # noqa: PTH118


def state(path: Path) -> tuple[int, int]:
    """Size and time of change in ns of a file; at a URL, in place of the time a number that changes with the object.

    Nothing is fetched.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    if not isinstance(path, StoredPath):
        local = path.stat()
        return local.st_size, local.st_mtime_ns
    info = objects.info(path.url)
    if info is None:
        raise FileNotFoundError(errno.ENOENT, "No such object", path.url)
    return int(info["size"] or 0), _number(info)


def _number(info: Mapping[str, Any]) -> int:
    return int(objects.version(info)[:15], 16)


def drop_working_copy(path: Path) -> None:
    """Remove the working copy of a file at a URL; does nothing for a local file."""
    if isinstance(path, StoredPath):
        path._forget()


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, at its URL too."""
    if isinstance(folder, StoredPath):
        objects.remove(folder.url, tree=True)
        _settled.difference_update([text for text in _settled if text.startswith(f"{folder!s}{os.sep}")])
        shutil.rmtree(folder._copy, ignore_errors=True)
    else:
        shutil.rmtree(folder)


class StoredPath(LocalPath):
    """A file or folder at a URL; as a path it is its working copy below the cache folder.

    Whatever opens it as a file gets the working copy, fetched first where this machine has none or the object has
    changed, and checked against the manifest beside it. A file that takes its final name by `replace`, as
    `cytosae.artefacts.whole_file` does, is sent before: so a URL never shows less than the working copy, and shows files
    in the order in which they were finished, a manifest last. Names that begin with a dot stay on the machine.

    In messages it is shown as its URL; ``str()`` gives the working copy.
    """

    @property
    def url(self) -> str:
        """The address that it stands for."""
        protocol, _, rest = Path(str(self)[len(_root()) + 1 :]).as_posix().partition("/")
        return f"{protocol}://{rest}"

    def __format__(self, spec: str) -> str:
        return format(self.url if self.is_absolute() else str(self), spec)

    def __reduce__(self) -> str | tuple[Any, ...]:
        # to a process on another machine, whose working copies lie elsewhere, goes the URL
        return (resolve_path, (self.url,)) if self.is_absolute() else super().__reduce__()

    def __fspath__(self) -> str:
        text = str(self)
        if self.is_absolute():
            with _lock:
                info = self._elsewhere()
                if info is not None and info["type"] != "directory":
                    self._fetch(info)
        return text

    @property
    def _copy(self) -> Path:
        """The working copy as an ordinary path."""
        return Path(str(self))

    @property
    def _origin(self) -> Path:
        """Remembers which state of the object the working copy is."""
        return self._copy.with_name(f".{self.name}.origin")

    def _elsewhere(self) -> Mapping[str, Any] | None:
        """State of the object if the working copy is missing or differs from it; None if the copy is up to date."""
        if str(self) in _settled or self.name.startswith(".") or self._copy.is_dir():
            return None
        info = objects.info(self.url)
        known = self._origin.read_text() if self._origin.is_file() else None
        if info is None:
            if known:  # it was there, and has been removed since
                self._forget()
            return None
        if info["type"] != "directory" and known == objects.version(info) and self._copy.is_file():
            _settled.add(str(self))
            return None
        return info

    def _fetch(self, info: Mapping[str, Any]) -> None:
        expected = self._recorded()
        make_folder(self._copy.parent)
        temporary = self._copy.with_name(f".{self.name}.{os.getpid()}.partial")
        with disk_errors(self._copy):
            try:
                objects.receive(self.url, temporary)
                if expected is not None:
                    if sha256_file(temporary) != expected["sha256"]:
                        raise CytosaeError(
                            f"{self.url}: not the file that the {MANIFEST} beside it records. Either it is being written "
                            f"now, or it was damaged: then remove that {MANIFEST} and run its stage again."
                        )
                    os.utime(temporary, ns=(expected["mtime_ns"], expected["mtime_ns"]))
                self._settle(temporary, info)
            finally:
                temporary.unlink(missing_ok=True)

    def _settle(self, temporary: Path, info: Mapping[str, Any]) -> None:
        """Take a local file as the working copy of this state of the object."""
        self._origin.unlink(missing_ok=True)
        temporary.replace(self._copy)
        self._origin.write_text(objects.version(info))
        _settled.add(str(self))

    def _recorded(self) -> Mapping[str, Any] | None:
        """Size, time and SHA-256 that the manifest beside it has of this file, where there is one."""
        manifest = self.with_name(MANIFEST)
        if self.name == MANIFEST or not manifest.is_file():
            return None
        return _records(os.fspath(manifest), manifest.stat().st_mtime_ns).get(self.name)

    def _forget(self) -> None:
        for path in (self._copy, self._origin):
            path.unlink(missing_ok=True)
        _settled.discard(str(self))
        _open.pop(str(self), None)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Of the working copy; where there is none yet, as it would be once fetched."""
        info = self._elsewhere()
        if info is None:
            return self._copy.stat(follow_symlinks=follow_symlinks)
        if info["type"] == "directory":
            return os.stat_result((stat.S_IFDIR | 0o755, *[0] * 9))
        recorded = self._recorded()
        time = recorded["mtime_ns"] if recorded else _number(info)
        whole = time // 10**9
        fields = (stat.S_IFREG | 0o644, 0, 0, 1, 0, 0, info["size"], whole, whole, whole)
        return os.stat_result(fields, {"st_mtime_ns": time})

    def _kind(self) -> int:
        try:
            return stat.S_IFMT(self.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def exists(self, **_: Any) -> bool:
        """Whether it is here or at its URL."""
        return self._kind() != 0

    def is_file(self, **_: Any) -> bool:
        """Whether it is a file, here or at its URL."""
        return self._kind() == stat.S_IFREG

    def is_dir(self, **_: Any) -> bool:
        """Whether it is a folder, here or at its URL."""
        return self._kind() == stat.S_IFDIR

    def iterdir(self) -> Generator[StoredPath, None, None]:
        """What the folder holds, here or at its URL."""
        local = [path.name for path in self._copy.iterdir()] if self._copy.is_dir() else []
        names = {*objects.listed(self.url), *local}
        yield from (self / name for name in sorted(names) if not name.startswith("."))

    def glob(self, pattern: str, **_: Any) -> Generator[StoredPath, None, None]:
        """What the folder itself holds, by a pattern of its name."""
        yield from (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str, **_: Any) -> Generator[StoredPath, None, None]:
        """All objects below the folder at its URL, by a pattern of their names."""
        names = objects.listed(self.url, deep=True)
        yield from (path for name in names if fnmatch.fnmatchcase((path := self / name).name, pattern))

    def open(self, mode: str = "r", *args: Any, **options: Any) -> Any:
        """Open the working copy; what is written so is sent with the next file of the folder that is finished."""
        if set(mode) & set("wax+") and not self.name.startswith("."):
            if "w" not in mode:
                os.fspath(self)
            make_folder(self._copy.parent)
            _settled.add(str(self))
            _open.setdefault(str(self), None)
        return super().open(mode, *args, **options)

    def replace(self, target: Any) -> Any:
        """Take the name `target`, at its URL first."""
        if not isinstance(target, StoredPath) or target.name.startswith("."):
            return super().replace(target)
        with _lock:
            for log in map(StoredPath, _open):
                if log._copy.parent == target._copy.parent:
                    log._send_log()
            target._settle(self._copy, objects.send(self._copy, target.url))
        return target

    def _send_log(self) -> None:
        status = self._copy.stat()
        if _open[str(self)] != (status.st_size, status.st_mtime_ns):
            self._origin.write_text(objects.version(objects.send(self._copy, self.url)))
            _open[str(self)] = status.st_size, status.st_mtime_ns

    def read_bytes(self) -> bytes:
        """The bytes; of an object that is not on this machine without leaving a working copy, as images need none."""
        if self._copy.is_file() and self._elsewhere() is None:
            return self._copy.read_bytes()
        (data,) = objects.contents([self.url])
        if data is None:
            raise FileNotFoundError(errno.ENOENT, "No such object", self.url)
        return data

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove it, at its URL first."""
        if self.name.startswith("."):
            self._copy.unlink(missing_ok=missing_ok)
            return
        if not missing_ok and not self.exists():
            raise FileNotFoundError(errno.ENOENT, "No such object", self.url)
        objects.remove(self.url)
        self._forget()


@lru_cache(maxsize=16)
def _records(manifest: str, _time: int) -> Mapping[str, Any]:
    """The records of a manifest's files, by name: of a stage's outputs, or of the shards of a token store."""
    try:
        document = parse_json(Path(manifest).read_text(encoding="utf-8"))
        return {**document.get("outputs", {}), **{one["file"]: one["record"] for one in document.get("shards", [])}}
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}  # who reads the manifest itself says what is wrong with it
