"""Lists the cells of a source: every image is looked at once, and what cannot be read is left out with its reason."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from cytosae.artefacts import SPREADSHEET, foreign, sha256_file, whole_file
from cytosae.cells.columns import FILE_COLUMNS, READING_COLUMNS
from cytosae.cells.images import MOST_BYTES, UnreadableImage, inspect
from cytosae.cells.opening import open_large
from cytosae.cells.regions import REGION_WISE
from cytosae.cells.slide_files import image_sha256, image_state
from cytosae.cells.sources import survey
from cytosae.cells.table import provenance, write_cells
from cytosae.errors import CytosaeError
from cytosae.storage import StoredPath, resolve_path

_WINDOWS = re.compile(r"(^|/)([A-Za-z]:[\\/]|\\\\)")
_WAITING = 32  # threads that look at images at URLs: most of their time they wait for the network


@dataclass(frozen=True)
class Listing:
    """Result of listing cells: the readable ones, and those left out with the reason."""

    cells: pd.DataFrame
    rejected: pd.DataFrame
    inspected: int
    """Images opened this time; the others were unchanged since the last listing."""
    remarks: tuple[str, ...] = ()
    """How the source was understood, where that is not plain."""

    def reasons(self) -> dict[str, int]:
        """How many files were left out for each kind of reason."""
        kinds = self.rejected["reason"].str.replace(r"(: | \().*", "", regex=True)
        return {str(kind): int(count) for kind, count in kinds.value_counts().items()}

    @property
    def ignored_profiles(self) -> pd.DataFrame:
        """The cells whose ICC profile is broken, with ``file_note``, which says why."""
        return self.cells[self.cells["file_note"].str.contains("ignored", na=False)]

    def summary(self) -> dict[str, Any]:
        """Figures of the listing."""
        return {
            "cells": len(self.cells),
            "rejected": len(self.rejected),
            "reasons": self.reasons(),
            "remarks": list(self.remarks),
            "inspected": self.inspected,
            "scaled": int(self.cells["file_intensity"].notna().sum()),
            "profiles_ignored": len(self.ignored_profiles),
            "datasets": {str(k): int(v) for k, v in self.cells["dataset"].value_counts().items()},
            "labels": int(self.cells["label"].nunique()),
            "patients": int(self.cells["patient"].nunique()),
        }


def list_cells(
    source: Path,
    *,
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    intensity: str | None = None,
    previous: pd.DataFrame | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    large: bool = False,
) -> Listing:
    """List the cells of a source and look at every image once.

    Parameters
    ----------
    source
        See `cytosae.cells.sources.read_source`.
    columns
        See `cytosae.cells.sources.read_source`.
    strict
        A cell that cannot be read is an error instead of being left out.
    intensity
        Scaling of images with more than 8 bits a channel, see `cytosae.settings.ImageConfig`; without it they are left out.
    previous
        An earlier listing: files whose size and time of change are those recorded there are not opened again.
    on_progress
        Called with the number of cells looked at and the number of all.
    large
        Whether images that are read region by region (`cytosae.cells.open_regions`) are taken too, by their header.

    Raises
    ------
    CytosaeError
        Bad source (see `read_source`), no readable image at all, or (with `strict`) any unreadable image.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    listed_source = survey(source, columns, large)
    cells = listed_source.cells
    known = _known(previous, intensity)
    _names_in.cache_clear()
    names = cells["path"].tolist()
    records: list[_Looked | str] = []
    inspected = 0
    remote = any("://" in name for name in names)
    with ThreadPoolExecutor(max_workers=_WAITING if remote else 2 * (os.cpu_count() or 1)) as pool:
        for done, (record, was_opened) in enumerate(
            pool.map(lambda name: _look(name, known, intensity, large), names, chunksize=64), 1
        ):
            records.append(record)
            inspected += was_opened
            if on_progress and (done % 64 == 0 or done == len(names)):
                on_progress(done, len(names))
    good = np.array([not isinstance(record, str) for record in records], dtype=bool)
    rejected = cells.loc[~good, ["cell_id", "path", "dataset"]].assign(
        reason=pd.array([record for record in records if isinstance(record, str)], dtype="string")
    )
    if strict and len(rejected):
        first = rejected.iloc[0]
        raise CytosaeError(
            f"{first['path']}: {first['reason']}. {len(rejected)} of {len(cells)} cells cannot be read; "
            "without --strict they are left out."
        )
    if not good.any():
        first = rejected.iloc[0]
        raise CytosaeError(
            f"{source}: none of its {len(cells)} images can be read; the first is {first['path']}: {first['reason']}."
        )
    listed = cells.loc[good].reset_index(drop=True)
    in_files = zip(*(record for record in records if not isinstance(record, str)), strict=True)
    for name, values in zip((*FILE_COLUMNS, *READING_COLUMNS), in_files, strict=True):
        listed[name] = pd.array(values, dtype="string") if name in READING_COLUMNS else list(values)
    rejected = pd.concat([rejected, listed_source.left_out], ignore_index=True)
    remarks = listed_source.remarks
    if listed_source.default_name is not None and previous is not None:
        former = _former_name(previous, listed)
        if former not in (None, listed_source.default_name):
            for table in (listed, rejected):
                table["dataset"] = table["dataset"].where(table["dataset"] != listed_source.default_name, former)
            remarks += (
                f"the data set is still called {former!r}, although its folder is now {listed_source.default_name!r}: a "
                "column dataset gives it another name",
            )
    return Listing(listed, rejected, inspected, remarks)


def _former_name(previous: pd.DataFrame, listed: pd.DataFrame) -> str | None:
    """The data set's name in an earlier listing, where most of it are the same images; None if it had several."""
    names = previous["dataset"].unique()
    images = dict(zip(previous["cell_id"], previous["file_sha256"], strict=True))
    same = sum(images.get(cell) == sha for cell, sha in zip(listed["cell_id"], listed["file_sha256"], strict=True))
    return str(names[0]) if len(names) == 1 and 2 * same > len(previous) else None


class _Looked(NamedTuple):
    """What `FILE_COLUMNS` and `READING_COLUMNS` say of a file."""

    width: int
    height: int
    size: int
    changed: int
    sha256: str
    intensity: str | None
    note: str | None


def _known(previous: pd.DataFrame | None, intensity: str | None) -> dict[str, _Looked]:
    """The files that were looked at and would be read in the same way today."""
    if previous is None or not set(READING_COLUMNS) <= set(previous.columns):
        return {}
    known = {}
    for path, *numbers, sha, scaling, note in zip(
        *(previous[name] for name in ("path", *FILE_COLUMNS, *READING_COLUMNS)), strict=True
    ):
        width, height, size, changed = map(int, numbers)
        scaling, note = (None if pd.isna(value) else str(value) for value in (scaling, note))
        if scaling in (None, intensity):
            known[path] = _Looked(width, height, size, changed, sha, scaling, note)
    return known


def _look(name: str, known: Mapping[str, _Looked], intensity: str | None, large: bool) -> tuple[_Looked | str, bool]:
    """What the file holds or why it cannot be read, and whether it had to be opened."""
    before, path = known.get(name), resolve_path(name)
    try:
        size, changed = image_state(path)
        if before is not None and (before.size, before.changed) == (size, changed):
            return before, False
        if not size:
            raise UnreadableImage("file is empty (0 bytes)")  # an empty range cannot be asked for
        if large and (regions := open_large(path)) is not None:
            return _Looked(regions.width, regions.height, size, changed, image_sha256(path), None, REGION_WISE), True
        if size > MOST_BYTES:
            raise UnreadableImage(
                f"too large: {size / 1e9:.1f} GB, at most {MOST_BYTES / 1e9:g} are read; cut the cells out"
            )
        looked, sha = inspect(path, intensity)
    except UnreadableImage as reason:
        return str(reason), True
    except OSError as error:
        return f"file is missing ({_like(path) or error.strerror})", True
    except ValueError as error:  # a null byte, or letters that no file name can have
        return f"no file can have this name ({error})", True
    return _Looked(*looked.image.size, size, changed, sha, looked.intensity, looked.note), True


def _like(path: Path) -> str | None:
    """Why a file may be missing that somebody sees: its name is one of Windows, or has other capitals here."""
    if _WINDOWS.search(str(path)):
        return "a path of Windows, which leads nowhere here: write it relative to the table"
    if isinstance(path, StoredPath):
        return None
    spelling = _names_in(path.parent).get(path.name.casefold())
    return f"there is {spelling!r}: write it so" if spelling else None


@lru_cache(maxsize=16)
def _names_in(folder: Path) -> dict[str, str]:
    """The names in a folder, by themselves without capitals."""
    try:
        return {path.name.casefold(): path.name for path in folder.iterdir()}
    except OSError:
        return {}


def write_listing(listing: Listing, path: Path, parameters: Mapping[str, Any], *, renew: bool) -> None:
    """Write a listing as Parquet, and the cells that were left out into ``<name>.rejected.csv`` beside it.

    The table records the digest of that list, before the list is written: a file of that name that somebody else wrote is
    never replaced or removed.

    Parameters
    ----------
    listing
        What is written.
    path
        The table.
    parameters
        Recorded in it.
    renew
        Whether the table itself has to be written.

    Raises
    ------
    CytosaeError
        There is such a list already, of somebody else. Nothing is written.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    beside = rejected_path(path)
    lines = (
        listing.rejected.to_csv(index=False).encode(SPREADSHEET, "surrogateescape") if len(listing.rejected) else b""
    )
    wanted = [hashlib.sha256(lines).hexdigest()] if lines else []
    existing = sha256_file(beside) if beside.is_file() else None
    recorded = _own_digests(path)
    own = existing in recorded if recorded is not None else existing is not None and _is_rejected_list(beside)
    if lines and not own and existing not in (None, *wanted):
        raise foreign(beside, "cells")
    digests = [*wanted, *([existing] if existing is not None and own and existing not in wanted else [])]
    if renew or not {*digests} <= {*(recorded or [])}:
        write_cells(listing.cells, path, parameters, rejected=digests)
    if lines and existing not in wanted:
        with whole_file(beside) as temporary:
            temporary.write_bytes(lines)
    elif own and not lines:
        beside.unlink()


def rejected_path(path: Path) -> Path:
    """Where the cells are listed that a table leaves out.

    Examples
    --------
    >>> rejected_path(Path("cells.parquet")).name
    'cells.rejected.csv'
    """
    return path.with_name(f"{path.stem}.rejected.csv")


def _own_digests(path: Path) -> list[str] | None:
    """Digests of the lists of rejected cells that a table records; None for a table of an earlier version."""
    if not path.is_file():
        return []
    try:
        return provenance(path).get("rejected")
    except (pa.ArrowInvalid, ValueError):
        return []


def _is_rejected_list(path: Path) -> bool:
    """By its first line, as earlier versions recorded nothing."""
    with path.open("rb") as file:
        return file.readline().decode(SPREADSHEET, "replace").strip() == "cell_id,path,dataset,reason"
