"""What is done to each field or region of a slide, in any number of processes: red cells measured, cells found, cut out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cytosae.artefacts import whole_file
from cytosae.cells import REGION_WISE, Regions, UnreadableImage, WholeImage, intensities, open_regions
from cytosae.console import progress
from cytosae.engines import Engine, Tick, Work
from cytosae.errors import CytosaeError
from cytosae.fields.cutting import Box, cut_out
from cytosae.fields.detecting import Area, areas, find_in_area, find_in_tiles
from cytosae.fields.monolayer import covered, glass, measure_slide_scale, why_no_monolayer
from cytosae.fields.table import BOX
from cytosae.segmentation import FieldObject, RedCells, measure_scale
from cytosae.settings import FieldConfig

WORK_FILE = re.compile(r"(scale|found)-\d{6,}(-\d{6,})?\.parquet")
_BATCH = 500
"""Cells that are cut out of a field in one unit of work."""
_BESIDE = 2
"""Pixels that are read beyond the square that is cut out."""

Unit = tuple[str, str, str | None, float | None, Area | None]
"""Name of the file that is left, path, scaling of intensities, micrometres per pixel, region of a slide."""


def scales_of_files(engine: Engine, work: Path, fields: pd.DataFrame, config: FieldConfig) -> list[pd.DataFrame]:
    """Of each field ``stated, count, mpp, low, high``, see `cytosae.fields.scales.scales_of_fields`."""
    units: list[Unit] = [
        (f"scale-{number:06d}.parquet", path, scaling, None, None)
        for number, (path, scaling) in enumerate(zip(fields["path"].astype(str), intensities(fields), strict=True))
    ]
    return _made(engine, _Ruler(work, config), "scale", units)


def find_all(
    engine: Engine, work: Path, fields: pd.DataFrame, scales: pd.DataFrame, config: FieldConfig
) -> list[pd.DataFrame]:
    """What is found in each field, a row per object: `BOX`, ``score, reason, touching, at_border``."""
    units: list[Unit] = []
    owners: list[int] = []
    sizes = fields[["width", "height"]].astype(int).itertuples(index=False)
    rows = zip(fields["path"].astype(str), intensities(fields), scales["mpp"], sizes, region_wise(fields), strict=True)
    for number, (path, scaling, mpp, (width, height), large) in enumerate(rows):
        known = float(mpp) if np.isfinite(mpp) else None
        parts: list[Area | None] = [*areas(width, height, known)] if large and known else [None]
        for k, area in enumerate(parts):
            name = f"found-{number:06d}" + (f"-{k:06d}" if area else "") + ".parquet"
            units.append((name, path, scaling, known, area))
            owners.append(number)
    tables = _made(engine, _Finder(work, config), "found", units)
    grouped: list[list[pd.DataFrame]] = [[] for _ in range(len(fields))]
    for owner, table in zip(owners, tables, strict=True):
        grouped[owner].append(table)
    return [_together(own) for own in grouped]


def region_wise(fields: pd.DataFrame) -> list[bool]:
    """Which fields are read region by region."""
    return fields["file_note"].str.contains(REGION_WISE, regex=False, na=False).tolist()


def cut_all(engine: Engine, fields: pd.DataFrame, cells: pd.DataFrame, folder: Path, config: FieldConfig) -> int:
    """Cut out the cells whose image is not there yet: its name is a digest of all that it depends on."""
    finished = {path.name for path in (folder / "images").iterdir()} if (folder / "images").is_dir() else set()
    missing = cells[[Path(str(name)).name not in finished for name in cells["path"]]]
    known = dict(zip(fields["cell_id"], zip(fields["path"].astype(str), intensities(fields), strict=True), strict=True))
    units = [
        (*known[str(field)], own.iloc[k : k + _BATCH])
        for field, own in missing.groupby("field", sort=False)
        for k in range(0, len(own), _BATCH)
    ]
    with progress("fields: cut", len(cells), "cells", len(cells) - len(missing)) as bar:
        for _ in engine.map(_Cutter(folder, config), units, bar.advance):
            pass
    return len(missing)


@dataclass(frozen=True)
class _Ruler:
    """Measures red cells of fields, a factory for an engine."""

    folder: Path
    config: FieldConfig

    def __call__(self) -> Work:
        return self._work

    def _work(self, units: Iterable[Unit], tick: Tick) -> Iterator[str]:
        for name, path, scaling, _, _ in units:
            image = _opened(path, scaling)
            row = {"stated": np.nan if image.mpp is None else image.mpp, "count": 0}
            if image.mpp is None:
                red = self._red_cells(image, path)
                row |= {"count": red.count, "mpp": red.mpp}
                row["low"] = red.mpp * red.diameter / red.high if red.count else np.nan
                row["high"] = red.mpp * red.diameter / max(red.low, 1e-6) if red.count else np.nan
            _write(self.folder / name, pd.DataFrame([row], columns=["stated", "count", "mpp", "low", "high"]))
            tick(1)
            yield name

    def _red_cells(self, image: Regions, path: str) -> RedCells:
        if isinstance(image, WholeImage):
            return measure_scale(image.pixels)
        try:
            return measure_slide_scale(image, self.config)
        except UnreadableImage as reason:
            raise CytosaeError(f"{path}: {reason}. Give its scale in a column mpp, or leave it out.") from None


@dataclass(frozen=True)
class _Finder:
    """Finds the cells of fields and of regions of slides."""

    folder: Path
    config: FieldConfig

    def __call__(self) -> Work:
        return self._work

    def _work(self, units: Iterable[Unit], tick: Tick) -> Iterator[str]:
        slide: _OpenSlide | None = None  # the last one, from one region to the next
        for name, path, scaling, mpp, area in units:
            if mpp is None:
                table = _as_table([])
            elif area is None:
                image = _opened(path, scaling)
                table = _as_table(find_in_tiles(image.read(0, 0, image.width, image.height), mpp, self.config))
            else:
                slide = slide if slide is not None and slide.path == path else _OpenSlide(path)
                table = self._of_region(slide, mpp, area)
            _write(self.folder / name, table)
            tick(1)
            yield name

    def _of_region(self, slide: _OpenSlide, mpp: float, area: Area) -> pd.DataFrame:
        try:
            reason = why_no_monolayer(covered(slide.image, area, slide.light), self.config)
            if reason is None:
                return _as_table(find_in_area(slide.image, area, mpp, self.config))
        except UnreadableImage as failure:
            reason = str(failure)
        left, top, right, bottom = area
        row = (left, top, right - left, bottom - top, np.nan, reason, False, False)
        return _typed(pd.DataFrame([row], columns=_FOUND))


class _OpenSlide:
    """A slide that regions are read from, and the brightness of its bare glass."""

    def __init__(self, path: str) -> None:
        self.path, self.image = path, _opened(path, None)

    @cached_property
    def light(self) -> NDArray[np.float64]:
        return glass(self.image)


@dataclass(frozen=True)
class _Cutter:
    """Cuts cells out of fields; a unit is some cells of a field."""

    folder: Path
    config: FieldConfig

    def __call__(self) -> Work:
        return self._work

    def _work(self, units: Iterable[tuple[str, str | None, pd.DataFrame]], tick: Tick) -> Iterator[int]:
        for path, scaling, cells in units:
            image = _opened(path, scaling)
            for name, mpp, *box in cells[["path", "mpp", *BOX]].itertuples(index=False):
                x, y, width, height = (int(value) for value in box)
                pixels, near = _around(image, (x, y, width, height), float(mpp), self.config.window)
                cell = cut_out(pixels, near, float(mpp), self.config.window, self.config.pixels)
                with whole_file(self.folder / name, shared=True) as temporary:
                    Image.fromarray(cell).save(temporary, "PNG")
            tick(len(cells))
            yield len(cells)


def _around(image: Regions, box: Box, mpp: float, window: float) -> tuple[NDArray[np.uint8], Box]:
    """What is needed of an image to cut a cell out, and the cell's box in it."""
    if isinstance(image, WholeImage):
        return image.pixels, box
    half = int(np.ceil(window / mpp / 2)) + _BESIDE
    x, y = box[0] + box[2] // 2, box[1] + box[3] // 2
    left, top = max(0, min(x - half, box[0])), max(0, min(y - half, box[1]))
    right = min(image.width, max(x + half + 1, box[0] + box[2]))
    bottom = min(image.height, max(y + half + 1, box[1] + box[3]))
    try:
        pixels = image.read(left, top, right - left, bottom - top)
    except UnreadableImage as reason:
        raise CytosaeError(f"a cell at x {box[0]}, y {box[1]} cannot be read: {reason}. Leave its box out.") from None
    return pixels, (box[0] - left, box[1] - top, box[2], box[3])


def _made(engine: Engine, maker: Any, kind: str, units: list[Unit]) -> list[pd.DataFrame]:
    """The pieces of all units; those that an interrupted run left are not made again."""
    missing = [unit for unit in units if not (maker.folder / unit[0]).is_file()]
    with progress(f"fields: {kind}", len(units), "fields", len(units) - len(missing)) as bar:
        for _ in engine.map(maker, missing, bar.advance):
            pass
    return [pd.read_parquet(maker.folder / unit[0]) for unit in units]


_FOUND = [*BOX, "score", "reason", "touching", "at_border"]


def _as_table(objects: list[FieldObject]) -> pd.DataFrame:
    rows = [
        (x0, y0, x1 - x0, y1 - y0, one.score, one.reason, one.touching, one.at_border)
        for one in objects
        for x0, y0, x1, y1 in [one.box]
    ]
    return _typed(pd.DataFrame(rows, columns=_FOUND))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    kinds = {**dict.fromkeys(BOX, "int64"), "score": "float64", "reason": "string"}
    return table.astype({**kinds, "touching": "bool", "at_border": "bool"})


def _together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The objects of a slide's regions, from top to bottom."""
    if len(tables) == 1:
        return tables[0]
    return pd.concat(tables, ignore_index=True).sort_values(["y", "x"], kind="stable", ignore_index=True)


def _opened(path: str, scaling: str | None) -> Regions:
    try:
        return open_regions(path, scaling)
    except UnreadableImage as reason:
        raise CytosaeError(f"{path}: {reason}. It was readable when the fields were listed; run again.") from None


def _write(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path, shared=True) as temporary:
        table.to_parquet(temporary, index=False)
