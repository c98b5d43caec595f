"""Fill a token store: resumable, checksummed, shard by shard."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cytosae.artefacts import changes, digest, disk_errors, make_folder
from cytosae.backbones import INPUT_SIZE, Backbone, BackboneInfo
from cytosae.cells import decoded, write_cells
from cytosae.console import progress, say
from cytosae.errors import CytosaeError
from cytosae.settings import StoreConfig
from cytosae.tokens.live import embed_batch
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


def layout_of(info: BackboneInfo, config: StoreConfig | None = None) -> Layout:
    """The layout of a store of a backbone's tokens."""
    config = config or StoreConfig()
    about = json.loads(json.dumps(asdict(info)))  # as it will be read back: lists, no tuples
    return Layout(about, info.n_tokens, info.d_model, config.store_dtype, config.cells_per_shard, config.batch_size)


def embed(
    cells: pd.DataFrame, backbone: Backbone, folder: Path, layout: Layout, *, workers: int | None = None
) -> dict[str, Any]:
    """Write the tokens of all cells, or what is still missing of them.

    Shards that are there, whole and made from the same images by the same backbone are kept.

    Parameters
    ----------
    cells
        Listing of `cytosae.cells.list_cells`.
    backbone
        Makes the tokens.
    folder
        The store.
    layout
        See `layout_of`.
    workers
        Decoding processes.

    Returns
    -------
    Figures: cells, shards, shards made, bytes.

    Raises
    ------
    CytosaeError
        No permission, too little disk, an image that can no longer be read, tokens that are NaN.
    """
    make_folder(folder)
    ranges = [(i, min(i + layout.cells_per_shard, len(cells))) for i in range(0, len(cells), layout.cells_per_shard)]
    sources = [_source(cells, start, stop) for start, stop in ranges]
    shards = _kept(folder, layout, ranges, sources)
    missing = [index for index in range(len(ranges)) if index not in shards]
    needed = sum(ranges[i][1] - ranges[i][0] for i in missing) * layout.cell_bytes
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CytosaeError(
            f"{folder}: the tokens need {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free. Free some space, "
            "choose another disk, or run with --no-store."
        )
    with disk_errors(folder):
        write_manifest(folder, layout, _ordered(shards), complete=False)
        _make(cells, backbone, folder, layout, ranges, sources, shards, missing, workers)
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


def _source(cells: pd.DataFrame, start: int, stop: int) -> str:
    rows = cells.iloc[start:stop]
    return digest([rows["cell_id"].tolist(), rows["file_sha256"].tolist()])


def _kept(folder: Path, layout: Layout, ranges: list[tuple[int, int]], sources: list[str]) -> dict[int, Shard]:
    """The shards on disk that need not be made again, by number; says why others are made anew."""
    found = read_manifest(folder)
    if found is None:
        return {}
    before, shards, _ = found
    if reason := changes("setting", before.identity(), layout.identity()):
        say(f"tokens: all shards are made anew, {reason}")
        return {}
    kept: dict[int, Shard] = {}
    for shard in shards:
        index = shard.start // layout.cells_per_shard
        if index >= len(ranges) or ranges[index] != (shard.start, shard.stop) or shard.cells != sources[index]:
            say(f"tokens: {shard.file} is made anew, the images of its cells changed")
        elif why := damage(folder, shard):
            say(f"tokens: {shard.file} is made anew, {why}")
        else:
            kept[index] = shard
    return kept


def _make(
    cells: pd.DataFrame,
    backbone: Backbone,
    folder: Path,
    layout: Layout,
    ranges: list[tuple[int, int]],
    sources: list[str],
    shards: dict[int, Shard],
    missing: list[int],
    workers: int | None,
) -> None:
    # Batches never cross a shard, so a shard's bytes do not depend on where a run was stopped.
    batches = [
        np.arange(i, min(i + layout.batch_size, ranges[index][1]))
        for index in missing
        for i in range(ranges[index][0], ranges[index][1], layout.batch_size)
    ]
    ids = cells["cell_id"].tolist()
    done = len(cells) - sum(len(batch) for batch in batches)
    with (
        closing(decoded(cells["path"].tolist(), batches, INPUT_SIZE, workers)) as images,
        progress("tokens", len(cells), "cells", done) as bar,
    ):
        for index in missing:
            start, stop = ranges[index]
            tokens = torch.empty((stop - start, layout.n_tokens, layout.d_model), dtype=DTYPES[layout.dtype])
            for row in range(start, stop, layout.batch_size):
                end = min(row + layout.batch_size, stop)
                tokens[row - start : end - start] = embed_batch(backbone, next(images), ids[row:end], layout.dtype)
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
