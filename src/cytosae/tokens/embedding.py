"""Fill a token store from the images, through a backbone."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cytosae.artefacts import changes
from cytosae.backbones import INPUT_SIZE, Backbone, BackboneInfo
from cytosae.cells import decoded, readings
from cytosae.engines import Engine, LocalEngine, Partition
from cytosae.errors import CytosaeError
from cytosae.settings import StoreConfig
from cytosae.tokens.layout import Layout
from cytosae.tokens.live import embed_batch
from cytosae.tokens.writer import Make, write_store


def store_layout(info: BackboneInfo, config: StoreConfig | None = None, frame: str | None = None) -> Layout:
    """The layout of a store of a backbone's tokens; `frame` is how the images are framed (`cytosae.cells.frame_rule`).

    No example: needs a store of tokens; the README embeds cells and reads them.
    """
    config = config or StoreConfig()
    about = json.loads(json.dumps(asdict(info)))  # as it will be read back: lists, no tuples
    return Layout(
        about, info.n_tokens, info.d_model, config.store_dtype, config.cells_per_shard, config.batch_size, frame=frame
    )


@dataclass(frozen=True)
class _Embedding:
    """Loads the backbone and gives what makes tokens with it."""

    backbone: Backbone | Callable[[], Backbone]
    layout: Layout
    workers: int | None

    def __call__(self) -> Make:
        backbone = self.backbone() if callable(self.backbone) else self.backbone
        if reason := changes("backbone", self.layout.identity(), _like(self.layout, backbone.info).identity()):
            raise CytosaeError(f"{backbone.info.name}: is not the same on all machines, {reason}.")
        return partial(self._embed_batches, backbone)

    def _embed_batches(
        self, backbone: Backbone, batches: Sequence[pd.DataFrame]
    ) -> Generator[torch.Tensor, None, None]:
        paths = [path for batch in batches for path in batch["path"]]
        how = [reading for batch in batches for reading in readings(batch)]
        indices = np.split(np.arange(len(paths)), np.cumsum([len(batch) for batch in batches])[:-1])
        with closing(decoded(paths, indices, INPUT_SIZE, self.workers, how)) as images:
            for batch in batches:
                yield embed_batch(backbone, next(images), batch["cell_id"].tolist(), self.layout.dtype)


def _like(layout: Layout, info: BackboneInfo) -> Layout:
    """The layout with another backbone."""
    return store_layout(info, StoreConfig(layout.dtype, layout.cells_per_shard, layout.batch_size), layout.frame)


def embed(
    cells: pd.DataFrame,
    backbone: Backbone | Callable[[], Backbone],
    folder: Path,
    layout: Layout,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
    partition: Partition | None = None,
) -> dict[str, Any]:
    """Write the tokens of all cells, or what is still missing of them.

    Shards that are there, whole and made from the same images by the same backbone are kept.

    Parameters
    ----------
    cells
        Listing of `cytosae.cells.list_cells`.
    backbone
        Makes the tokens. For an engine of other processes something picklable that loads it.
    folder
        The store.
    layout
        See `store_layout`.
    workers
        Decoding processes, of each replica. If None one a core, and none beside a replica that is not the only one.
    engine, partition
        See `cytosae.tokens.writer.write_store`.

    Returns
    -------
    Figures: cells, shards, shards made, bytes.

    Raises
    ------
    CytosaeError
        No permission, too little disk, an image that can no longer be read, tokens that are NaN.

    Notes
    -----
    No example: needs a store of tokens; the README embeds cells and reads them.
    """
    if workers is None and engine is not None and not isinstance(engine, LocalEngine):
        workers = 0  # the replicas divide the cores
    return write_store(cells, folder, layout, _Embedding(backbone, layout, workers), engine=engine, partition=partition)
