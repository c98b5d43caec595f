"""TIFF in every layout: read as a person would see it, or refused with a reason."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from support.image_files import (
    ALPHA,
    DEEP,
    GREY,
    HEIGHT,
    OVER_WHITE,
    QUIET,
    RANDOM,
    RGB,
    SHARE,
    SMOOTH,
    WIDTH,
    grey,
    planes,
    refusal,
    saved,
    seen,
    tiff,
)

pytestmark = QUIET


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"tile": (16, 16)},
        {"tile": (16, 16), "compression": "deflate", "predictor": True},
        {"rowsperstrip": 3, "compression": "lzw"},
        *(
            {"compression": name}
            for name in ("lzw", "packbits", "deflate", "zstd", "lzma", "jpeg2000", "jpegxl", "lerc")
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("planar", [False, True])
def test_tiff_of_eight_bits_is_what_was_written(options: dict[str, Any], planar: bool) -> None:
    values, how = (planes(RGB), "separate") if planar else (RGB, "contig")
    np.testing.assert_array_equal(seen(tiff(values, photometric="rgb", planarconfig=how, **options)), RGB)
    if not planar:
        np.testing.assert_array_equal(seen(tiff(GREY, photometric="minisblack", **options)), grey(GREY))


def test_tiff_with_other_colours() -> None:
    np.testing.assert_array_equal(seen(tiff(GREY, photometric="miniswhite")), 255 - grey(GREY))
    np.testing.assert_array_equal(seen(tiff(GREY > 99, photometric="minisblack")), 255 * grey(GREY > 99))
    table = RANDOM.integers(0, 65536, (3, 256), dtype=np.uint16)
    for compression in (None, "zstd"):
        palette = tiff(GREY, photometric="palette", colormap=table, compression=compression)
        np.testing.assert_array_equal(seen(palette), np.moveaxis((table >> 8)[:, GREY], 0, -1))
    for jpeg in (tiff(SMOOTH, photometric="rgb", compression="jpeg"), saved(SMOOTH, "TIFF", compression="jpeg")):
        assert np.abs(seen(jpeg) - SMOOTH).max() <= 2  # one has YCbCr inside, the other RGB
    for compression in ("raw", "tiff_lzw"):
        data = saved(Image.fromarray(RGB).convert("YCbCr"), "TIFF", compression=compression)
        assert np.abs(seen(data) - RGB).max() <= 3
        data = saved(Image.fromarray(RGB).convert("CMYK"), "TIFF", compression=compression)
        np.testing.assert_array_equal(seen(data), RGB)
    assert "CIELAB" in refusal(tiff(RGB, photometric="cielab"))


@pytest.mark.parametrize("planar", [False, True])
def test_alpha_in_tiff_lies_over_white(planar: bool) -> None:
    def written(colours: NDArray[Any], kind: str) -> bytes:
        values = np.dstack([colours, ALPHA.astype(colours.dtype) * (257 if colours.dtype == np.uint16 else 1)])
        options = {"photometric": "rgb", "planarconfig": "separate" if planar else "contig", "extrasamples": [kind]}
        return tiff(planes(values) if planar else values, **options)

    assert np.abs(seen(written(RGB, "unassalpha")) - OVER_WHITE).max() <= 1
    assert np.abs(seen(written(np.rint(RGB * SHARE).astype(np.uint8), "assocalpha")) - OVER_WHITE).max() <= 1
    deep = np.rint(RGB * 257.0 * SHARE).astype(np.uint16)
    assert np.abs(seen(written(deep, "assocalpha"), "full") - OVER_WHITE).max() <= 1
    assert "4 channels" in refusal(written(RGB, "unspecified"))
    same = np.dstack([RGB, np.full_like(GREY, 255)])  # of no meaning, and the same everywhere
    options = {
        "photometric": "rgb",
        "planarconfig": "separate" if planar else "contig",
        "extrasamples": ["unspecified"],
    }
    np.testing.assert_array_equal(seen(tiff(planes(same) if planar else same, **options)), RGB)


def test_channels_that_are_no_colours_are_refused_with_their_number() -> None:
    five = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 5), dtype=np.uint8)
    for count in (2, 4, 5):
        assert f"{count} channels" in refusal(tiff(five[..., :count], photometric="minisblack", planarconfig="contig"))
        stacked = tiff(planes(five[..., :count]), photometric="minisblack", planarconfig="separate")
        assert f"{count} channels" in refusal(stacked)


def test_a_tiff_without_all_of_its_strips_is_refused() -> None:
    """Pillow leaves missing strips black."""
    for values, how in ((RGB, None), (DEEP, "full")):
        data = bytearray(tiff(values, photometric="rgb", rowsperstrip=HEIGHT))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            tag = file.pages[0].tags[257]
        data[tag.valueoffset : tag.valueoffset + 2] = struct.pack("<H", 5 * HEIGHT)
        assert "damaged" in refusal(bytes(data), how)
