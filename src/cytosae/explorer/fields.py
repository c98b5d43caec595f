"""The fields that the cells of a study were cut out of, where `cytosae fields` made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cytosae.artefacts import MANIFEST, Manifest
from cytosae.cells import UnreadableImage, open_regions, read_table
from cytosae.errors import CytosaeError, NotFound
from cytosae.explorer.caching import bounded, once
from cytosae.explorer.dataset import DataSet
from cytosae.explorer.images import CellImages, jpeg
from cytosae.explorer.reader import StudyReader
from cytosae.fields import BOX, FIELDS, REJECTED
from cytosae.storage import StoredPath, resolve_path

_JPEG_BYTES = 64 * 2**20
_COLUMNS = ["field", *BOX, "mpp", "mpp_from", "touching", "at_border"]
_MOST_CONCEPTS = 20


@dataclass(frozen=True)
class Places:
    """Where the cells of a data set lie."""

    fields: pd.DataFrame
    """``cell_id`` (its name), ``path, width, height, file_intensity``, a row per field."""
    cells: pd.DataFrame
    """`BOX`, ``mpp, mpp_from, touching, at_border`` and ``index``, the field's number; a row per cell of the data set."""
    rejected: pd.DataFrame
    """`BOX`, ``reason`` and ``index``."""


class FieldImages:
    """The fields of a study.

    Parameters
    ----------
    reader
        The study.
    cell_images
        Its images: their folder is one that `cytosae fields` left.
    """

    def __init__(self, reader: StudyReader, cell_images: CellImages) -> None:
        self._reader, self._cell_images = reader, cell_images
        self._places: dict[str, Callable[[], Places | None]] = {}
        self._jpeg = bounded(_JPEG_BYTES)(self._make_jpeg)

    def has(self, name: str) -> bool:
        """Whether the cells of a data set have fields."""
        return self._find(name) is not None

    def places_of(self, name: str) -> Places:
        """Where the cells of a data set lie.

        Raises
        ------
        NotFound
            They were not cut out of fields.
        """
        places = self._find(name)
        if places is None:
            raise NotFound(f"{name}: its cells have no fields. Cut them out with `cytosae fields`.")
        return places

    def _find(self, name: str) -> Places | None:
        if name not in self._places:
            self._places[name] = once(lambda: self._read(self._reader.dataset(name)))
        return self._places[name]()

    def _read(self, data: DataSet) -> Places | None:
        table = self._reader.folder / "cells.parquet"
        if not {"field", *BOX} <= set(pq.read_schema(table).names) or not data.n_cells:
            return None
        path, _ = self._cell_images.file(data, 0)
        folder = path.parent.parent
        if isinstance(folder, StoredPath) or not (folder / MANIFEST).is_file():
            return None
        manifest = Manifest.load(folder)
        if manifest is None or manifest.stage != FIELDS:
            return None
        known = [name for name in _COLUMNS if name in pq.read_schema(table).names]
        cells = pq.read_table(table, columns=["cell_id", "dataset", *known]).to_pandas()
        cells = (
            cells[cells["dataset"].astype(str) == data.name]
            .reset_index(drop=True)
            .reindex(columns=["cell_id", *_COLUMNS])
        )
        from cytosae.fields import read_fields  # imports what finds cells

        fields = read_fields(folder)
        numbers = {str(field): k for k, field in enumerate(fields["cell_id"])}
        rejected = read_table(folder / REJECTED)
        rejected = rejected[rejected["field"].astype(str).isin(numbers.keys()) & rejected["x"].notna()]
        cells["index"], rejected = _numbered(cells, numbers), rejected.assign(index=_numbered(rejected, numbers))
        return Places(fields, cells, rejected)

    def field(self, name: str, index: int) -> dict[str, Any]:
        """A field's row in the listing.

        Raises
        ------
        NotFound
            There is none of that number.
        """
        fields = self.places_of(name).fields
        if not 0 <= index < len(fields):
            raise NotFound(f"field {index}: data set {name!r} has fields 0 to {len(fields) - 1}.")
        return dict(fields.iloc[index])

    def jpeg(self, name: str, index: int, size: int) -> bytes:
        """A field, reduced to a longest edge."""
        row = self.field(name, index)
        return self._jpeg(str(row["path"]), _text(row.get("file_intensity")), size, self._state(str(row["path"])))

    def _state(self, path: str) -> tuple[int, int]:
        try:
            stat = resolve_path(path).stat()
        except (OSError, ValueError):
            return -1, -1
        return stat.st_size, stat.st_mtime_ns

    def _make_jpeg(self, path: str, scaling: str | None, size: int, state: tuple[int, int]) -> bytes:
        try:
            image = open_regions(path, scaling)
            factor = max(1.0, max(image.width, image.height) / size)
            return jpeg(image.reduced(0, 0, image.width, image.height, factor))
        except UnreadableImage as reason:
            text = f"field {Path(path).name} cannot be shown: {reason}."
            raise (CytosaeError(text) if state[0] >= 0 else NotFound(text)) from reason


def boxes(table: pd.DataFrame) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height of each row."""
    return [(int(x), int(y), int(w), int(h)) for x, y, w, h in table[list(BOX)].itertuples(index=False)]


def largest_counts(data: DataSet, rows: NDArray[np.int64]) -> list[tuple[int, float]]:
    """The concepts with the largest mean count in some cells, common ones left out."""
    if not len(rows):
        return []
    counts, _ = data.activations(rows.tolist())
    means = np.asarray(counts.mean(axis=0)).ravel()
    means = np.where(data.concepts & ~data.common_latents, means, 0)
    order = np.argsort(-means, kind="stable")[:_MOST_CONCEPTS]
    return [(int(latent), float(means[latent])) for latent in order if means[latent] > 0]


def _numbered(table: pd.DataFrame, numbers: dict[str, int]) -> NDArray[np.int64]:
    return np.asarray(table["field"].astype(str).map(numbers).fillna(-1), np.int64)


def _text(value: Any) -> str | None:
    return None if value is None or pd.isna(value) else str(value)
