"""Which files of a folder are a stage's own: claimed before they are written, removed when they are outdated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from cytosae.artefacts.documents import read_sealed, write_sealed
from cytosae.artefacts.files import make_folder, remove_left_behind
from cytosae.artefacts.manifests import MANIFEST, FileRecord
from cytosae.console import say
from cytosae.errors import CytosaeError

LEDGER = "cytosae-files.json"
"""Beside the files of a stage: which of the folder's files are its own, written before the first of them."""

COMMANDS = {
    "cells": "cells",
    "study": "run",
    "familiarity": "run",
    "outlines": "outline",
    "morphometry": "measure",
    "tokens": "embed",
    "sae": "train",
    "concepts": "encode",
    "cohort": "barcodes",
    "taught": "teach",
    "descriptions": "describe",
    "proposed": "describe --describe-with",
    "quality": "evaluate",
    "classification": "classify",
    "outcome": "classify",
    "comparison": "compare",
    "prediction": "predict",
    "labels": "label",
    "laboratories": "laboratories",
    "transfer": "transfer",
    "restained": "restain",
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
    remove_left_behind(folder)
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


def own_files(folder: Path, stage: str) -> dict[str, FileRecord | None]:
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
    files, current = {**own_files(folder, stage), **(records or {})}, set(names)
    for name in sorted(_existing(folder, {*files} - current)):
        record, path = files[name], folder / name
        if record is not None and record.matches(path):
            path.unlink()
        else:
            say(f"{path}: is of an earlier run and may have been changed since; it is left there")
    _write_ledger(folder, stage, {name: record for name, record in files.items() if name in current})


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
    existing = set()
    for name in names:
        path = folder / name
        if path.parent not in parents:
            listing = path.parent.iterdir() if path.parent.is_dir() else ()
            parents[path.parent] = {one.name.casefold() for one in listing}
        if path.name.casefold() in parents[path.parent] and (path.exists() or path.is_symlink()):
            existing.add(name)
    return existing


def _read_ledger(folder: Path, stage: str) -> dict[str, FileRecord | None] | None:
    path = folder / LEDGER
    if not path.is_file():
        return None
    raw = read_sealed(path)
    try:
        files = {name: record and FileRecord(**record) for name, record in raw["files"].items()}
        recorded_stage = raw["stage"]
    except (AttributeError, KeyError, TypeError) as error:
        raise foreign(path, stage) from error
    if recorded_stage != stage:
        raise _other_stage(folder, stage, recorded_stage)
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
        recorded_stage = raw["stage"]
        files = {**raw.get("outputs", {}), **{shard["file"]: shard["record"] for shard in raw.get("shards", [])}}
        named: dict[str, FileRecord | None] = {name: FileRecord(**record) for name, record in files.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise foreign(path, stage) from error
    if recorded_stage != stage:
        raise _other_stage(folder, stage, recorded_stage)
    return named


def _other_stage(folder: Path, stage: str, other: str) -> CytosaeError:
    own, writer = COMMANDS.get(stage, stage), COMMANDS.get(other, other)
    return CytosaeError(f"{folder}: holds what `cytosae {writer}` wrote. Choose another folder for `cytosae {own}`.")
