"""TIFF as microscopes write it: which page is the cell, and the kinds that Pillow reads wrongly or not at all."""

from __future__ import annotations

import io
import logging
import math
import re
from collections.abc import Sequence
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
_PREMULTIPLIED = 1  # the value of ExtraSamples
_COLOURS: dict[int, int] = {
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.YCBCR: 3,
}
"""Channels of the colours that are read, by their kind."""
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
    if image is not None:
        check_size(*image.size, most_pixels)
    if image is not None and _is_single(image) and _is_plain(image):
        return _whole(image, len(data))
    with TiffFile(io.BytesIO(data)) as file:
        index = _cell_page(file)
        if image is not None:
            image.seek(index)
            if _is_plain(image):
                return _whole(image, len(data))
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
        and (extra := tags.get(338, ())) in _PLAIN.get(kind, ())
        and not (extra == (_PREMULTIPLIED,) and tags.get(284, 1) == 2)  # in planes, which Pillow refuses
    )


def _whole(image: TiffImageFile, size: int) -> TiffImageFile:
    """The image, unless parts of it are missing: Pillow would leave these black, or libtiff complain on the terminal."""
    tags = image.tag_v2
    width, height, planes = tags[256], tags[257], tags.get(277, 1) if tags.get(284, 1) == 2 else 1
    if 324 in tags:
        expected = -(-width // tags[322]) * -(-height // tags[323])
    else:
        expected = -(-height // min(tags.get(278, height), height))
    offsets, lengths = tags.get(324, tags.get(273, ())), tags.get(325, tags.get(279, ()))
    _check_strips(offsets, lengths if tags.get(259, 1) != 1 else [1] * len(offsets), expected * planes, size)
    return image


def _check_strips(offsets: Sequence[int], lengths: Sequence[int], expected: int, size: int) -> None:
    """Refuse an image of which strips or tiles are missing, or lie outside of the file."""
    if not expected <= len(offsets) == len(lengths):
        raise UnreadableImage(f"damaged: {len(offsets)} of its {expected} strips or tiles are there")
    if any(length <= 0 or start + length > size for start, length in zip(offsets, lengths, strict=True)):
        raise UnreadableImage("damaged: pixels lie outside of the file")


def _is_single(image: TiffImageFile) -> bool:
    """Whether the file has a single page of a single plane."""
    tags = image.tag_v2
    about = tags.get(_DESCRIPTION, "")
    planes = isinstance(about, str) and about.startswith("ImageJ=") and "images=" in about
    return not (image.is_animated or planes or tags.get(_DEPTH, 1) != 1 or _STACK in tags)


def _cell_page(file: TiffFile) -> int:
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
    kind, extra = int(page.photometric), tuple(int(sample) for sample in page.extrasamples)
    name = f"a TIFF of {page.bitspersample} bits a channel with colours {_name(page.photometric)} and compression "
    name += _name(page.compression)
    if page.dtype is None or page.dtype.kind not in "uif" or isinstance(page.bitspersample, tuple):
        raise UnreadableImage(f"{name}, which can't be read; save it as RGB")
    if kind not in _COLOURS or (kind == PHOTOMETRIC.YCBCR and page.compression not in _JPEG):
        raise UnreadableImage(f"{name}, which can't be read; save it as RGB")
    _check_size(page, size, most_pixels)
    channels = page.samplesperpixel
    if channels < _COLOURS[kind]:
        raise UnreadableImage(f"damaged: a TIFF with colours {_name(page.photometric)} and {channels} channels")
    unspecified = bool(extra) and not any(extra)
    if channels != _COLOURS[kind] + len(extra) or not (unspecified or extra in ((), (_PREMULTIPLIED,), (2,))):
        raise UnreadableImage(channels_unknown(channels))
    values = page.asarray(maxworkers=1)
    if page.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(page.imagelength, page.imagewidth, channels)
    colours, others, bits = values[..., : channels - len(extra)], values[..., channels - len(extra) :], _bits(page)
    if unspecified:
        if (others != others[0, 0]).any():
            raise UnreadableImage(channels_unknown(channels))
        others = others[..., :0]  # an alpha channel that says nothing
    if kind == PHOTOMETRIC.PALETTE:
        colours, bits = _coloured(page, values[..., 0]), 8
    if extra == (_PREMULTIPLIED,):
        colours = _divided(colours, others)
    alpha = others[..., 0] if others.shape[-1] else None
    turned = _number(page, 274, 1) if 1 <= _number(page, 274, 1) <= 8 else 1
    return Samples(colours, bits, alpha, kind == PHOTOMETRIC.MINISWHITE, turned, page.iccprofile)


def _name(value: Any) -> str:
    return str(getattr(value, "name", value))


def _divided(colours: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Colours that were multiplied with alpha, as they were before; without any where alpha is zero."""
    most = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
    whole = np.divide(colours * np.float64(most), alpha, out=np.zeros(colours.shape), where=alpha > 0)
    whole = np.minimum(whole, most)
    return (np.rint(whole) if alpha.dtype.kind in "ui" else whole).astype(colours.dtype)


def _check_size(page: TiffPage, size: int, most_pixels: int) -> None:
    check_size(page.imagewidth, page.imagelength, most_pixels)
    if page.is_tiled:
        check_size(page.tilewidth, page.tilelength, most_pixels)
    _check_strips(page.dataoffsets, page.databytecounts, math.prod(page.chunked), size)
    if page.compression == 1 and sum(page.databytecounts) * 8 < math.prod(page.shape) * int(page.bitspersample):
        raise UnreadableImage("damaged: it has fewer pixels than its width and height say")


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
