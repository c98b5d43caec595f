"""Images of cells: found by data set and row of the study's own table, squashed as the backbone sees them."""

from __future__ import annotations

import base64
import io
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from cytosae.cells import Frame, Reading, UnreadableImage, load_squashed
from cytosae.cells.columns import FRAME_COLUMN
from cytosae.errors import CytosaeError, NotFound
from cytosae.explorer.caching import bounded
from cytosae.explorer.dataset import DataSet
from cytosae.explorer.reader import StudyReader
from cytosae.storage import below, resolve_path

SIZES = (64, 112, 224, 448)
"""Edges in pixels in which a cell is shown."""
_JPEG_BYTES = 96 * 2**20  # that are kept
_QUALITY = 88


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """An image ``(height, width, 3)`` as JPEG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def encoded(map_: ArrayLike, top: float) -> str:
    """A map as base64 of a byte per patch, 255 for `top`."""
    values = np.asarray(map_, np.float32)
    scaled = np.rint(values * (255 / top)) if top > 0 else np.zeros_like(values)
    return base64.b64encode(np.clip(scaled, 0, 255).astype(np.uint8).tobytes()).decode()


class CellImages:
    """The images of a study's cells.

    Parameters
    ----------
    reader
        The study. Where an image lies is known from its ``cells.parquet`` alone, so that a study can be moved, and no
        request can name a file.
    """

    def __init__(self, reader: StudyReader) -> None:
        self._folder = reader.folder
        self._jpeg = bounded(_JPEG_BYTES)(self._make_jpeg)

    @cached_property
    def _table(self) -> pa.Table:
        path = self._folder / "cells.parquet"
        try:
            known = {"cell_id", "path", "dataset", "file_intensity", FRAME_COLUMN} & set(pq.read_schema(path).names)
            return pq.read_table(path, columns=sorted(known))
        except (OSError, pa.ArrowInvalid) as error:
            raise CytosaeError(f"{path}: not a readable table of cells ({error}). Run the study again.") from error

    @cached_property
    def _rows(self) -> dict[str, NDArray[np.int64]]:
        names = self._table["dataset"].cast(pa.string())
        return {
            str(name): np.flatnonzero(pc.equal(names, name).to_numpy(zero_copy_only=False))
            for name in pc.unique(names).to_pylist()
            if name is not None
        }

    @cached_property
    def intensity(self) -> str | None:
        """The scaling of all of the study's images with more than 8 bits a channel; None where there are none."""
        if "file_intensity" not in self._table.column_names:
            return None
        used = [scaling for scaling in pc.unique(self._table["file_intensity"]).to_pylist() if scaling is not None]
        return used[0] if used else None

    @cached_property
    def usual_edge(self) -> float | None:
        """Edge of the median frame of the study's images, in pixels; None where they are shown whole."""
        if FRAME_COLUMN not in self._table.column_names:
            return None
        some = self._table[FRAME_COLUMN][:: max(1, len(self._table) // 1000)].to_pylist()
        frames = [Frame.parse(text) for text in some if text is not None]
        return float(np.median([frame.right - frame.left for frame in frames])) if frames else None

    def file(self, data: DataSet, row: int) -> tuple[Path, Reading]:
        """File of a cell, and how it becomes the cell's picture.

        Raises
        ------
        CytosaeError
            The table no longer has the cell.
        """
        data.check_row(row)
        rows = self._rows.get(data.name, np.array([], np.int64))
        (name,) = data.names([row])
        index = int(rows[row]) if row < len(rows) else -1
        if index < 0 or str(self._table["cell_id"][index].as_py()) != name:
            raise CytosaeError(f"{name}: no longer that row of cells.parquet. Run the study again.")
        scaling = self._table["file_intensity"][index].as_py() if self.intensity else None
        framed = FRAME_COLUMN in self._table.column_names
        text = self._table[FRAME_COLUMN][index].as_py() if framed else None
        reading = Reading(scaling, None if text is None else Frame.parse(text))
        return resolve_path(below(self._folder, str(self._table["path"][index].as_py()))), reading

    def pixels(self, data: DataSet, row: int, size: int) -> NDArray[np.uint8]:
        """A cell squashed to a square, ``(size, size, 3)``.

        Raises
        ------
        CytosaeError
            The file is gone or broken; names the cell and the reason.
        """
        path, reading = self.file(data, row)
        try:
            return load_squashed(path, size, reading)
        except UnreadableImage as reason:
            text = f"the image of cell {row} of {data.name} cannot be shown: {reason}."
            raise (CytosaeError(text) if path.exists() else NotFound(text)) from reason

    def jpeg(self, data: DataSet, row: int, size: int) -> bytes:
        """The same as JPEG; kept until the file changes."""
        path, _ = self.file(data, row)
        try:
            stat = path.stat()
            state = stat.st_size, stat.st_mtime_ns
        except (OSError, ValueError):
            state = -1, -1
        return self._jpeg(data, row, size, (path, *state))

    def _make_jpeg(self, data: DataSet, row: int, size: int, file: tuple[Path, int, int]) -> bytes:
        return jpeg(self.pixels(data, row, size))
