"""What every stage leaves behind: files written whole or not at all, and a manifest of where they came from."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from cytosae import __version__
from cytosae.errors import CytosaeError

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.json"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
"""Files of an autoencoder."""
ANNOTATIONS = "annotations.sqlite"
"""In a study: what experts say of its concepts."""

VERSIONS: dict[str, int] = {"tokens": 1, "sae": 1, "concepts": 1, "cohort": 1, "report": 1}
"""Version of the mathematics of a stage, 1 where it is not named. Raise it with every change after which the same inputs
and settings give other outputs: what an earlier version made is then made again."""

SPREADSHEET = "utf-8-sig"
"""Encoding of CSV that people open in a spreadsheet: UTF-8 with the mark by which Excel knows it."""

_UMASK = os.umask(0)  # can only be read by setting it
os.umask(_UMASK)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


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
        if error.errno in {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}:
            raise CytosaeError(f"{path}: cannot be written ({error.strerror}). Choose another name.") from error
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


def make_folder(path: Path) -> Path:
    """Create a folder with its parents; a clear error where that is not allowed."""
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
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
    partial = path.with_name(f".{path.name}{ours}.partial")
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
        finally:
            partial.unlink(missing_ok=True)


def write_csv(path: Path, table: pd.DataFrame, *, index: bool = False) -> None:
    """Write a table as CSV for people, whole or not at all; see `whole_file`."""
    with whole_file(path) as partial:
        table.to_csv(partial, index=index, encoding=SPREADSHEET)


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


def read_json(path: Path) -> Any:
    """Read a JSON file; a clear error if it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CytosaeError(f"{path}: not a JSON file ({error}). Remove it and run the stage again.") from error


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
    """

    stage: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: Mapping[str, FileRecord] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    cytosae: str = __version__
    version: int = 0

    def __post_init__(self) -> None:
        if not self.version:
            object.__setattr__(self, "version", VERSIONS.get(self.stage, 1))

    @classmethod
    def load(cls, folder: Path) -> Manifest | None:
        """The manifest of a folder, or None where the stage has not finished there."""
        path = folder / MANIFEST
        if not path.is_file():
            return None
        raw = read_json(path)
        try:
            outputs = {name: FileRecord(**record) for name, record in raw.pop("outputs").items()}
            return cls(**{"version": 1, **raw}, outputs=outputs)
        except (AttributeError, KeyError, TypeError) as error:
            raise CytosaeError(f"{path}: not a manifest of this program ({error}). Remove it and run again.") from error

    def save(self, folder: Path) -> None:
        """Write the manifest; the last thing a stage does."""
        write_json(folder / MANIFEST, asdict(self))

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
