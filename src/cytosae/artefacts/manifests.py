"""The manifest of a finished stage: what it was made from and with, and whether that is still so."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cytosae import __version__
from cytosae.artefacts.documents import digest, read_sealed, write_sealed
from cytosae.artefacts.files import sha256_file
from cytosae.errors import CytosaeError

MANIFEST = "manifest.json"

WEIGHTS, CONFIG = "model.safetensors", "config.json"
"""Files of an autoencoder."""

ANNOTATIONS = "annotations.sqlite"
"""In a study: what experts say of its concepts."""

VERSIONS: dict[str, int] = {
    "fields": 2,
    "tokens": 1,
    "sae": 2,
    "concepts": 2,
    "morphometry": 5,
    "descriptions": 3,
    "cohort": 3,
    "report": 2,
    "classification": 4,
}
"""Version of the mathematics of a stage, 1 where it is not named. Raise it with every change after which the same inputs
and settings give other outputs: what an earlier version made is then made again."""


def same_weights(first: str | None, second: str | None) -> bool:
    """Whether two records name the same autoencoder: equal digests of weights.

    What is no digest (nothing, or the name of a repository, whose weights change with the next upload) is equal to nothing.
    """
    return first is not None and first == second and re.fullmatch(r"[0-9a-f]{64}", first) is not None


@dataclass(frozen=True)
class FileRecord:
    """One output file as it was when its stage ended."""

    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def from_file(cls, path: Path) -> FileRecord:
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
        Files that record how the work went. Nothing depends on them: if one has changed, a message says so and nothing
        runs again.
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

    def check_output(self, folder: Path, name: str, again: str) -> None:
        """Refuse a file that is not the one that the stage wrote.

        Raises
        ------
        CytosaeError
            It is missing, or another; `again` says how to make it anew.
        """
        if not self.outputs[name].matches(folder / name):
            raise CytosaeError(f"{folder / name}: missing, or not as its manifest has it. {again}")

    def changed_logs(self, folder: Path) -> list[str]:
        """Its logs that are missing or are not as they were when the stage ended."""
        return [name for name, record in self.logs.items() if not record.matches(folder / name)]


def outdated(stage: str, version: int) -> str | None:
    """Why something of another version of the stage's mathematics is stale; None if the version is the current one."""
    current = VERSIONS.get(stage, 1)
    return None if version == current else f"made by version {version} of this stage, which is at version {current} now"


def sae_weights_digest(folder: Path) -> str:
    """SHA-256 of an autoencoder's weights, from its manifest where there is one."""
    if not (folder / WEIGHTS).is_file():
        raise CytosaeError(f"{folder / WEIGHTS}: missing. An autoencoder is a folder with {WEIGHTS} and {CONFIG}.")
    manifest = Manifest.load(folder)
    if manifest is not None and WEIGHTS in manifest.outputs and manifest.outputs[WEIGHTS].matches(folder / WEIGHTS):
        return manifest.outputs[WEIGHTS].sha256
    return sha256_file(folder / WEIGHTS)


def changes(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Name what differs between two mappings in one phrase, or None where they are equal."""
    # JSON has no tuples and no integer keys: compare what would be read back.
    old, new = json.loads(json.dumps(before)), json.loads(json.dumps(after))
    differing = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    if not differing:
        return None
    if kind == "input":
        return f"changed: {', '.join(differing)}"
    return f"{kind} changed: " + ", ".join(f"{key} {old.get(key)} -> {new.get(key)}" for key in differing)
