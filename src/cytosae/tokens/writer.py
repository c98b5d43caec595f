"""Writes a token store from what makes the tokens: resumable, checksummed, shard by shard, by any number of processes."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cytosae.artefacts import (
    LEDGER,
    MANIFEST,
    changes,
    claim,
    digest,
    disk_errors,
    own_files,
    remove_outdated,
    whole_name,
)
from cytosae.cells import image_digests, read_cells, write_cells
from cytosae.console import progress, say
from cytosae.engines import Engine, LocalEngine, Partition, Tick, Work
from cytosae.errors import CytosaeError
from cytosae.storage import StoredPath
from cytosae.tokens.earlier import Earlier, Place, remove_earlier, set_aside, take_over
from cytosae.tokens.layout import DTYPES, Layout
from cytosae.tokens.store import (
    CELLS,
    RECORD,
    Shard,
    damage,
    read_manifest,
    read_records,
    write_manifest,
    write_record,
    write_shard,
)

Make = Callable[[Sequence[pd.DataFrame]], Generator[torch.Tensor, None, None]]
"""Yields the tokens ``(n_cells, n_tokens, d_model)`` of each batch of cells, in the store's dtype. The index of a batch are
rows of the store."""


@dataclass(frozen=True)
class _ShardPlan:
    """A shard as it has to be."""

    index: int
    start: int
    stop: int
    source: str
    """Digest of what it is made from."""

    @property
    def file(self) -> str:
        return f"shard-{self.index:05d}.safetensors"

    @property
    def note(self) -> str:
        """What is noted beside the shard."""
        return f"{Path(self.file).stem}{RECORD}"

    def is_current(self, shard: Shard | None) -> bool:
        """Whether a shard that is there covers the same rows, made from the same."""
        return shard is not None and (shard.start, shard.stop, shard.cells) == (self.start, self.stop, self.source)


_Unit = tuple[_ShardPlan, pd.DataFrame, list[Place | None]]
"""A shard as planned, its cells, and where the tokens of those are that need not be made."""


@dataclass(frozen=True)
class _ShardMaker:
    """Makes shards; a factory for an engine."""

    folder: Path
    layout: Layout
    load: Callable[[], Make]

    def __call__(self) -> Work:
        return partial(self._work, self.load())

    def _work(self, make: Make, units: Iterable[_Unit], tick: Tick) -> Iterator[Shard]:
        layout, planned = self.layout, list(units)
        batches = _batches(planned, layout.batch_size)
        waiting: dict[int, torch.Tensor] = {}  # tokens of the next shards, less than a batch of them
        with closing(make(batches)) as made:
            left = iter(batches)
            for plan, cells, places in planned:
                tokens = torch.empty((len(cells), layout.n_tokens, layout.d_model), dtype=DTYPES[layout.dtype])
                tick(take_over(self.folder, places, tokens))
                for row, origin in zip(cells.index.tolist(), places, strict=True):
                    if origin is None:
                        while row not in waiting:
                            fresh = dict(zip(next(left).index.tolist(), next(made), strict=True))
                            tick(len(fresh))
                            waiting |= fresh
                        tokens[row - plan.start] = waiting.pop(row)
                with disk_errors(self.folder):
                    record = write_shard(self.folder / plan.file, tokens)
                    shard = Shard(plan.file, plan.start, plan.stop, plan.source, record)
                    write_record(self.folder, layout, shard)
                yield shard


def _batches(units: Sequence[_Unit], batch_size: int) -> list[pd.DataFrame]:
    """The cells whose tokens have to be made, in batches, by the first of their rows.

    Rounding depends on how many images pass the backbone together. So each cell is in a batch as large as that of a store
    in which nothing is taken over, whatever else is in it; the last one is filled up with its last image. A shard's bytes
    depend neither on where a run was stopped, nor on who makes it, nor on what is taken over.
    """
    whole_batches: list[pd.DataFrame] = []
    batches: list[pd.DataFrame] = []
    for _, cells, places in units:
        missing = np.array([origin is None for origin in places])
        whole = len(cells) // batch_size * batch_size
        whole_batches.append(cells[:whole][missing[:whole]])
        if whole < len(cells) and missing[whole:].any():
            batches.append(_filled_up(cells[whole:][missing[whole:]], len(cells) - whole))
    full = pd.concat(whole_batches) if whole_batches else pd.DataFrame()
    batches += [_filled_up(full[i : i + batch_size], batch_size) for i in range(0, len(full), batch_size)]
    return sorted(batches, key=lambda batch: int(batch.index[0]))


def _filled_up(batch: pd.DataFrame, size: int) -> pd.DataFrame:
    return batch if len(batch) == size else pd.concat([batch, *[batch.tail(1)] * (size - len(batch))])


def write_store(
    cells: pd.DataFrame,
    folder: Path,
    layout: Layout,
    load: Callable[[], Make],
    origin: str = "",
    *,
    engine: Engine | None = None,
    partition: Partition | None = None,
) -> dict[str, Any]:
    """Write the tokens of all cells, or what is still missing of them.

    Shards that are there, whole and made from the same images in the same way are kept.

    Parameters
    ----------
    cells
        Listing of `cytosae.cells.list_cells`.
    folder
        The store.
    layout
        What all its shards have in common.
    load
        Gives what makes the tokens; called once in every replica of the engine, if anything is missing.
    origin
        A digest of what tokens are made from beside images and layout.
    engine
        Who makes the shards; this process if None.
    partition
        Make only the missing shards of this partition, and do not finish the store: the others may be making theirs.

    Returns
    -------
    Figures: cells, shards, shards made, bytes.

    Raises
    ------
    CytosaeError
        No permission, too little disk, a folder with tokens of the other kind (embedded, imported), what `load` and `Make`
        raise.
    """
    engine, cells = engine or LocalEngine(), cells.reset_index(drop=True)
    plans = _plans(cells, layout, origin)
    own_plans = [plan for plan in plans if partition is None or partition.has(plan.index)]
    _refuse_other_kind(folder, layout)
    _claim(folder, plans)
    noted = _noted_shards(folder, layout)
    changed = "its source or the images of its cells" if origin else "the images of its cells"
    shards = _usable_shards(folder, noted, own_plans, changed)
    missing = [plan for plan in own_plans if plan.index not in shards]
    needed = sum(plan.stop - plan.start for plan in missing) * layout.cell_bytes
    free = math.inf if isinstance(folder, StoredPath) else shutil.disk_usage(folder).free
    if needed > free:
        raise CytosaeError(
            f"{folder}: the tokens need {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free. Free some space, "
            "choose another disk, or run with --no-store."
        )
    with disk_errors(folder):
        if partition is None:
            write_manifest(folder, layout, _ordered(shards), complete=False)
        elif missing and not _begun(folder, layout):
            # The other partitions write the same, once; what is made from now on is noted beside each shard.
            write_manifest(folder, layout, _ordered(noted), complete=False)
        earlier = Earlier({})
        if partition is None and missing and not origin and not isinstance(folder, StoredPath):
            earlier = _set_aside(folder, noted, shards, layout)
        total = sum(plan.stop - plan.start for plan in own_plans)
        done = total - sum(plan.stop - plan.start for plan in missing)
        with progress("tokens", total, "cells", done) as bar:
            read_columns = cells[["cell_id", "path", *(c for c in ("file_intensity", "file_frame") if c in cells)]]
            digests = image_digests(cells) if earlier.places else []
            units: list[_Unit] = [
                (
                    plan,
                    read_columns.iloc[plan.start : plan.stop],
                    earlier.places_of(digests[plan.start : plan.stop], layout.batch_size)
                    if earlier.places
                    else [None] * (plan.stop - plan.start),
                )
                for plan in missing
            ]
            if known := sum(place is not None for _, _, places in units for place in places):
                say(f"tokens: of {known:,} cells in these shards the images are unchanged, their tokens are taken over")
            for shard in engine.map(_ShardMaker(folder.absolute(), layout, load), units, bar.advance):
                shards[shard.start // layout.cells_per_shard] = shard
        if partition is None:
            write_cells(cells, folder / CELLS)
            # First what the notes say, then without them: whoever is killed between leaves a store that is finished soon.
            write_manifest(folder, layout, _ordered(shards), complete=False)
            remove_earlier(folder)
            _remove_leftovers(folder, {shard.file for shard in shards.values()}, noted.values())
            write_manifest(folder, layout, _ordered(shards), complete=True)
        else:
            say(f"tokens: partition {partition} is made; the same command without --shard finishes the store")
    return {
        "cells": len(cells),
        "shards": len(plans),
        "shards_made": len(missing),
        "bytes": len(cells) * layout.cell_bytes,
        "d_model": layout.d_model,
        "n_tokens": layout.n_tokens,
        "dtype": layout.dtype,
    }


def _plans(cells: pd.DataFrame, layout: Layout, origin: str) -> list[_ShardPlan]:
    step = layout.cells_per_shard
    ranges = [(start, min(start + step, len(cells))) for start in range(0, len(cells), step)]
    return [_ShardPlan(index, *ends, _source(cells, *ends, origin)) for index, ends in enumerate(ranges)]


def _source(cells: pd.DataFrame, start: int, stop: int, origin: str) -> str:
    rows = cells.iloc[start:stop]
    return digest([rows["cell_id"].tolist(), image_digests(rows), *([origin] if origin else [])])


def _refuse_other_kind(folder: Path, layout: Layout) -> None:
    stored = read_manifest(folder)
    if stored is not None and stored[0].command != layout.command:
        raise CytosaeError(
            f"{folder}: holds tokens of `cytosae {stored[0].command}`; those of `cytosae {layout.command}` would "
            "replace them. Choose another folder, or remove this one."
        )


def _claim(folder: Path, plans: list[_ShardPlan]) -> None:
    """Claim shards and their notes; earlier versions named in the manifest only those shards that have no note any more."""
    listing = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    noted = [plan.file for plan in plans if plan.note in listing]
    files, notes = [plan.file for plan in plans], [plan.note for plan in plans]
    claim(folder, "tokens", [CELLS, *files, *notes], unnamed=[CELLS, *noted, *notes])


def _noted_shards(folder: Path, layout: Layout) -> dict[int, Shard]:
    """The shards of this layout that are noted on disk, by number; says why others are of no use."""
    noted = read_manifest(folder)
    shards = read_records(folder, layout)
    if noted is not None:
        before, listed, _ = noted
        if reason := changes("setting", before.identity(), layout.identity()):
            say(f"tokens: all shards are made anew, {reason}")
        else:
            shards = [*listed, *shards]  # a note beside a shard is newer than the manifest
    return {shard.start // layout.cells_per_shard: shard for shard in shards}


def _begun(folder: Path, layout: Layout) -> bool:
    """Whether the manifest there is of an unfinished store of this layout."""
    noted = read_manifest(folder)
    return noted is not None and noted[0].identity() == layout.identity() and not noted[2]


def _usable_shards(folder: Path, noted: dict[int, Shard], plans: list[_ShardPlan], changed: str) -> dict[int, Shard]:
    """Of the shards found those that need not be made again; says why others are made anew."""
    usable: dict[int, Shard] = {}
    for plan in plans:
        shard = noted.get(plan.index)
        if shard is None:
            continue
        if not plan.is_current(shard):
            say(f"tokens: {shard.file} is made anew, {changed} changed")
        elif why := damage(folder, shard):
            say(f"tokens: {shard.file} is made anew, {why}")
        else:
            usable[plan.index] = shard
    return usable


def _set_aside(folder: Path, noted: dict[int, Shard], current: dict[int, Shard], layout: Layout) -> Earlier:
    """Keep the whole shards that will be replaced, where it is known from which images they were made."""
    if not (folder / CELLS).is_file():
        return Earlier({})
    before = read_cells(folder / CELLS)
    known = [
        shard
        for index, shard in noted.items()
        if index not in current
        and shard.stop <= len(before)
        and shard.cells == _source(before, shard.start, shard.stop, "")
        and damage(folder, shard) is None
    ]
    return set_aside(folder, known, before, layout.batch_size)


def _ordered(shards: dict[int, Shard]) -> list[Shard]:
    return [shards[index] for index in sorted(shards)]


def _remove_leftovers(folder: Path, wanted: set[str], noted: Iterable[Shard]) -> None:
    """Remove the notes beside shards, what killed processes left behind, and shards of an earlier, larger set of cells."""
    files = own_files(folder, "tokens")
    for path in folder.iterdir():
        left_behind = whole_name(path.name) != path.name and whole_name(path.name) in {*files, MANIFEST, LEDGER}
        if left_behind or (path.suffix == RECORD and path.name in files):
            path.unlink(missing_ok=True)
    remove_outdated(folder, "tokens", {CELLS, *wanted}, {shard.file: shard.record for shard in noted})
