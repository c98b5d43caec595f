"""The frames of a listing: which square of each image is shown, by one rule for all cells."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells.columns import FRAME_COLUMN
from cytosae.cells.decoding import ahead
from cytosae.cells.framing import Frame
from cytosae.cells.images import UnreadableImage, decode, read_bytes
from cytosae.cells.scales import stated_scales
from cytosae.cells.table import image_digests, intensities
from cytosae.errors import CytosaeError
from cytosae.segmentation import NUCLEATED_DIAMETER, RED_CELL_DIAMETER, Ruler, find_cell, scale_of_cells
from cytosae.settings import FrameConfig
from cytosae.storage import resolve_path

SAMPLE = 200
"""Images of a data set in which red cells are measured."""
_CHUNK = 16
_FEW, _PLAUSIBLE = 3, (0.35, 1.0)
"""Red cells that give an image alone a scale, and their diameters in edges of its nucleated cell."""


class CellLook(NamedTuple):
    """What is seen of the cell in the middle of an image, in its pixels."""

    left: float
    top: float
    right: float
    bottom: float
    """NaN where no nucleus is found."""
    red_cells: int
    red_diameter: float

    @property
    def edge(self) -> float:
        """The longer edge of the cell."""
        return max(self.right - self.left, self.bottom - self.top)


NOTHING = CellLook(np.nan, np.nan, np.nan, np.nan, 0, np.nan)
"""Of an image that is too small to look at."""


def look_at_cell(pixels: NDArray[np.uint8]) -> CellLook:
    """Find the nucleated cell in the middle of an image ``(height, width, 3)``, and red cells around it."""
    cell = find_cell(pixels)
    red = cell.red_cells
    if cell.box is None or "no nucleus" in cell.flags:
        return NOTHING._replace(red_cells=red.count, red_diameter=red.diameter)
    left, top, right, bottom = cell.box
    return CellLook(left, top, right, bottom, red.count, red.diameter)


def frame_of_cell(look: CellLook, size: tuple[int, int], config: FrameConfig, edge: float) -> Frame:
    """The frame of ``--frame cell`` around a cell.

    Parameters
    ----------
    size
        Width and height of the image.
    edge
        Edge of a cell in its place where none was found, in pixels: then the frame is in the middle of the image.
    """
    share = 1 + 2 * config.frame_margin
    if np.isnan(look.left):
        return Frame.square(str(config.rule), size[0] / 2, size[1] / 2, edge * share)
    middle = (look.left + look.right) / 2, (look.top + look.bottom) / 2
    return Frame.square(str(config.rule), *middle, look.edge * share)


def with_frames(
    cells: pd.DataFrame,
    config: FrameConfig,
    previous: pd.DataFrame | None = None,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """A listing with the column ``file_frame``, and a sentence on each scale and on cells without a nucleus.

    Parameters
    ----------
    cells
        Readable ones, with ``width`` and ``height``.
    config
        Settings; ``asis`` leaves the listing without the column.
    previous
        An earlier listing: of images that are the same, the cell is not looked for again.
    workers
        Processes; what is found does not depend on them.
    on_progress
        Called with the number of cells looked at and the number of all.

    Raises
    ------
    CytosaeError
        No scale for ``um``; an image that can no longer be read; an ``mpp`` that is none.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    plain = cells.drop(columns=FRAME_COLUMN, errors="ignore")
    if config.rule is None:
        return plain, []
    make = _of_one_size if config.frame == "um" else _around_cells
    frames, remarks = make(plain, config, previous, workers, on_progress or (lambda done, total: None))
    return plain.assign(**{FRAME_COLUMN: pd.array([str(frame) for frame in frames], dtype="string")}), remarks


def _of_one_size(
    cells: pd.DataFrame, config: FrameConfig, previous: Any, workers: int | None, show: Callable[[int, int], None]
) -> tuple[list[Frame], list[str]]:
    """The square of so many micrometres in the middle of each image."""
    stated = [config.mpp] * len(cells) if config.mpp else stated_scales(cells)
    scales = np.array([np.nan if scale is None else scale for scale in stated])
    remarks, names = [], cells["dataset"].astype(str).to_numpy()
    without = [name for name in dict.fromkeys(names) if np.isnan(scales[names == name]).any()]
    for number, name in enumerate(without):
        rows = np.flatnonzero((names == name) & np.isnan(scales))
        drawn = np.sort(np.random.default_rng(15).permutation(rows)[:SAMPLE])
        looks = _looks(cells.iloc[drawn], workers, partial(_shown_after, show, number * SAMPLE, len(without) * SAMPLE))
        scales[rows], remark = _measured(name, looks, config.ruler)
        remarks.append(remark)
    centres = zip(cells["width"], cells["height"], scales, strict=True)
    return [Frame.square(str(config.rule), w / 2, h / 2, config.frame_um / mpp) for w, h, mpp in centres], remarks


def _shown_after(show: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    show(before + done, total)


def _measured(name: str, looks: list[CellLook], by: str) -> tuple[float, str]:
    """Micrometres per pixel of a data set, and a sentence on it."""
    ruler = ruler_of(looks, by)
    if ruler is None:
        raise CytosaeError(
            f"--frame um: {name} has no column 'mpp', and neither red cells nor nucleated cells were found in "
            f"{len(looks)} of its images. Give --mpp (micrometres per pixel) or a column mpp."
        )
    scale = f"{ruler.mpp:.3g} micrometres per pixel ({ruler.low:.3g} to {ruler.high:.3g})"
    if ruler.source == "red cells":
        return ruler.mpp, f"{name}: {scale}, from {ruler.count} red cells"
    why = "" if by == "nucleated" else "too few whole red cells for a scale; "
    return ruler.mpp, (
        f"{name}: {why}{scale} if its median nucleated cell has {NUCLEATED_DIAMETER:g} "
        "micrometres. Give --mpp or a column mpp if you know better"
    )


def frame_of_one(image: Image.Image, config: FrameConfig, usual: float | None) -> tuple[Frame | None, str | None]:
    """The frame of an image that comes alone, and what was done where it says too little.

    Parameters
    ----------
    image
        RGB.
    config
        How the images of the study are framed.
    usual
        Edge of the study's median frame, in pixels.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    if config.rule is None:
        return None, None
    shorter, middle = float(min(image.size)), (image.size[0] / 2, image.size[1] / 2)
    look = look_at_cell(np.asarray(image)) if shorter >= 8 else NOTHING
    if config.frame == "cell":
        frame = frame_of_cell(look, image.size, config, shorter / (1 + 2 * config.frame_margin))
        lost = "no nucleus was found in the middle; the largest square of the image is shown"
        return frame, lost if np.isnan(look.left) else None
    if (
        config.ruler == "red"
        and look.red_cells >= _FEW
        and _PLAUSIBLE[0] < look.red_diameter / look.edge < _PLAUSIBLE[1]
    ):
        return Frame.square(str(config.rule), *middle, config.frame_um * look.red_diameter / RED_CELL_DIAMETER), None
    edge = usual or shorter
    return (
        Frame.square(str(config.rule), *middle, edge),
        f"it has no scale of its own; the middle {edge:.0f} pixels are shown, as of the study's images",
    )


def ruler_of(looks: list[CellLook], by: str) -> Ruler | None:
    """The scale of some images of one laboratory; `by` is `cytosae.settings.FrameConfig.ruler`."""
    return scale_of_cells(
        np.array([look.edge for look in looks]),
        np.array([look.red_cells if by == "red" else 0 for look in looks]),
        np.array([look.red_diameter for look in looks]),
    )


def _around_cells(
    cells: pd.DataFrame, config: FrameConfig, previous: Any, workers: int | None, show: Callable[[int, int], None]
) -> tuple[list[Frame], list[str]]:
    """The cell in each image, with a margin."""
    known = _known(previous, config)
    frames = [known.get(one) for one in zip(cells["path"], image_digests(cells), strict=True)]
    missing = np.flatnonzero([frame is None for frame in frames])
    looks = dict(zip(missing.tolist(), _looks(cells.iloc[missing], workers, show), strict=True))
    sizes = list(zip(cells["width"].astype(int), cells["height"].astype(int), strict=True))
    names, share = cells["dataset"].astype(str).to_numpy(), 1 + 2 * config.frame_margin
    edges = np.array([(f.right - f.left) / share if f is not None else looks[row].edge for row, f in enumerate(frames)])
    lost: dict[str, list[int]] = {}
    for row, look in looks.items():
        if not np.isnan(look.left):
            frames[row] = frame_of_cell(look, sizes[row], config, 0.0)
        else:
            lost.setdefault(names[row], []).append(row)
    remarks = []
    for name, rows in lost.items():
        own = edges[(names == name) & np.isfinite(edges)]
        usual = float(np.median(own)) if own.size else None
        for row in rows:
            frames[row] = frame_of_cell(looks[row], sizes[row], config, usual or min(sizes[row]) / share)
        instead = f"{usual:.0f} pixels, as its other cells" if usual else "as large as the image"
        remarks.append(
            f"{name}: no nucleus in the middle of {len(rows):,} of {int((names == name).sum()):,} images (first: "
            f"{cells['cell_id'].iloc[rows[0]]}); they show the middle of the image, for a cell of {instead}"
            if usual
            else f"{name}: no nucleus in the middle of any of its {len(rows):,} images; they show the largest square"
        )
    return [frame for frame in frames if frame is not None], remarks


def _known(previous: pd.DataFrame | None, config: FrameConfig) -> dict[tuple[str, str], Frame]:
    """Frames of an earlier listing by path and image, but for those in the middle: these depend on the other cells."""
    if previous is None or FRAME_COLUMN not in previous:
        return {}
    known = {}
    digests = image_digests(previous.drop(columns=FRAME_COLUMN))
    columns = (previous["path"], digests, previous[FRAME_COLUMN], previous["width"], previous["height"])
    for path, image, text, width, height in zip(*columns, strict=True):
        frame = None if pd.isna(text) else Frame.parse(str(text))
        if frame is None or frame.rule != config.rule:
            continue
        middle = (frame.left + frame.right) / 2 - width / 2, (frame.top + frame.bottom) / 2 - height / 2
        if max(map(abs, middle)) > 0.02:
            known[str(path), image] = frame
    return known


class _Looks(torch.utils.data.Dataset["list[CellLook] | str"]):
    """Chunks of images, in each of which the cell is found; a failure travels as text."""

    def __init__(self, paths: list[str], scalings: list[str | None]) -> None:
        self.paths, self.scalings = paths, scalings

    def __len__(self) -> int:
        return -(-len(self.paths) // _CHUNK)

    def __getitem__(self, index: int) -> list[CellLook] | str:
        looks = []
        for row in range(index * _CHUNK, min((index + 1) * _CHUNK, len(self.paths))):
            try:
                image = decode(read_bytes(resolve_path(self.paths[row])), self.scalings[row])
            except UnreadableImage as reason:
                return f"{self.paths[row]}: {reason}. It was readable when the cells were listed; list them again."
            looks.append(look_at_cell(np.asarray(image)) if min(image.size) >= 8 else NOTHING)
        return looks


def _looks(cells: pd.DataFrame, workers: int | None, show: Callable[[int, int], None]) -> list[CellLook]:
    """What is seen in the image of each cell."""
    items, looks = _Looks(cells["path"].astype(str).tolist(), intensities(cells)), list[CellLook]()
    with closing(ahead(items, len(items), workers)) as chunks:
        for chunk in chunks:
            if isinstance(chunk, str):
                raise CytosaeError(chunk)
            looks += chunk
            show(len(looks), len(cells))
    return looks
