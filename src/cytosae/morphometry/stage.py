"""``cytosae measure``: every cell of a listing, range by range; leaves ``measurements.parquet`` and ``places.parquet``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cytosae.artefacts import (
    MANIFEST,
    FileRecord,
    Manifest,
    claim,
    digest,
    disk_errors,
    remove_outdated,
    remove_work_files,
    sha256_file,
    whole_file,
    work_folder,
)
from cytosae.cells import UnreadableImage, decode, pixels_digest, readings
from cytosae.cells.images import read_bytes
from cytosae.cells.scales import stated_scales
from cytosae.console import progress, say
from cytosae.engines import Engine, LocalEngine, Tick, Work
from cytosae.errors import CytosaeError
from cytosae.morphometry.measuring import measure_cell
from cytosae.morphometry.names import MEASURED
from cytosae.morphometry.places import EDGE, LOOK_EDGE, LOOKS, look_map, place_map
from cytosae.segmentation import find_cell, read_tissues
from cytosae.segmentation.registry import FLAGS, MEASUREMENTS, SEGMENTED
from cytosae.storage import resolve_path

TABLE, PLACE_TABLE = "measurements.parquet", "places.parquet"
_RANGE = 256
_BATCH = 4096  # rows of a table that are in memory together
_RANGE_FILE = re.compile(r"part-\d{8,}\.parquet")
_PLACE, _LOOK = "places", "looks"


def measure_inputs(cells: pd.DataFrame) -> dict[str, str]:
    """Digests of what the measurements depend on: images, masks and scale.

    Raises
    ------
    CytosaeError
        A mask is missing.
    """
    masks = [None if pd.isna(mask) else _mask_digest(str(mask)) for mask in _column(cells, "mask")]
    return {"cells": pixels_digest(cells), "masks": digest(masks), "mpp": digest([*map(str, stated_scales(cells))])}


class Colours(Protocol):
    """Colours in which cells are measured, other than their own, such as `cytosae.harmonise.Recolouring`."""

    @property
    def digest(self) -> str:
        """Of all that it does."""

    def apply(self, image: NDArray[np.uint8], row: int) -> NDArray[np.uint8]:
        """The image of a cell in these colours, ``(height, width, 3)``."""

    def part(self, rows: range) -> Colours:
        """The same for some cells, one after the other."""


def measure_cells(
    cells: pd.DataFrame, folder: Path, *, engine: Engine | None = None, colours: Colours | None = None
) -> dict[str, Any]:
    """Find and measure the cell in the middle of every image; what is up to date is left, what was interrupted resumes.

    A mask that comes with the data (column ``mask``) is taken as it is. Areas in micrometres need a column ``mpp``.

    Parameters
    ----------
    cells
        Listing, see `cytosae.cells.read_cells`.
    folder
        Gets ``measurements.parquet``, a row per cell with `MEASUREMENTS`, ``segmented_by`` and ``segmentation_flags``;
        ``places.parquet``, its map of places; and the manifest.
    engine
        Who measures; this process if None.
    colours
        Those of the images, brought to another stain; as they are if None.

    Returns
    -------
    Numbers of cells: all, by how they were segmented, by flag; ``skipped``, and ``why`` it was not.

    Raises
    ------
    CytosaeError
        An image or mask that cannot be read, an ``mpp`` that is no positive number, a full disk.
    """
    engine = engine or LocalEngine()
    stated_scales(cells)
    inputs = measure_inputs(cells) | ({} if colours is None else {"colours": colours.digest})
    finished = Manifest.load(folder)
    reason = "not made yet" if finished is None else finished.why_stale(folder, {}, inputs)
    say(f"measure: {reason or 'up to date'}")
    if finished is not None and reason is None:
        remove_work_files(folder, _RANGE_FILE)
        return {**finished.summary, "skipped": True, "why": None}
    claim(folder, MEASURED, [TABLE, PLACE_TABLE])
    ranges = work_folder(folder, inputs)
    with disk_errors(folder):
        (folder / MANIFEST).unlink(missing_ok=True)
        starts = range(0, len(cells), _RANGE)
        missing = [start for start in starts if not _file(ranges, start).is_file()]
        rows = [range(start, min(start + _RANGE, len(cells))) for start in missing]
        with progress("measure", len(cells), "cells", len(cells) - sum(map(len, rows))) as bar:
            units = [(rows_of, cells.iloc[rows_of.start : rows_of.stop]) for rows_of in rows]
            for _ in engine.map(_Maker(ranges, colours), units, bar.advance):
                pass
        table = pa.concat_tables([pq.read_table(_file(ranges, start)) for start in starts])
        for name, columns in (
            (TABLE, table.drop_columns([_PLACE, _LOOK])),
            (PLACE_TABLE, table.select(["cell_id", _PLACE, _LOOK])),
        ):
            with whole_file(folder / name) as temporary:
                pq.write_table(columns, temporary, compression="zstd", write_page_checksum=True)
    summary = _summary(read_table(folder))
    outputs = {name: FileRecord.from_file(folder / name) for name in (TABLE, PLACE_TABLE)}
    remove_outdated(folder, MEASURED, outputs)
    Manifest(MEASURED, {}, inputs, outputs, summary).save(folder)
    remove_work_files(folder, _RANGE_FILE)
    return {**summary, "skipped": False, "why": reason}


@dataclass(frozen=True)
class _Maker:
    """Measures ranges of cells, a factory for an engine; a unit are rows and their part of the listing."""

    folder: Path
    colours: Colours | None

    def __call__(self) -> Work:
        return self._work

    def _work(self, units: Iterable[tuple[range, pd.DataFrame]], tick: Tick) -> Iterator[int]:
        for rows, cells in units:
            own = None if self.colours is None else self.colours.part(rows)
            table = pa.Table.from_pandas(measure_rows(cells, tick, own), preserve_index=False)
            with whole_file(_file(self.folder, rows.start), shared=True) as temporary:
                pq.write_table(table, temporary, compression="zstd")
            yield rows.start


def measure_rows(cells: pd.DataFrame, tick: Tick, colours: Colours | None = None) -> pd.DataFrame:
    """Measurements and maps of some cells of a listing, a row each; `tick` is called for every cell."""
    columns = zip(
        cells["cell_id"], cells["path"], _column(cells, "mask"), stated_scales(cells), readings(cells), strict=True
    )
    rows = []
    for row, (cell, path, mask, mpp, reading) in enumerate(columns):
        pixels = _pixels(str(path), reading.intensity)
        if colours is not None:
            pixels = colours.apply(pixels, row)
        tissues = None if pd.isna(mask) else _tissues(str(mask), pixels.shape[:2])
        segmented = find_cell(pixels, tissues=tissues)
        values: dict[str, Any] = {"cell_id": str(cell), **measure_cell(segmented, mpp)}
        values[SEGMENTED] = "colour" if tissues is None else "mask"
        values[FLAGS] = "|".join(segmented.flags)
        values[_PLACE], values[_LOOK] = (
            place_map(segmented, reading.frame).tobytes(),
            look_map(segmented, reading.frame).tobytes(),
        )
        rows.append(values)
        tick(1)
    return pd.DataFrame(rows).astype({m.name: np.float32 for m in MEASUREMENTS})


def _pixels(path: str, scaling: str | None) -> NDArray[np.uint8]:
    try:
        return np.asarray(decode(read_bytes(resolve_path(path)), scaling))
    except UnreadableImage as reason:
        raise CytosaeError(f"{path}: {reason}. It was readable when the cells were listed; list them again.") from None


def _mask_digest(path: str) -> str:
    try:
        return sha256_file(resolve_path(path))
    except OSError as reason:
        raise _bad_mask(path, reason.strerror) from None


def _bad_mask(path: str, reason: object) -> CytosaeError:
    return CytosaeError(
        f"{path}: the mask cannot be read: {reason}. Correct the column `mask` of the cells; `cytosae run "
        "--no-describe` leaves measuring out."
    )


def _tissues(path: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        return read_tissues(decode(read_bytes(resolve_path(path))), size)
    except UnreadableImage as reason:
        raise _bad_mask(path, reason) from None


def _column(cells: pd.DataFrame, name: str) -> list[Any]:
    return list(cells[name]) if name in cells else [None] * len(cells)


def read_table(folder: Path) -> pd.DataFrame:
    """``measurements.parquet``, indexed by ``cell_id``."""
    return pd.read_parquet(folder / TABLE).set_index("cell_id")


def read_measurements(folder: Path) -> pd.DataFrame:
    """What `measure_cells` left in a folder: a row per cell, indexed by ``cell_id``.

    Raises
    ------
    CytosaeError
        No finished measurements, or a file that was changed since.
    """
    _finished(folder)
    return read_table(folder)


def read_places(folder: Path, cells: Iterable[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Maps of places ``(n_cells, EDGE, EDGE)`` and of looks ``(n_cells, len(LOOKS), LOOK_EDGE, LOOK_EDGE)`` of some cells.

    Cells are named by ``cell_id``; one that was not measured has zeros.
    """
    _finished(folder)
    names = [*cells]
    known, parts = pa.array(sorted(set(names)), pa.string()), []
    for batch in pq.ParquetFile(folder / PLACE_TABLE).iter_batches(_BATCH):  # all maps of a large study are a gigabyte
        parts.append(batch.filter(pc.is_in(batch["cell_id"].cast(pa.string()), known)))
    wanted = pa.Table.from_batches(parts).to_pandas().set_index("cell_id").reindex(names)
    shapes = {_PLACE: (EDGE, EDGE), _LOOK: (len(LOOKS), LOOK_EDGE, LOOK_EDGE)}
    maps = []
    for name, shape in shapes.items():
        nothing = bytes(int(np.prod(shape)))
        raw = b"".join(one if isinstance(one, bytes) else nothing for one in wanted[name])
        maps.append(np.frombuffer(raw, np.uint8).reshape(len(wanted), *shape))
    return maps[0], maps[1]


def _finished(folder: Path) -> Manifest:
    manifest = Manifest.load(folder)
    if manifest is None or manifest.stage != MEASURED:
        raise CytosaeError(f"{folder}: no measurements there. Make them with `cytosae measure CELLS -o {folder}`.")
    for name in (TABLE, PLACE_TABLE):
        manifest.check_output(folder, name, "Measure the cells again.")
    return manifest


def _summary(table: pd.DataFrame) -> dict[str, Any]:
    flags = table[FLAGS].str.split("|").explode()
    return {
        "cells": len(table),
        "segmented": {str(k): int(v) for k, v in table[SEGMENTED].value_counts().items()},
        "flagged": int((table[FLAGS] != "").sum()),
        "flags": {str(k): int(v) for k, v in flags[flags != ""].value_counts().items()},
        "with_scale": int(table["cell_area_um2"].notna().sum()),
        "with_red_cells": int((table["red_cells"] > 0).sum()),
    }


def _file(ranges: Path, start: int) -> Path:
    return ranges / f"part-{start:08d}.parquet"
