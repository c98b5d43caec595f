"""Fill a token store, from whatever makes the tokens: resumable, checksummed, shard by shard."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.artefacts import changes, digest, disk_errors, make_folder
from cytosae.cells import write_cells
from cytosae.console import progress, say
from cytosae.errors import CytosaeError
from cytosae.storage import StoredPath
from cytosae.tokens.store import (
    CELLS,
    DTYPES,
    Layout,
    Shard,
    damage,
    read_manifest,
    write_manifest,
    write_shard,
)

Make = Callable[[Sequence[NDArray[np.int64]]], Generator[torch.Tensor, None, None]]
"""Yields the tokens ``(n_cells, n_tokens, d_model)`` of each batch of rows, in the store's dtype."""


def fill(cells: pd.DataFrame, folder: Path, layout: Layout, make: Make, origin: str = "") -> dict[str, Any]:
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
    make
        Makes the tokens; called once, with the batches that are missing.
    origin
        A digest of what tokens are made from beside images and layout.

    Returns
    -------
    Figures: cells, shards, shards made, bytes.

    Raises
    ------
    CytosaeError
        No permission, too little disk, a folder with tokens of the other kind (embedded, imported), what `make` raises.
    """
    make_folder(folder)
    ranges = [(i, min(i + layout.cells_per_shard, len(cells))) for i in range(0, len(cells), layout.cells_per_shard)]
    sources = [_source(cells, start, stop, origin) for start, stop in ranges]
    changed = "its source or the images of its cells" if origin else "the images of its cells"
    shards = _kept(folder, layout, ranges, sources, changed)
    missing = [index for index in range(len(ranges)) if index not in shards]
    needed = sum(ranges[i][1] - ranges[i][0] for i in missing) * layout.cell_bytes
    free = math.inf if isinstance(folder, StoredPath) else shutil.disk_usage(folder).free
    if needed > free:
        raise CytosaeError(
            f"{folder}: the tokens need {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free. Free some space, "
            "choose another disk, or run with --no-store."
        )
    with disk_errors(folder):
        write_manifest(folder, layout, _ordered(shards), complete=False)
        _make(len(cells), make, folder, layout, ranges, sources, shards, missing)
        write_cells(cells, folder / CELLS)
        write_manifest(folder, layout, _ordered(shards), complete=True)
        _sweep(folder, {shard.file for shard in shards.values()})
    return {
        "cells": len(cells),
        "shards": len(ranges),
        "shards_made": len(missing),
        "bytes": len(cells) * layout.cell_bytes,
        "d_model": layout.d_model,
        "n_tokens": layout.n_tokens,
        "dtype": layout.dtype,
    }


def _source(cells: pd.DataFrame, start: int, stop: int, origin: str) -> str:
    rows = cells.iloc[start:stop]
    return digest([rows["cell_id"].tolist(), rows["file_sha256"].tolist(), *([origin] if origin else [])])


def _kept(
    folder: Path, layout: Layout, ranges: list[tuple[int, int]], sources: list[str], changed: str
) -> dict[int, Shard]:
    """The shards on disk that need not be made again, by number; says why others are made anew."""
    found = read_manifest(folder)
    if found is None:
        return {}
    before, shards, _ = found
    if before.command != layout.command:
        raise CytosaeError(
            f"{folder}: holds tokens of `cytosae {before.command}`; those of `cytosae {layout.command}` would take their "
            "place. Choose another folder, or remove this one."
        )
    if reason := changes("setting", before.identity(), layout.identity()):
        say(f"tokens: all shards are made anew, {reason}")
        return {}
    kept: dict[int, Shard] = {}
    for shard in shards:
        index = shard.start // layout.cells_per_shard
        if index >= len(ranges) or ranges[index] != (shard.start, shard.stop) or shard.cells != sources[index]:
            say(f"tokens: {shard.file} is made anew, {changed} changed")
        elif why := damage(folder, shard):
            say(f"tokens: {shard.file} is made anew, {why}")
        else:
            kept[index] = shard
    return kept


def _make(
    n_cells: int,
    make: Make,
    folder: Path,
    layout: Layout,
    ranges: list[tuple[int, int]],
    sources: list[str],
    shards: dict[int, Shard],
    missing: list[int],
) -> None:
    # Batches never cross a shard, so a shard's bytes do not depend on where a run was stopped.
    batches = [
        np.arange(i, min(i + layout.batch_size, ranges[index][1]))
        for index in missing
        for i in range(ranges[index][0], ranges[index][1], layout.batch_size)
    ]
    done = n_cells - sum(len(batch) for batch in batches)
    with closing(make(batches)) as made, progress("tokens", n_cells, "cells", done) as bar:
        for index in missing:
            start, stop = ranges[index]
            tokens = torch.empty((stop - start, layout.n_tokens, layout.d_model), dtype=DTYPES[layout.dtype])
            for row in range(start, stop, layout.batch_size):
                end = min(row + layout.batch_size, stop)
                tokens[row - start : end - start] = next(made)
                done += end - row
                bar.to(done)
            file = f"shard-{index:05d}.safetensors"
            shards[index] = Shard(file, start, stop, sources[index], write_shard(folder / file, tokens))
            write_manifest(folder, layout, _ordered(shards), complete=False)


def _ordered(shards: dict[int, Shard]) -> list[Shard]:
    return [shards[index] for index in sorted(shards)]


def _sweep(folder: Path, wanted: set[str]) -> None:
    """Remove shards that an earlier, larger set of cells left behind."""
    for path in folder.glob("shard-*.safetensors"):
        if path.name not in wanted:
            path.unlink()
