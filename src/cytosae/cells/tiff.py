"""TIFF as microscopes write it: which page is the cell, and the kinds that Pillow reads wrongly or not at all."""

from __future__ import annotations

import io
import logging
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from cytosae.cells.samples import WHICH, Samples, UnreadableImage, channels_unknown, check_size

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it says of damaged files is said by us

_DESCRIPTION, _DEPTH, _STACK = 270, 32997, 33629  # the last two, and ImageJ's description, stand for planes of one page
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType: a smaller copy, a mask
_BASELINE = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946})
"""Compressions that every build of Pillow reads: none, CCITT, LZW, JPEG, deflate, PackBits."""
_JPEG = frozenset({6, 7})
_PLAIN: dict[tuple[int, int], set[tuple[int, ...]]] = {
    (PHOTOMETRIC.MINISWHITE, 1): {()},
    (PHOTOMETRIC.MINISBLACK, 1): {()},
    (PHOTOMETRIC.MINISBLACK, 2): {(1,), (2,)},
    (PHOTOMETRIC.RGB, 3): {()},
    (PHOTOMETRIC.RGB, 4): {(), (1,), (2,), (999,)},  # 999 is Corel's
    (PHOTOMETRIC.PALETTE, 1): {()},
    (PHOTOMETRIC.PALETTE, 2): {(2,)},
    (PHOTOMETRIC.SEPARATED, 4): {()},
    (PHOTOMETRIC.YCBCR, 3): {()},
}
"""Kinds of extra samples by meaning and number of channels: what Pillow reads as a person would see it, with 8 bits."""
_SIGNIFICANT = re.compile(r'SignificantBits="(\d+)"')


def open_tiff(data: bytes, most_pixels: int) -> TiffImageFile | Samples:
    """The page that is the cell: not decoded yet, where Pillow reads such a page as a person would see it.

    Raises
    ------
    UnreadableImage
        Several pages, or a kind that is not read.
    """
    try:
        image = TiffImageFile(io.BytesIO(data))
    except (SyntaxError, OSError, ValueError, OverflowError):  # of a kind that Pillow lacks, or damaged
        image = None
    if image is not None and _is_single(image) and _is_plain(image):
        return image
    with TiffFile(io.BytesIO(data)) as file:
        index = _page_of_cell(file)
        if image is not None:
            image.seek(index)
            if _is_plain(image):
                return image
        page = file.pages[index]
        assert isinstance(page, TiffPage)
        return _read_page(page, len(data), most_pixels)


def _is_plain(image: TiffImageFile) -> bool:
    """Whether the page that is open is one that Pillow reads as a person would see it."""
    tags = image.tag_v2
    channels = tags.get(277, 1)
    kind = (tags.get(262, 0), channels)
    return (
        set(tags.get(258, (1,))) <= {1, 2, 4, 8}
        and set(tags.get(339, (1,))) == {1}
        and tags.get(259, 1) in _BASELINE
        and tags.get(338, ()) in _PLAIN.get(kind, ())
    )


def _is_single(image: TiffImageFile) -> bool:
    """Whether the file has a single page of a single plane."""
    tags = image.tag_v2
    about = tags.get(_DESCRIPTION, "")
    planes = isinstance(about, str) and about.startswith("ImageJ=") and "images=" in about
    return not (image.is_animated or planes or tags.get(_DEPTH, 1) != 1 or _STACK in tags)


def _page_of_cell(file: TiffFile) -> int:
    """The page that is the cell: the only one that is neither a smaller copy nor a mask.

    Raises
    ------
    UnreadableImage
        There are several.
    """
    pages = [page for page in file.pages if isinstance(page, TiffPage)]
    whole = [index for index, page in enumerate(pages) if not int(page.subfiletype) & (_REDUCED | _MASK)]
    whole = whole or [0]
    count = max(len(whole), pages[whole[0]].imagedepth)
    if file.is_imagej:
        count = max(count, int((file.imagej_metadata or {}).get("images", 1)))
    if file.is_stk:
        count = max(count, int((file.stk_metadata or {}).get("NumberPlanes", 1)))
    if count > 1:
        raise UnreadableImage(f"a TIFF of {count} pages: {WHICH}")
    return whole[0]


def _read_page(page: TiffPage, size: int, most_pixels: int) -> Samples:
    """The values of a page of a file of `size` bytes.

    Raises
    ------
    UnreadableImage
        Too many channels, colours of a kind that is not read, values outside of the file.
    """
    kind = page.photometric
    name = f"a TIFF with {getattr(kind, 'name', kind)} colours, compression {getattr(page.compression, 'name', '?')}"
    if page.dtype is None or page.dtype.kind not in "uif" or isinstance(page.bitspersample, tuple):
        raise UnreadableImage(f"{name} and {page.bitspersample} bits a channel, which can't be read; save it as RGB")
    _check_size(page, size, most_pixels)
    colours: int = {PHOTOMETRIC.RGB: 3, PHOTOMETRIC.YCBCR: 3, PHOTOMETRIC.SEPARATED: 4}.get(PHOTOMETRIC(kind), 1)
    extra = tuple(int(sample) for sample in page.extrasamples)
    channels = page.samplesperpixel
    if channels != colours + len(extra) or extra not in ((), (1,), (2,)):
        raise UnreadableImage(channels_unknown(channels))
    known = kind in (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE)
    if not (known or (kind == PHOTOMETRIC.YCBCR and page.compression in _JPEG)) or extra == (1,):
        alpha = ", premultiplied with alpha" if extra == (1,) else ""
        raise UnreadableImage(
            f"{name}{alpha} and {page.bitspersample} bits a channel, which can't be read; save it as RGB"
        )
    values = page.asarray(maxworkers=1)
    if page.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(page.imagelength, page.imagewidth, channels)
    bits = _bits(page)
    if kind == PHOTOMETRIC.PALETTE:
        values, bits = _coloured(page, values[..., 0]), 8
    return Samples(
        values[..., : values.shape[-1] - len(extra)],
        bits,
        values[..., -1] if extra else None,
        kind == PHOTOMETRIC.MINISWHITE,
        _number(page, 274, 1),
        page.iccprofile,
    )


def _check_size(page: TiffPage, size: int, most_pixels: int) -> None:
    check_size(page.imagewidth, page.imagelength, most_pixels)
    if page.is_tiled:
        check_size(page.tilewidth, page.tilelength, most_pixels)
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not parts or any(length <= 0 or offset + length > size for offset, length in parts):
        raise UnreadableImage("damaged: pixels lie outside of the file")


def _bits(page: TiffPage) -> int:
    """Bits of a channel that are in use, as far as the file says."""
    bits = int(page.bitspersample)
    if page.dtype is None or page.dtype.kind != "u":
        return bits
    stated = _SIGNIFICANT.search(page.description)
    used = int(stated[1]) if stated else _number(page, 281, 0).bit_length()
    return used if 0 < used < bits else bits


def _number(page: TiffPage, tag: int, default: int) -> int:
    value = page.tags.valueof(tag, default)
    return int(max(value) if isinstance(value, tuple) else value)


def _coloured(page: TiffPage, values: NDArray[Any]) -> NDArray[np.uint8]:
    if page.colormap is None:
        raise UnreadableImage("damaged: a TIFF with palette colours and no palette")
    return np.moveaxis((page.colormap >> 8).astype(np.uint8)[:, values], 0, -1)
