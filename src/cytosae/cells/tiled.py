"""TIFF too large to be held: its tiles or strips are decoded as they are needed."""

from __future__ import annotations

import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TiffFile, TiffFileError, TiffPage

from cytosae.cells.regions import Level, Regions, believed
from cytosae.cells.samples import UnreadableImage

_MOST = 16_000_000
"""Pixels of the largest tile or strip."""
_ALIKE = 0.02
"""By how much the shape of a smaller copy may differ."""
_CENTIMETRE, _INCH = 3, 2
_MICROMETRES = {_CENTIMETRE: 1e4, _INCH: 2.54e4}


def open_tiled(path: Path, most_pixels: int) -> TiledTiff | None:
    """A TIFF of more than so many pixels, or with smaller copies and in tiles; None for one that is held whole.

    Raises
    ------
    UnreadableImage
        Not a kind that is read region by region.
    """
    try:
        file = TiffFile(path)
    except (TiffFileError, OSError, ValueError):
        return None  # the reader of whole images says what is wrong
    try:
        pages = [page for page in file.pages if isinstance(page, TiffPage)]
        first = pages[0]
        copies = [*_sub_pages(first), *pages[1:]]
    except (TiffFileError, OSError, ValueError, IndexError):
        file.close()
        return None  # the reader of whole images says what is wrong
    smaller = [page for page in copies if _is_copy(page, first)]
    if first.imagewidth * first.imagelength <= most_pixels and not (first.is_tiled and smaller):
        file.close()
        return None
    levels = [first, *sorted(smaller, key=lambda page: -page.imagewidth)]
    if reason := next((reason for page in levels if (reason := _why_not(page))), None):
        file.close()
        raise UnreadableImage(reason)
    return TiledTiff(file, levels)


class TiledTiff(Regions):
    """A TIFF with its smaller copies. What a sparse file leaves out is white; a colour profile is not applied."""

    def __init__(self, file: TiffFile, pages: list[TiffPage]) -> None:
        width = pages[0].imagewidth
        super().__init__([Level(page.imagewidth, page.imagelength, width / page.imagewidth) for page in pages])
        self._file, self._pages = file, pages
        weakref.finalize(self, file.close)
        self.mpp = believed(_stated_mpp(pages[0]))

    def _read(self, level: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        page = self._pages[level]
        tile_width = page.tilewidth if page.is_tiled else page.imagewidth
        tile_height = page.tilelength if page.is_tiled else page.rowsperstrip
        across = -(-page.imagewidth // tile_width)
        pixels = np.full((height, width, 3), 255, np.uint8)
        for row in range(top // tile_height, -(-(top + height) // tile_height)):
            for column in range(left // tile_width, -(-(left + width) // tile_width)):
                tile = self._tile(page, row * across + column)
                if tile is None:
                    continue
                y, x = row * tile_height, column * tile_width
                rows = slice(max(top, y), min(top + height, y + tile.shape[0]))
                columns = slice(max(left, x), min(left + width, x + tile.shape[1]))
                part = tile[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
                pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = part
        return pixels

    def _tile(self, page: TiffPage, index: int) -> NDArray[Any] | None:
        count = page.databytecounts[index]
        if not count:
            return None
        handle = self._file.filehandle
        handle.seek(page.dataoffsets[index])
        data = handle.read(count)  # before the page is asked anything, which may move the file's position
        try:
            values = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
        except Exception as error:  # decoders raise anything for damaged files
            raise UnreadableImage(f"damaged: tile {index} ({error})") from None
        assert values is not None
        tile: NDArray[Any] = values.reshape(tuple(values.shape)[-3:])
        if page.photometric == PHOTOMETRIC.MINISWHITE:
            tile = 255 - tile
        return tile[..., :3] if tile.shape[-1] >= 3 else tile[..., :1]


def _sub_pages(page: TiffPage) -> list[TiffPage]:
    return [] if page.pages is None else [one for one in page.pages if isinstance(one, TiffPage)]


def _is_copy(page: TiffPage, first: TiffPage) -> bool:
    """Whether a page is the first one, smaller."""
    factor = first.imagewidth / max(1, page.imagewidth)
    alike = abs(first.imagelength / max(1, page.imagelength) / factor - 1) < _ALIKE
    return factor > 1.2 and alike and page.samplesperpixel == first.samplesperpixel and min(page.shape[:2]) >= 16


def _why_not(page: TiffPage) -> str | None:
    """Why a page cannot be read region by region."""
    planes = page.planarconfig != 1 and page.samplesperpixel > 1
    grey = page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE) and page.samplesperpixel == 1
    colours = page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) and page.samplesperpixel in (3, 4)
    if page.dtype != np.uint8 or planes or page.imagedepth != 1 or not (grey or colours):
        return "a large TIFF that is neither grey nor RGB with 8 bits a channel: save it so, in tiles"
    size = page.tilewidth * page.tilelength if page.is_tiled else page.imagewidth * page.rowsperstrip
    if size > _MOST:
        return f"a large TIFF in strips of {size / 1e6:.0f} million pixels: save it in tiles"
    if len(page.dataoffsets) < math.prod(page.chunked):
        return f"damaged: {len(page.dataoffsets)} of its {math.prod(page.chunked)} strips or tiles are there"
    return None


def _stated_mpp(page: TiffPage) -> float | None:
    """Micrometres per pixel, from the resolution of a page."""
    unit, resolution = (page.tags.get(name) for name in ("ResolutionUnit", "XResolution"))
    if resolution is None or unit is None or int(unit.value) not in _MICROMETRES:
        return None
    number, of = resolution.value
    return _MICROMETRES[int(unit.value)] * of / number if number and of else None
