"""Tokens made on the fly, for a disk that is too small for a store."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.artefacts import digest
from cytosae.backbones import INPUT_SIZE, Backbone
from cytosae.cells import decoded, pixels_digest, readings
from cytosae.errors import CytosaeError
from cytosae.tokens.harmonisation import Harmonisation
from cytosae.tokens.layout import DTYPES, Layout

_CHUNK = 256  # batches handed to the decoding processes together


def embed_batch(backbone: Backbone, images: torch.Tensor, cell_ids: list[str], dtype: str) -> torch.Tensor:
    """Tokens of some images, rounded to the dtype of a store.

    Returns
    -------
    ``(n_cells, n_tokens, d_model)`` on the CPU.

    Raises
    ------
    CytosaeError
        A token is NaN or does not fit the dtype; names the cell.
    """
    tokens = backbone.tokens(images).to("cpu", DTYPES[dtype])
    finite = torch.isfinite(tokens).flatten(1).all(1)
    if not bool(finite.all()):
        bad = cell_ids[int(finite.logical_not().nonzero()[0])]
        raise CytosaeError(
            f"{bad}: backbone {backbone.info.name} gives tokens that are NaN or too large for {dtype}. "
            "Try --store-dtype bfloat16 or --dtype float32; if that does not help, check the weights."
        )
    return tokens


class LiveTokens:
    """Cells and a backbone with the face of a `TokenStore`: the same tokens, computed when they are read.

    Parameters
    ----------
    cells
        Listing of `cytosae.cells.list_cells`.
    load_backbone
        Called once, when the first token is asked for.
    layout
        Of the store that this stands in for; tokens are rounded to its dtype.
    workers
        Decoding processes.
    harmonisation
        Through which the tokens go; the cells have its column.
    """

    def __init__(
        self,
        cells: pd.DataFrame,
        load_backbone: Callable[[], Backbone],
        layout: Layout,
        workers: int | None = None,
        harmonisation: Harmonisation | None = None,
    ) -> None:
        self.harmonisation = harmonisation
        described = None if harmonisation is None else harmonisation.described()
        self.cells, self.layout, self.workers = cells, replace(layout, harmonisation=described), workers
        self._load_backbone = load_backbone

    @cached_property
    def backbone(self) -> Backbone:
        """Makes the tokens."""
        return self._load_backbone()

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.cells)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of images and backbone, which determine the tokens."""
        own: list[Any] = [pixels_digest(self.cells), self.layout.identity()]
        if self.harmonisation is not None:
            own += [self.harmonisation.digest, self.harmonisation.codes(self.cells).tolist()]
        return digest(own)

    def __reduce__(self) -> tuple[type[LiveTokens], tuple[Any, ...]]:
        # To a replica, which loads the backbone by itself; by default it decodes by itself too.
        return LiveTokens, (self.cells, self._load_backbone, self.layout, self.workers or 0, self.harmonisation)

    def verify(self, shards: Iterable[int] | None = None) -> None:
        """Nothing is stored, so nothing can be damaged."""

    def stream(self, batches: Iterable[NDArray[np.int64]], **_: int) -> Generator[torch.Tensor, None, None]:
        """Yield the tokens of each batch, in order; images are decoded ahead in worker processes."""
        source = iter(batches)
        paths = self.cells["path"].tolist()
        how = readings(self.cells)
        ids = self.cells["cell_id"].tolist()
        size = self.layout.batch_size
        codes = None if self.harmonisation is None else self.harmonisation.codes(self.cells)
        while chunk := list(islice(source, _CHUNK)):
            with closing(decoded(paths, chunk, INPUT_SIZE, self.workers, how)) as images:
                for batch in chunk:
                    pixels = next(images)
                    chunks = [
                        embed_batch(
                            self.backbone,
                            pixels[i : i + size],
                            [ids[c] for c in batch[i : i + size]],
                            self.layout.dtype,
                        )
                        for i in range(0, len(batch), size)
                    ]
                    tokens = torch.cat(chunks)
                    if self.harmonisation is not None and codes is not None:
                        tokens = self.harmonisation.apply(tokens, codes[batch])
                    yield tokens

    def close(self) -> None:
        """Nothing is open."""
