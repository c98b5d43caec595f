"""Make a token store of tokens from elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cytosae.artefacts import digest, sha256_file
from cytosae.backbones import IMPORTED, BackboneInfo
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.settings import StoreConfig
from cytosae.tokens.foreign import Foreign, open_foreign
from cytosae.tokens.layout import DTYPES, IMPORTED_TYPE, Layout
from cytosae.tokens.writer import write_store

CLS = ("first", "none")


def import_tokens(
    source: Path,
    cells: pd.DataFrame,
    folder: Path,
    config: StoreConfig | None = None,
    *,
    layer: int | None = None,
    grid: str | None = None,
    cls: str | None = None,
    made_by: str | None = None,
) -> dict[str, Any]:
    """Write tokens of another program as a token store, batch by batch; an interrupted run goes on at the next shard.

    Row *i* of the source is row *i* of `cells`. Where there is no CLS, token 0 is the mean of the patches; one vector for a
    cell is its only patch, on a grid of 1 x 1.

    Parameters
    ----------
    source
        See `cytosae.tokens.foreign.open_foreign`.
    cells
        Listing of `cytosae.cells.list_cells`, in the order of the source.
    folder
        The store.
    config
        Precision and size of the shards.
    layer
        Layer to take of a folder of saev; of other files, the block after which the tokens were taken, for the record.
    grid
        Rows and columns of patches, such as ``16x16``; a square if None.
    cls
        ``first`` or ``none``; what the source or the number of tokens says if None.
    made_by
        The model that made the tokens. Tokens of one model, layer and width fit the same autoencoder. If None what saev
        recorded; other files are then known by their bytes, and fit none but an autoencoder trained on just them.

    Returns
    -------
    Figures of the store, and ``clipped``, the values that did not fit its precision.

    Raises
    ------
    CytosaeError
        Another number of cells, tokens that make no grid, NaN or infinite values, a damaged source.

    Notes
    -----
    No example: needs a store of tokens; the README embeds cells and reads them.
    """
    config = config or StoreConfig()
    foreign = open_foreign(source, layer)
    if foreign.n_cells != len(cells):
        raise CytosaeError(
            f"{source}: holds the tokens of {foreign.n_cells:,} cells, the table lists {len(cells):,}. Rows are "
            "matched by their order: give the table of just these cells."
        )
    has_cls, rows, columns = arrangement(foreign, cls, grid)
    known = made_by or foreign.made_by
    if known is None:
        say(f"tokens: {source} is identified by its bytes; --made-by NAME lets other imports of that model fit")
    info = BackboneInfo(
        name=f"{IMPORTED}{known or source.name}",
        source=str(source),
        revision=None,
        fingerprint=digest([IMPORTED_TYPE, known or _bytes(foreign), foreign.d_model]),
        model_type=IMPORTED_TYPE,
        d_model=foreign.d_model,
        depth=0,  # unknown, as all that is 0 here
        patch_size=0,
        image_size=0,
        grid=(rows, columns),
        n_tokens=1 + rows * columns,
        layer=foreign.layer if foreign.layer is not None else layer or 0,
        dtype="float32",
        mean=(),
        std=(),
    )
    about = json.loads(json.dumps(asdict(info)))
    layout = Layout(about, info.n_tokens, info.d_model, config.store_dtype, config.cells_per_shard, config.batch_size)
    clipping = _Clipping(DTYPES[layout.dtype])
    ids = cells["cell_id"].tolist()

    def read_batches(batches: Sequence[pd.DataFrame]) -> Generator[torch.Tensor, None, None]:
        for batch in batches:
            start, stop = int(batch.index[0]), int(batch.index[-1]) + 1
            yield clipping(_whole(foreign, start, stop, has_cls, ids))

    figures = write_store(cells, folder, layout, lambda: read_batches, foreign.stamp())
    if clipping.values:
        say(
            f"tokens: {clipping.values:,} values of {clipping.cells:,} cells are too large for {layout.dtype} and were "
            f"set to its largest, {clipping.largest:,.0f}; --store-dtype bfloat16 has room for them"
        )
    return {**figures, "grid": f"{rows}x{columns}", "cls": CLS[not has_cls], "clipped": clipping.values}


def _bytes(foreign: Foreign) -> str:
    """Digest of a file, or of all the files of a folder."""
    if foreign.files == (foreign.path,):
        return sha256_file(foreign.path)
    return digest([[path.name, sha256_file(path)] for path in foreign.files])


def arrangement(foreign: Foreign, cls: str | None, grid: str | None) -> tuple[bool, int, int]:
    """Whether token 0 is CLS, and rows and columns of the patches.

    A number of tokens is a square or one more than a square, never both, unless it is 1, a single vector without CLS.

    Raises
    ------
    CytosaeError
        The tokens make no such grid, or the source says otherwise.
    """
    if cls is not None and cls not in CLS:
        raise CytosaeError(f"--cls {cls}: unknown; choose one of {', '.join(CLS)}.")
    stated = None if cls is None else cls == CLS[0]
    if stated is not None and foreign.has_cls is not None and stated != foreign.has_cls:
        raise CytosaeError(f"--cls {cls}: {foreign.path} says that it is {CLS[not foreign.has_cls]!r}.")
    known = foreign.has_cls if stated is None else stated
    for has_cls in (True, False) if known is None else (known,):
        patches = foreign.n_tokens - has_cls
        side = math.isqrt(patches)
        rows, columns = _grid(grid) if grid else (side, side)
        if patches > 0 and rows * columns == patches:
            return has_cls, rows, columns
    raise CytosaeError(
        f"{foreign.path}: {foreign.n_tokens} tokens of a cell are not "
        f"{'CLS and ' if known else '' if known is False else 'a grid, nor CLS and '}a grid of patches"
        f"{f' of {grid}' if grid else ', which would be a square'}. Give --grid ROWSxCOLUMNS and --cls first or none; "
        "tokens between CLS and the patches (registers) have to be left out first."
    )


def _grid(text: str) -> tuple[int, int]:
    rows, cross, columns = text.lower().partition("x")
    if not cross or not rows.isdecimal() or not columns.isdecimal():
        raise CytosaeError(f"--grid {text}: expected rows and columns, such as 16x16.")
    return int(rows), int(columns)


def _whole(foreign: Foreign, start: int, stop: int, has_cls: bool, ids: list[str]) -> torch.Tensor:
    """Tokens of some rows in float32, token 0 included."""
    tokens = torch.from_numpy(foreign.read(start, stop).astype(np.float32))
    finite = torch.isfinite(tokens).flatten(1).all(1)
    if not bool(finite.all()):
        bad = start + int(finite.logical_not().nonzero()[0])
        raise CytosaeError(
            f"{foreign.path}: NaN or infinite values in row {bad}, cell {ids[bad]}. Correct them or leave the cell "
            "out, in both the source and the table."
        )
    return tokens if has_cls else torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)


class _Clipping:
    """Rounds tokens to the precision of a store, and counts the values that are beyond it."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self.largest = dtype, torch.finfo(dtype).max
        self.values = self.cells = 0

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        beyond = (tokens.abs() > self.largest).flatten(1)
        self.values += int(beyond.sum())
        self.cells += int(beyond.any(1).sum())
        return tokens.clamp(-self.largest, self.largest).to(self.dtype)
