"""Fill a token store from the images, through a backbone."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.backbones import INPUT_SIZE, Backbone, BackboneInfo
from cytosae.cells import decoded
from cytosae.settings import StoreConfig
from cytosae.tokens.filling import fill
from cytosae.tokens.live import embed_batch
from cytosae.tokens.store import Layout


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

    def made(batches: Sequence[NDArray[np.int64]]) -> Generator[torch.Tensor, None, None]:
        paths, ids = cells["path"].tolist(), cells["cell_id"].tolist()
        with closing(decoded(paths, batches, INPUT_SIZE, workers)) as images:
            for batch in batches:
                yield embed_batch(backbone, next(images), [ids[row] for row in batch], layout.dtype)

    return fill(cells, folder, layout, made)
