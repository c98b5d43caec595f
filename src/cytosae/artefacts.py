"""What every stage leaves behind: files written whole or not at all, and a manifest of where they came from."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from cytosae import __version__
from cytosae.console import say
from cytosae.errors import CytosaeError

if TYPE_CHECKING:
    import h5py
    import pandas as pd

MANIFEST = "manifest.json"
LEDGER = "cytosae-files.json"
"""Beside the files of a stage: which of the folder's files are its own, written before the first of them."""
PARTIAL = ".cytosae-partial"
"""Ending of a file that is not whole yet."""
WEIGHTS, CONFIG = "model.safetensors", "config.json"
"""Files of an autoencoder."""
ANNOTATIONS = "annotations.sqlite"
"""In a study: what experts say of its concepts."""

VERSIONS: dict[str, int] = {"tokens": 1, "sae": 1, "concepts": 1, "cohort": 1, "report": 1}
"""Version of the mathematics of a stage, 1 where it is not named. Raise it with every change after which the same inputs
and settings give other outputs: what an earlier version made is then made again."""

SPREADSHEET = "utf-8-sig"
"""Encoding of CSV that people open in a spreadsheet: UTF-8 with the mark by which Excel knows it."""

_LEFT_BEHIND = re.compile(rf"\.(.+?)(\.[0-9a-f]{{32}})?{re.escape(PARTIAL)}")

_UMASK = os.umask(0)  # can only be read by setting it
os.umask(_UMASK)

_DEEPEST = 100
"""Levels of lists and objects in each other that a JSON file may have."""
_TOO_DEEP = f"its lists and objects lie in each other deeper than {_DEEPEST} levels"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)$")
"""How what is written in Rust tells of a failed write: an error of its own, with the system's number in its text."""
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_PLACE = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE, errno.EIO}


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_weights(first: str | None, second: str | None) -> bool:
    """Whether two records name the same autoencoder: equal digests of weights.

    What is no digest (nothing, or the name of a repository, whose weights change with the next upload) is equal to nothing.
    """
    return first is not None and first == second and re.fullmatch(r"[0-9a-f]{64}", first) is not None


def digest(value: Any) -> str:
    """SHA-256 of a JSON-like value; equal values have equal digests whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into a message that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise CytosaeError(
                f"{path}: the disk is full or a size limit was reached ({error.strerror}). What was finished "
                "before is kept; free some space or choose another folder, and run the same command again."
            ) from error
        if error.errno in _FORBIDDEN:
            raise CytosaeError(
                f"{path}: no permission to write here ({error.strerror}). Choose another folder or change "
                "its permissions."
            ) from error
        ours = str(error.filename or "").endswith(PARTIAL)  # nothing can be made there
        if error.errno in _NO_PLACE or (error.errno == errno.ENOENT and ours):
            raise CytosaeError(
                f"{path}: cannot be written ({error.strerror}). Choose another name or place."
            ) from error
        raise


@contextlib.contextmanager
def reading_hdf5(
    path: Path, advice: str, *, kind: str = "a readable AnnData", name: str | None = None
) -> Iterator[None]:
    """Turn what HDF5 says of a file into a message: that it is locked by another program, or that it is not of this kind.

    Parameters
    ----------
    advice
        What to do where the file is damaged.
    kind
        What it should be.
    name
        How the message calls it; the path if None.
    """
    try:
        yield
    except CytosaeError:
        raise
    except Exception as error:  # of a damaged file h5py and anndata raise whatever comes
        said = str(error)
        if isinstance(error, BlockingIOError) or "unable to lock file" in said or "already open for" in said:
            raise CytosaeError(
                f"{name or path}: is open for writing in another program, which has locked it. The file is not damaged: "
                "close it there (a notebook, a viewer, another run), then run the same command again."
            ) from error
        raise CytosaeError(f"{name or path}: not {kind} ({error}). {advice}") from error


class _Sink(io.FileIO):
    """A file that takes everything, and keeps the first error: HDF5 crashes the process after one of its own writing."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while self.error is None and written < len(view):
            try:
                written += super().write(view[written:])
            except OSError as error:
                self.error = error
        return len(view)


@contextlib.contextmanager
def writing_hdf5(path: Path) -> Iterator[h5py.File]:
    """Write a file of HDF5 whole or not at all; see `whole_file`."""
    import h5py

    with whole_file(path) as partial, _Sink(partial, "w+") as sink:
        try:
            with h5py.File(sink, "w") as file:
                yield file
        finally:
            if sink.error is not None:
                raise sink.error


def make_folder(path: Path) -> Path:
    """Create a folder with its parents; a clear error where that is not allowed."""
    with disk_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # below a folder that has gone, or where the system makes none
            raise CytosaeError(f"{path}: cannot be made ({error.strerror}). Choose another place.") from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path


@contextlib.contextmanager
def whole_file(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Write a file so that it exists whole or not at all.

    Yields a temporary path in the same folder. On success its bytes are flushed to the disk and it takes the
    final name in one step; on any failure it is removed and what stood under the final name stays. Where other processes
    may write the same file at the same time (`shared`), the temporary path is not theirs, and the last one stays.
    """
    make_folder(path.parent)
    ours = f".{uuid4().hex}" if shared else ""
    partial = path.with_name(f".{path.name}{ours}{PARTIAL}")
    with disk_errors(path):
        try:
            yield partial
            partial.chmod(0o666 & ~_UMASK)  # some writers make files that only their owner can read
            descriptor = os.open(partial, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            partial.replace(path)
        except Exception as error:
            if number := _SYSTEM_ERROR.search(str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
            raise
        finally:
            partial.unlink(missing_ok=True)


def write_csv(path: Path, table: pd.DataFrame, *, index: bool = False) -> None:
    """Write a table as CSV for people, whole or not at all; see `whole_file`."""
    with whole_file(path) as partial:
        table.to_csv(partial, index=index, encoding=SPREADSHEET)


def whole_name(name: str) -> str:
    """The name that a file will have; of one that a killed `whole_file` left behind, which name it would have had."""
    left = _LEFT_BEHIND.fullmatch(name)
    return name if left is None else left[1]


def without_nan(value: Any) -> Any:
    """The same value with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(k): without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any, *, shared: bool = False) -> None:
    """Write a JSON file whole or not at all; see `whole_file`."""
    with whole_file(path, shared=shared) as partial:
        partial.write_text(json.dumps(without_nan(value), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text from outside.

    Raises
    ------
    ValueError
        It is no JSON, or lists and objects lie in each other deeper than `_DEEPEST` levels: what reads them further would
        exceed Python's limit of recursion.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [found]
    for _ in range(_DEEPEST + 1):
        inside = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        if not (level := [one for values in inside for one in values]):
            return found
    raise ValueError(_TOO_DEEP)


def read_json(path: Path) -> Any:
    """Read a JSON file; a clear error if it is not one."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CytosaeError(f"{path}: not a JSON file ({error}). Move it away and run the stage again.") from error


SEAL = "digest"
"""Where a manifest says what the rest of it is."""


def write_sealed(path: Path, content: Mapping[str, Any], *, shared: bool = False) -> None:
    """Write a JSON object with the digest of its content: by that `read_sealed` knows when it was damaged."""
    content = json.loads(json.dumps(without_nan(content)))
    write_json(path, {**content, SEAL: digest(content)}, shared=shared)


def read_sealed(path: Path) -> Any:
    """Read what `write_sealed` wrote, without the digest; what earlier versions wrote has none and is read as it is."""
    raw = read_json(path)
    if isinstance(raw, dict) and SEAL in raw and raw.pop(SEAL) != digest(raw):
        raise CytosaeError(
            f"{path}: damaged, or changed by hand: its digest is not that of its content. Move it away and run the stage "
            "again."
        )
    return raw


@dataclass(frozen=True)
class FileRecord:
    """One output file as it was when its stage ended."""

    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Record a file that exists now."""
        stat = path.stat()
        return cls(stat.st_size, stat.st_mtime_ns, sha256_file(path))

    def matches(self, path: Path) -> bool:
        """Whether `path` still holds these bytes; hashes only where size or time have changed."""
        try:
            stat = path.stat()
        except FileNotFoundError:
            return False
        if stat.st_size != self.bytes:
            return False
        return stat.st_mtime_ns == self.mtime_ns or sha256_file(path) == self.sha256


@dataclass(frozen=True)
class Manifest:
    """Provenance of a finished stage, kept as ``manifest.json`` in its folder.

    Attributes
    ----------
    stage
        Name of the stage.
    parameters
        Everything that was set and that the outputs depend on.
    inputs
        A digest of each input, by name.
    outputs
        The files that the stage wrote, by path relative to its folder.
    summary
        The figures that the stage reports.
    cytosae
        Version of the package that made it.
    version
        Version of the stage's mathematics, see `VERSIONS`.
    logs
        Files that tell how the work went. Nothing is made from them: when one has changed, that is said and nothing is
        made again.
    """

    stage: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: Mapping[str, FileRecord] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    cytosae: str = __version__
    version: int = 0
    logs: Mapping[str, FileRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.version:
            object.__setattr__(self, "version", VERSIONS.get(self.stage, 1))

    @classmethod
    def load(cls, folder: Path) -> Manifest | None:
        """The manifest of a folder, or None where the stage has not finished there."""
        path = folder / MANIFEST
        if not path.is_file():
            return None
        raw = read_sealed(path)
        try:
            outputs, logs = (
                {name: FileRecord(**record) for name, record in records.items()}
                for records in (raw.pop("outputs"), raw.pop("logs", {}))
            )
            return cls(**{"version": 1, **raw}, outputs=outputs, logs=logs)
        except (AttributeError, KeyError, TypeError) as error:
            raise CytosaeError(
                f"{path}: not a manifest of this program ({error}). Move it away and run again."
            ) from error

    def save(self, folder: Path) -> None:
        """Write the manifest; the last thing a stage does."""
        write_sealed(folder / MANIFEST, asdict(self))

    def fingerprint(self) -> str:
        """Digest of the outputs' contents."""
        return digest({name: record.sha256 for name, record in self.outputs.items()})

    def why_stale(
        self,
        folder: Path,
        parameters: Mapping[str, Any],
        inputs: Mapping[str, str],
        defaults: Mapping[str, Any] | None = None,
    ) -> str | None:
        """Why the stage has to run again with these parameters and inputs; None if it need not.

        A setting that is younger than the manifest counts as unchanged while it has its value in `defaults`.
        """
        if reason := outdated(self.stage, self.version):
            return reason
        if reason := changes("setting", {**(defaults or {}), **self.parameters}, {**(defaults or {}), **parameters}):
            return reason
        if reason := changes("input", self.inputs, inputs):
            return reason
        for name, record in self.outputs.items():
            if not record.matches(folder / name):
                return f"{name} is missing or was changed"
        return None

    def changed_logs(self, folder: Path) -> list[str]:
        """Its logs that are missing or are not as they were when the stage ended."""
        return [name for name, record in self.logs.items() if not record.matches(folder / name)]


def outdated(stage: str, version: int) -> str | None:
    """Say that another version of the stage's mathematics made something; None if it was the present one."""
    now = VERSIONS.get(stage, 1)
    return None if version == now else f"made by version {version} of this stage, which is at version {now} now"


def sae_weights_digest(folder: Path) -> str:
    """SHA-256 of an autoencoder's weights, from its manifest where there is one."""
    if not (folder / WEIGHTS).is_file():
        raise CytosaeError(f"{folder / WEIGHTS}: missing. An autoencoder is a folder with {WEIGHTS} and {CONFIG}.")
    manifest = Manifest.load(folder)
    if manifest is not None and WEIGHTS in manifest.outputs and manifest.outputs[WEIGHTS].matches(folder / WEIGHTS):
        return manifest.outputs[WEIGHTS].sha256
    return sha256_file(folder / WEIGHTS)


def changes(kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Name what differs between two mappings in one phrase, or None where they are equal."""
    # JSON has no tuples and no integer keys: compare what would be read back.
    old, new = json.loads(json.dumps(before)), json.loads(json.dumps(now))
    differing = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    if not differing:
        return None
    if kind == "input":
        return f"changed: {', '.join(differing)}"
    return f"{kind} changed: " + ", ".join(f"{key} {old.get(key)} -> {new.get(key)}" for key in differing)


COMMANDS = {
    "cells": "cells",
    "study": "run",
    "tokens": "embed",
    "sae": "train",
    "concepts": "encode",
    "cohort": "barcodes",
    "quality": "evaluate",
    "classification": "classify",
    "comparison": "compare",
    "explorer": "explore --export",
    "reproduction": "reproduce",
    "dataset": "datasets prepare",
}
"""The commands of stages that have another name."""


def claim(
    folder: Path, stage: str, names: Iterable[str], *, unnamed: Iterable[str] = (), proven: Iterable[str] = ()
) -> None:
    """Say on disk which files a stage is about to write, before it writes the first.

    By this a stage that was killed knows its own files again. Whatever else lies in the folder belongs to somebody else.

    Parameters
    ----------
    folder
        Of the stage; made where it does not exist.
    stage
        Whose files they are, as in the manifest.
    names
        Paths of the files, relative to the folder.
    unnamed
        Those of them that earlier versions wrote too, without naming them in their manifest.
    proven
        Those of them whose content says that they are the stage's own.

    Raises
    ------
    CytosaeError
        One of the files is there and is not the stage's own, or the folder is that of another stage. Nothing is written.
    """
    names = set(names)
    own = refuse_strangers(folder, stage, names, unnamed=unnamed, proven=proven)
    make_folder(folder)
    _write_ledger(folder, stage, {**dict.fromkeys(names), **own})


def refuse_strangers(
    folder: Path, stage: str, names: Iterable[str], *, unnamed: Iterable[str] = (), proven: Iterable[str] = ()
) -> dict[str, FileRecord | None]:
    """Refuse what `claim` would refuse, and write nothing; the stage's own files."""
    ledger, own = _read_ledger(folder, stage), _named_by_manifest(folder, stage)
    if ledger is None and own is not None:
        own |= {name: None for name in unnamed if name not in own}
    own = {**(ledger or {}), **(own or {})}
    if strangers := sorted(_existing(folder, {*names} - {*own, *proven})):
        raise foreign(folder / strangers[0], stage)
    return own


def owned(folder: Path, stage: str) -> dict[str, FileRecord | None]:
    """The files in a folder that are a stage's own, each as it was when the stage ended, or None where it did not."""
    return {**(_read_ledger(folder, stage) or {}), **(_named_by_manifest(folder, stage) or {})}


def remove_outdated(
    folder: Path, stage: str, names: Iterable[str], records: Mapping[str, FileRecord] | None = None
) -> None:
    """Remove a stage's own files that are none of `names`; one that was changed since it was written stays, and is named.

    Parameters
    ----------
    folder, stage
        See `claim`.
    names
        Files that the stage has now.
    records
        What files were like when they were written, where the stage knows more than its manifest.
    """
    files, kept = {**owned(folder, stage), **(records or {})}, set(names)
    outdated = {*files} - kept
    for name in sorted(_existing(folder, outdated)):
        record, path = files[name], folder / name
        if record is not None and record.matches(path):
            path.unlink()
        else:
            say(f"{path}: is of an earlier run and may have been changed since; it is left there")
    _write_ledger(folder, stage, {name: record for name, record in files.items() if name in kept})


def refuse_foreign(path: Path, command: str, is_own: Callable[[Path], bool]) -> None:
    """Refuse to replace a file that a command did not write.

    Parameters
    ----------
    path
        The file that is about to be written.
    command
        The command, such as ``panel``.
    is_own
        Whether the content of a file that is there tells that the command wrote it.

    Raises
    ------
    CytosaeError
        There is a file of somebody else.
    """
    if not (path.exists() or path.is_symlink()):
        return
    try:
        own = path.is_file() and is_own(path)
    except Exception:  # whatever a reader makes of a file that is not of its format
        own = False
    if not own:
        raise foreign(path, command)


def foreign(path: Path, stage: str) -> CytosaeError:
    """What is said of a file that stands where a stage or command would write, and is not its own."""
    return CytosaeError(
        f"{path}: exists already and was not written by `cytosae {COMMANDS.get(stage, stage)}`, or is damaged. It was left "
        f"as it is. Choose another name, or move it away."
    )


def _existing(folder: Path, names: Iterable[str]) -> set[str]:
    """Those of the names that are there: one listing of each folder, which at a URL is one request."""
    parents: dict[Path, set[str]] = {}
    found = set()
    for name in names:
        path = folder / name
        if path.parent not in parents:
            listing = path.parent.iterdir() if path.parent.is_dir() else ()
            parents[path.parent] = {one.name.casefold() for one in listing}
        if path.name.casefold() in parents[path.parent] and (path.exists() or path.is_symlink()):
            found.add(name)
    return found


def _read_ledger(folder: Path, stage: str) -> dict[str, FileRecord | None] | None:
    path = folder / LEDGER
    if not path.is_file():
        return None
    raw = read_sealed(path)
    try:
        files = {name: record and FileRecord(**record) for name, record in raw["files"].items()}
        of_stage = raw["stage"]
    except (AttributeError, KeyError, TypeError) as error:
        raise foreign(path, stage) from error
    if of_stage != stage:
        raise _other_stage(folder, stage, of_stage)
    return files


def _write_ledger(folder: Path, stage: str, files: Mapping[str, FileRecord | None]) -> None:
    records = {name: record and asdict(record) for name, record in sorted(files.items())}
    write_sealed(folder / LEDGER, {"stage": stage, "files": records}, shared=True)


def _named_by_manifest(folder: Path, stage: str) -> dict[str, FileRecord | None] | None:
    """The files that a folder's manifest names; those of a token store are its shards."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    raw = read_sealed(path)
    try:
        of_stage = raw["stage"]
        files = {**raw.get("outputs", {}), **{shard["file"]: shard["record"] for shard in raw.get("shards", [])}}
        named: dict[str, FileRecord | None] = {name: FileRecord(**record) for name, record in files.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise foreign(path, stage) from error
    if of_stage != stage:
        raise _other_stage(folder, stage, of_stage)
    return named


def _other_stage(folder: Path, stage: str, other: str) -> CytosaeError:
    mine, theirs = COMMANDS.get(stage, stage), COMMANDS.get(other, other)
    return CytosaeError(f"{folder}: holds what `cytosae {theirs}` wrote. Choose another folder for `cytosae {mine}`.")
