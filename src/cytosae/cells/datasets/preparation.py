"""From what was downloaded to a table of cells: unpack, list, compare with what is published, and say what is odd."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cytosae import __version__
from cytosae.artefacts import LEDGER, claim, parse_json, refuse_strangers, whole_file, write_csv, write_json
from cytosae.cells.datasets.archives import already_unpacked, is_archive, is_other_archive, unpack_all
from cytosae.cells.datasets.description import DataSet, Reading
from cytosae.cells.datasets.folders import has_mark, source_record
from cytosae.cells.datasets.tree import Tree
from cytosae.cells.images import SUFFIXES
from cytosae.cells.walk import HIDDEN, printable
from cytosae.errors import CytosaeError

TABLE, SUMMARY, LEFT_OUT, ATTRIBUTES = "cells.csv", "dataset.json", "left_out.csv", "attributes.csv"
_UNPACKED, _IMAGES = "unpacked", "images"
_SHOWN = 8
_PLURAL = {"label": "labels", "diagnosis": "diagnoses"}

NO_IMAGE = "not an image"
NO_CLASS = "image of no published class"
OTHER_ARCHIVE = "archive that has to be unpacked by another program"


@dataclass(frozen=True)
class Prepared:
    """What was written, and what was found."""

    table: Path
    summary: dict[str, Any]


def prepare(
    dataset: DataSet,
    source: Path,
    output: Path,
    grouping: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """List the cells of a published data set in a table that `cytosae run` takes.

    Parameters
    ----------
    dataset
        What it is.
    source
        Folder in the published layout, also one level too high or too low; an archive; or a folder of archives.
    output
        Gets ``cells.csv``, ``dataset.json``, ``left_out.csv`` where something was left out, ``attributes.csv`` where
        experts filled in attributes, and ``unpacked/`` and ``images/`` where archives were unpacked and images made.
        It may be `source` itself.
    grouping
        Number of classes, where there is a choice.
    on_progress
        Called with bytes done and bytes of all while an archive is unpacked.

    Raises
    ------
    CytosaeError
        No such source, nothing of the data set in it, or an archive that is refused.
    """
    labels = dataset.labels(grouping)
    archives = _archives(source, output)
    names = [TABLE, SUMMARY, LEFT_OUT, *([ATTRIBUTES] if dataset.attributes else [])]
    proven = names if not (output / LEDGER).exists() and _is_summary(output / SUMMARY) else []  # by an earlier version
    refuse_strangers(output, "dataset", names, proven=proven)
    unpacked = unpack_all(archives, output / _UNPACKED, on_progress)
    tree = _tree(source, output, unpacked)
    reading = dataset.read(tree, output / _IMAGES, grouping)
    if reading.cells.empty:
        raise _nothing(dataset, source, tree)
    left_out = _unused_files(tree, reading, {*archives, output / _IMAGES})
    summary = _summary(dataset, tree, reading, labels, left_out) | {"archives": _hashes(archives, unpacked)}
    claim(output, "dataset", names, proven=proven)
    _write(dataset, output, reading.cells, left_out, summary)
    return Prepared(output / TABLE, summary)


def _is_summary(path: Path) -> bool:
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
        return {"cytosae", "dataset", "published_images"} <= document.keys()
    except (OSError, ValueError, AttributeError):
        return False


def _archives(source: Path, output: Path) -> list[Path]:
    if source.is_file():
        if is_archive(source):
            return [source]
        if is_other_archive(source):
            raise CytosaeError(f"{source}: archives of this kind are not unpacked here. Unpack it and give the folder.")
        if source.suffix.lower() == ".npz":
            return []
        raise CytosaeError(f"{source}: neither a folder nor an archive (zip, tar, tar.gz). Give what was downloaded.")
    if not source.is_dir():
        raise CytosaeError(f"{source}: no such file or folder. Give what was downloaded: a folder or an archive.")
    files = Tree.below(source, without=[output / _UNPACKED]).files
    return [path for path in files if is_archive(path) and not already_unpacked(path)]


def _tree(source: Path, output: Path, unpacked: list[Path]) -> Tree:
    ours = [output / name for name in (_UNPACKED, TABLE, SUMMARY, LEFT_OUT, ATTRIBUTES, LEDGER)]
    ours += [output / _IMAGES] if has_mark(output / _IMAGES) else []
    if source.is_dir():
        return Tree.below(source, *unpacked, without=ours)
    if unpacked:
        return Tree.below(*unpacked)
    file = Path(os.path.abspath(source))
    return Tree((file.parent,), (file,))


def _nothing(dataset: DataSet, source: Path, tree: Tree) -> CytosaeError:
    folders = sorted({path.parent.name for path in tree.files})
    held = f"{len(tree.files)} files in {', '.join(folders[:_SHOWN])}" if tree.files else "no file"
    other = [path.name for path in tree.files if is_other_archive(path)]
    unpack = f" Unpack {', '.join(other[:_SHOWN])} first." if other else ""
    refused = [f"{printable(path.name)} ({reason})" for path, reason in tree.refused if reason != HIDDEN][:_SHOWN]
    left = f" Left out: {', '.join(refused)}." if refused else ""
    return CytosaeError(
        f"{source}: holds no image of {dataset.name}, whose published layout is {dataset.layout}. Found: {held}."
        f"{left}{unpack}"
    )


def _unused_files(tree: Tree, reading: Reading, known: set[Path]) -> pd.DataFrame:
    """Every file that is neither a cell nor a mask nor was read, with the reason."""
    listed = {*map(str, reading.cells["path"]), *map(str, reading.cells["mask"].dropna())}
    listed |= {os.path.abspath(path) for path in {*reading.used, *known}}
    rows = [(printable(str(path)), reason) for path, reason in tree.refused]
    for path in tree.files:
        if str(path) in listed or is_archive(path):
            continue
        if path.suffix.lower() in SUFFIXES:
            rows.append((str(path), NO_CLASS))
        else:
            rows.append((str(path), OTHER_ARCHIVE if is_other_archive(path) else NO_IMAGE))
    return pd.DataFrame(sorted(rows), columns=["path", "reason"])


def _summary(
    dataset: DataSet, tree: Tree, reading: Reading, labels: dict[str, str | None], left_out: pd.DataFrame
) -> dict[str, Any]:
    cells = reading.cells
    cells_of_class = Counter(cells["code"].dropna())
    strangers = [
        "/".join(tree.segments(Path(path))[:-1]) for path in left_out.loc[left_out["reason"] == NO_CLASS, "path"]
    ]
    named = cells[dataset.classes_are].dropna()
    return {
        "dataset": dataset.name,
        "title": dataset.title,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "doi": dataset.doi,
        "data_doi": dataset.data_doi,
        "source": dataset.source,
        "cytosae": __version__,
        "cells": len(cells),
        "published_images": dataset.images,
        "patients": int(cells["patient"].nunique()),
        "published_patients": dataset.patients,
        "masks": int(cells["mask"].notna().sum()),
        _PLURAL[dataset.classes_are]: {name: int(count) for name, count in sorted(Counter(named).items())},
        "unlabelled": len(cells) - len(named),
        "classes": [
            {
                "code": one.code,
                dataset.classes_are: labels.get(one.code),
                "found": cells_of_class[one.code],
                "published": one.images,
            }
            for one in dataset.classes
        ],
        "missing": [one.code for one in dataset.classes if not cells_of_class[one.code]],
        "left_out": {reason: int(count) for reason, count in sorted(Counter(left_out["reason"]).items())},
        "unknown_folders": dict(sorted(Counter(strangers).items())),
        "notes": list(reading.notes),
    }


def _hashes(archives: list[Path], unpacked: list[Path]) -> list[dict[str, Any]]:
    """Name, size and SHA-256 of every archive that was given; they were taken when it was unpacked."""
    records = [source_record(folder) for folder in unpacked[: len(archives)]]
    return [
        {"name": archive.name, "bytes": record.bytes, "sha256": record.sha256}
        for archive, record in zip(archives, records, strict=True)
    ]


def _write(
    dataset: DataSet, output: Path, cells: pd.DataFrame, left_out: pd.DataFrame, summary: dict[str, Any]
) -> None:
    stored = cells.copy()
    for column in ("path", "mask"):
        stored[column] = [_shorten(value, output) for value in stored[column]]
    if left_out.empty:
        (output / LEFT_OUT).unlink(missing_ok=True)
    else:
        write_csv(output / LEFT_OUT, left_out)
    if dataset.attributes:
        _write_table(stored[["cell_id", *dataset.attributes]], output / ATTRIBUTES)
    write_json(output / SUMMARY, summary)
    _write_table(stored, output / TABLE)


def _shorten(value: object, folder: Path) -> str | None:
    if pd.isna(value):  # type: ignore[call-overload]
        return None
    path, base = Path(str(value)), Path(os.path.abspath(folder))
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False)
