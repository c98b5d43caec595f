"""Tokens of images that were in the store before: taken over where the list of cells has changed, not made again.

The tokens of an image depend on how many images pass the backbone together, but not on which ones: a batch of other
images and the same size gives the same bits. So tokens are taken over from a batch of the same size only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open

from cytosae.artefacts import claim, own_files
from cytosae.cells import image_digests
from cytosae.tokens.store import Shard

EARLIER = "earlier-"
"""What the name of a shard begins with while tokens are taken over from it."""

Place = tuple[str, int]
"""File and row in it."""


def size_of_batch(row: int, count: int, batch_size: int) -> int:
    """How many images pass the backbone together with one of a shard.

    Examples
    --------
    >>> [size_of_batch(row, 10, 4) for row in (0, 7, 8, 9)]
    [4, 4, 2, 2]
    """
    return min(batch_size, count - row // batch_size * batch_size)


@dataclass(frozen=True)
class Earlier:
    """What can be taken over, by what determines an image's pixels and the size of its batch."""

    places: Mapping[tuple[str, int], Place]

    def places_of(self, images: list[str], batch_size: int) -> list[Place | None]:
        """Where the tokens of the images of a shard are, None where they have to be made."""
        sizes = (size_of_batch(row, len(images), batch_size) for row in range(len(images)))
        return [self.places.get(key) for key in zip(images, sizes, strict=True)]


def set_aside(folder: Path, shards: Iterable[Shard], cells: pd.DataFrame, batch_size: int) -> Earlier:
    """Rename whole shards that are about to be replaced, so that tokens can be taken over from them.

    Parameters
    ----------
    folder
        The store.
    shards
        Made from the rows of `cells` that they name.
    cells
        The earlier listing.
    batch_size
        Images that pass the backbone together.
    """
    shards, images = list(shards), image_digests(cells)
    claim(folder, "tokens", [EARLIER + shard.file for shard in shards])
    places: dict[tuple[str, int], Place] = {}
    for shard in shards:
        name, count = EARLIER + shard.file, shard.stop - shard.start
        (folder / shard.file).replace(folder / name)
        for row, image in enumerate(images[shard.start : shard.stop]):
            places.setdefault((image, size_of_batch(row, count, batch_size)), (name, row))
    return Earlier(places)


def take_over(folder: Path, places: list[Place | None], tokens: torch.Tensor) -> int:
    """Fill the rows of `tokens` ``(n_cells, n_tokens, d_model)`` that are there already; how many these are."""
    by_file: dict[str, list[tuple[int, int]]] = {}
    for row, origin in enumerate(places):
        if origin is not None:
            by_file.setdefault(origin[0], []).append((row, origin[1]))
    for name, rows in by_file.items():
        with safe_open(folder / name, "pt") as file:
            stored = file.get_slice("tokens")
            for row, there in rows:
                tokens[row] = stored[there : there + 1][0]
    return sum(map(len, by_file.values()))


def remove_earlier(folder: Path) -> None:
    """Remove what was set aside, also by a process that was killed."""
    for name in own_files(folder, "tokens"):
        if name.startswith(EARLIER):
            (folder / name).unlink(missing_ok=True)
