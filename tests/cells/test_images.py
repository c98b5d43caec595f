"""Image files of every kind: read as a person would see them, or refused with a reason; the truth is what was written."""

from __future__ import annotations

import io
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile
from fastapi import HTTPException
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from cytosae.cells import (
    decode,
    decoded,
    difference,
    intensities,
    list_cells,
    load_squashed,
    looks_like_image,
    pixels_digest,
    read_cells,
    read_image,
    write_cells,
)
from cytosae.cells.images import MOST_PIXELS
from cytosae.cells.samples import TooManyPixels, UnreadableImage
from cytosae.cli.commands import app
from cytosae.errors import CytosaeError
from cytosae.explorer.images import CellImages
from cytosae.explorer.routes.uploads import _decoded
from cytosae.settings import ImageConfig, intensity_window
from support.image_files import (
    ALPHA,
    DEEP,
    GREY,
    HEIGHT,
    OVER_WHITE,
    RANDOM,
    RGB,
    SHARE,
    SMOOTH,
    SRGB,
    WIDTH,
    grey,
    grey_profile,
    linear,
    planes,
    png,
    refusal,
    saved,
    seen,
    swapped_profile,
    tiff,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest takes the package's filter away


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


@pytest.mark.parametrize(
    "options", [{}, {"byteorder": ">"}, {"compression": "lzw", "predictor": True}, {"tile": (16, 16)}]
)
@pytest.mark.parametrize("planar", [False, True])
def test_sixteen_bit_tiff_is_refused_and_read_by_the_stated_scaling(options: dict[str, Any], planar: bool) -> None:
    values, how = (planes(DEEP), "separate") if planar else (DEEP, "contig")
    data = tiff(values, photometric="rgb", planarconfig=how, **options)
    why = refusal(data)
    assert "16 bits" in why
    assert f"{DEEP.min()} to {DEEP.max()}" in why
    assert "--intensity" in why
    np.testing.assert_array_equal(seen(data, "full"), linear(DEEP, 0, 65535))
    np.testing.assert_array_equal(seen(data, "1000-30000"), linear(DEEP, 1000, 30000))
    np.testing.assert_array_equal(seen(data, "percentile"), linear(DEEP, *np.percentile(DEEP, [0.1, 99.9])))


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "uint32", "float16", "float32", "float64"])
def test_every_type_of_number(kind: str) -> None:
    values = RANDOM.random((HEIGHT, WIDTH)).astype(kind) if kind[0] == "f" else DEEP[..., 0].astype(kind)
    ends = (0, 1) if kind[0] == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    data = tiff(values)
    assert "--intensity" in refusal(data)
    np.testing.assert_array_equal(seen(data, "full"), linear(values, *ends))
    np.testing.assert_array_equal(seen(data, "-3-77.5"), linear(values, -3, 77.5))
    np.testing.assert_array_equal(seen(tiff(values, photometric="miniswhite"), "full"), 255 - linear(values, *ends))


def test_values_that_no_scaling_fits() -> None:
    real = np.full((4, 4), 0.5, np.float32)
    real[0, 0] = np.nan
    for how in ("full", "percentile", "0-1"):
        assert "not finite" in refusal(tiff(real), how)
    assert "0.5 to 3" in refusal(tiff(np.where(np.isnan(real), 3, real).astype(np.float32)), "full")
    assert "no contrast" in refusal(tiff(np.full((4, 4), 7, np.uint16)), "percentile")
    assert "64 bits" in refusal(tiff(real.astype(np.complex64)), "full")
    spot = np.zeros((100, 100), np.uint16)  # percentiles alone would make a bright spot disappear
    spot[5, 5] = 900
    assert seen(tiff(spot), "percentile")[5, 5, 0] == 255


def test_bits_in_use_are_those_that_the_file_states() -> None:
    values = DEEP[..., 0] >> 4
    for data in (
        tiff(values, extratags=[(281, 3, 1, 4095, True)]),
        tiff(values, ome=True, metadata={"axes": "YX", "SignificantBits": 12}),
    ):
        assert "12 bits" in refusal(data)
        np.testing.assert_array_equal(seen(data, "full"), linear(values, 0, 4095))


def test_sixteen_bit_png() -> None:
    assert "16 bits" in refusal(png(DEEP, 2))
    np.testing.assert_array_equal(seen(png(DEEP, 2), "full"), linear(DEEP, 0, 65535))
    np.testing.assert_array_equal(seen(png(DEEP[..., :1], 0), "full"), linear(DEEP[..., 0], 0, 65535))
    alpha = ALPHA.astype(np.uint16)[..., None] * 257
    clear = seen(png(np.concatenate([RGB.astype(np.uint16) * 257, alpha], axis=-1), 6), "full")
    assert np.abs(clear - OVER_WHITE).max() <= 1
    clear = seen(png(np.concatenate([GREY[..., None].astype(np.uint16) * 257, alpha], axis=-1), 4), "full")
    assert np.abs(clear - np.repeat(OVER_WHITE[..., :1], 3, -1)).max() <= 1


def test_twelve_bit_jpeg() -> None:
    values = np.add.outer(np.arange(HEIGHT) * 90, np.arange(WIDTH) * 60).astype(np.uint16)
    data = imagecodecs.jpeg_encode(values, bitspersample=12, level=100)
    assert "12 bits" in refusal(data)
    assert np.abs(seen(data, "full") - linear(values, 0, 4095)).max() <= 1


_UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_format_is_turned_as_exif_says(turn: int) -> None:
    exif = Image.Exif()
    exif[274] = turn
    upright = _UPRIGHT[turn](SMOOTH).astype(np.int64)
    for form, options, most in (
        ("JPEG", {"quality": 98, "subsampling": 0}, 9),
        ("PNG", {}, 0),
        ("TIFF", {}, 0),
        ("WEBP", {"lossless": True}, 0),
    ):
        pixels = seen(saved(SMOOTH, form, exif=exif, **options))
        assert pixels.shape == upright.shape, form
        assert np.abs(pixels - upright).max() <= most, form
    tags = {"photometric": "rgb", "extratags": [(274, 3, 1, turn, True)]}
    np.testing.assert_array_equal(seen(tiff(SMOOTH.astype(np.uint16) * 257, **tags), "full"), upright)
    np.testing.assert_array_equal(seen(tiff(SMOOTH, compression="zstd", **tags)), upright)
    deep = png(SMOOTH.astype(np.uint16) * 257, 2, (b"eXIf", exif.tobytes()[6:]))
    np.testing.assert_array_equal(seen(deep, "full"), upright)


def test_damaged_exif_leaves_an_image_as_it_is() -> None:
    for exif in (b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0"):
        for form in ("JPEG", "PNG", "WEBP"):
            assert seen(saved(RGB, form, exif=exif)).shape == RGB.shape


def test_pages_are_refused_with_their_number_unless_they_are_smaller_copies() -> None:
    stack = np.stack([GREY, GREY, GREY])
    for data in (
        tiff(stack, photometric="minisblack"),
        tiff(stack, photometric="minisblack", ome=True),
        tiff(stack, imagej=True),
        tiff(planes(DEEP), photometric="minisblack", ome=True, metadata={"axes": "CYX"}),
        saved(Image.fromarray(GREY), "TIFF", save_all=True, append_images=[Image.fromarray(GREY)] * 2),
    ):
        for how in (None, "full"):
            assert "3 pages" in refusal(data, how)
    volume = tiff(np.stack([GREY] * 16), volumetric=True, tile=(16, 16, 16), photometric="minisblack")
    assert "16 pages" in refusal(volume)
    for form in ("PNG", "WEBP", "GIF"):
        moving = saved(RGB, form, save_all=True, append_images=[Image.fromarray(255 - RGB)])
        assert "2 frames" in refusal(moving)
    for first, second in ((RGB, RGB[::2, ::2]), (RGB[::2, ::2], RGB), (DEEP, DEEP[::2, ::2])):
        file = io.BytesIO()
        with tifffile.TiffWriter(file) as writer:
            for page in (first, second):
                writer.write(page, photometric="rgb", subfiletype=int(len(page) < HEIGHT))
        whole = first if len(first) == HEIGHT else second
        np.testing.assert_array_equal(seen(file.getvalue(), "full"), linear(whole, 0, np.iinfo(whole.dtype).max))
    np.testing.assert_array_equal(seen(tiff(GREY, imagej=True)), grey(GREY))


def test_of_a_photo_with_more_pictures_behind_it_the_first_is_taken_and_said() -> None:
    exif = Image.Exif()
    exif[274] = 3
    alone = saved(RGB, "JPEG", quality=95)
    for options, note in (
        ({"append_images": [Image.fromarray(GREY)] * 2}, "the first of 3 pictures (MPO)"),
        ({"append_images": [Image.fromarray(GREY)], "exif": exif}, "the first of 2 pictures (MPO); turned"),
    ):
        data = saved(RGB, "MPO", save_all=True, quality=95, **options)
        read = read_image(data)
        assert read.note is not None
        assert read.note.startswith(note)
        if "exif" not in options:
            np.testing.assert_array_equal(np.asarray(read.image), seen(alone))
        damaged = data.replace(b"MPF\0", b"MPF\0****", 1)
        assert read_image(damaged).image.size == read.image.size
    assert read_image(alone).note is None


def test_transparent_images() -> None:
    for form in ("PNG", "WEBP", "TIFF"):
        clear = np.dstack([RGB, np.zeros_like(GREY)])
        assert "wholly transparent" in refusal(saved(clear, form))
        options = {"lossless": True, "exact": True} if form == "WEBP" else {}
        assert np.abs(seen(saved(np.dstack([RGB, ALPHA]), form, **options)) - OVER_WHITE).max() <= 1
        for alpha in (1, 2, 12):
            faint = np.dstack([RGB, np.minimum(ALPHA, alpha)])
            assert f"alpha is at most {alpha} of 255" in refusal(saved(faint, form, **options))
        one = np.dstack([RGB, np.zeros_like(GREY)])
        one[0, 0, 3] = 13
        assert seen(saved(one, form, **options)).shape == RGB.shape
    palette = Image.fromarray(GREY).convert("P")
    assert "wholly transparent" in refusal(saved(palette, "PNG", transparency=bytes(256)))
    assert seen(saved(palette, "PNG", transparency=5)).shape == RGB.shape
    grey_alpha = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(ALPHA)))
    assert np.abs(seen(saved(grey_alpha, "PNG")) - np.repeat(OVER_WHITE[..., :1], 3, -1)).max() <= 1


def bmp(values: NDArray[Any], masks: tuple[int, int, int] | None) -> bytes:
    """A BMP of 16 bits a pixel, the last row first."""
    head = 66 if masks else 54
    kind = 3 if masks else 0
    about = struct.pack("<2sIHHI", b"BM", head + values.nbytes, 0, 0, head)
    about += struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 16, kind, values.nbytes, 0, 0, 0, 0)
    return about + (struct.pack("<III", *masks) if masks else b"") + values[::-1].astype("<u2").tobytes()


def test_bmp_of_sixteen_bits_a_pixel() -> None:
    red, green, blue = (RGB[..., c].astype(np.uint16) for c in range(3))
    mixed = (red >> 3 << 11) | (green >> 2 << 5) | (blue >> 3)
    assert np.abs(seen(bmp(mixed, (0xF800, 0x7E0, 0x1F))) - RGB).max() < 8
    mixed = (red >> 3 << 10) | (green >> 3 << 5) | (blue >> 3)
    assert np.abs(seen(bmp(mixed, None)) - RGB).max() < 8


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_colours_with_a_profile_become_srgb(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    plain = seen(saved(RGB, form, **options))
    same = read_image(saved(RGB, form, icc_profile=SRGB, **options))
    np.testing.assert_array_equal(np.asarray(same.image), plain)
    assert same.note is None
    other = read_image(saved(RGB, form, icc_profile=swapped_profile(), **options))
    assert np.abs(np.asarray(other.image).astype(int) - plain[..., ::-1]).max() <= 2
    assert other.note is not None
    assert "sRGB" in other.note
    for broken in (b"nonsense", SRGB[:200], grey_profile(2.2)):
        ignored = read_image(saved(RGB, form, icc_profile=broken, **options))
        np.testing.assert_array_equal(np.asarray(ignored.image), plain)
        assert ignored.note is not None
        assert "ignored" in ignored.note


def test_profiles_of_grey_alpha_and_palette() -> None:
    linear_light = (GREY / 255) ** 1.5
    curve = np.where(linear_light <= 0.0031308, 12.92 * linear_light, 1.055 * linear_light ** (1 / 2.4) - 0.055)
    shown = seen(saved(GREY, "PNG", icc_profile=grey_profile(1.5)))
    assert np.abs(shown - grey(curve * 255)).max() <= 2
    np.testing.assert_array_equal(seen(saved(GREY, "PNG", icc_profile=SRGB)), grey(GREY))
    clear = seen(saved(np.dstack([RGB, ALPHA]), "PNG", icc_profile=swapped_profile()))
    assert np.abs(clear - OVER_WHITE[..., ::-1]).max() <= 3
    palette = Image.fromarray(RGB).quantize(64)
    plain = seen(saved(palette, "PNG"))
    assert np.abs(seen(saved(palette, "PNG", icc_profile=swapped_profile())) - plain[..., ::-1]).max() <= 2
    turned = png((RGB.astype(np.uint16) * 257), 2, (b"iCCP", b"x\0\0" + zlib.compress(swapped_profile())))
    assert np.abs(seen(turned, "full") - RGB[..., ::-1]).max() <= 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (b"no image", "not a JPEG, PNG"),
        (b"%PDF-1.4", "a PDF"),
        (b"<!DOCTYPE html><html>", "web"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, words: str) -> None:
    assert words in refusal(data)


def test_large_images_are_refused_by_their_header() -> None:
    lines = MOST_PIXELS // WIDTH + 1

    def grown(data: bytes, *place: int, form: str) -> bytes:
        changed = bytearray(data)
        changed[slice(*place)] = struct.pack(form, lines)
        return bytes(changed)

    header = struct.pack(">IIBBBBB", WIDTH, lines, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    huge_png = saved(RGB, "PNG")[:8] + chunk + saved(RGB, "PNG")[33:]
    deep_header = header[:8] + b"\x10" + header[9:]
    deep_chunk = struct.pack(">I", 13) + b"IHDR" + deep_header + struct.pack(">I", zlib.crc32(b"IHDR" + deep_header))
    deep = png(DEEP, 2)
    cases = [huge_png, deep[:8] + deep_chunk + deep[33:], grown(saved(RGB, "BMP"), 22, 26, form="<i")]
    for written in (tiff(RGB), tiff(DEEP, photometric="rgb")):
        place = written.index(struct.pack("<HHI", 257, 4, 1)) + 8
        cases.append(grown(written, place, place + 4, form="<I"))
    for data in cases:
        with pytest.raises(TooManyPixels, match="megapixels"):
            read_image(data)
    with pytest.raises(TooManyPixels):
        read_image(saved(RGB, "PNG"), most_pixels=WIDTH * HEIGHT - 1)


def test_a_tiff_without_all_of_its_strips_is_refused() -> None:
    """Pillow leaves missing strips black."""
    for values, how in ((RGB, None), (DEEP, "full")):
        data = bytearray(tiff(values, photometric="rgb", rowsperstrip=HEIGHT))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            tag = file.pages[0].tags[257]
        data[tag.valueoffset : tag.valueoffset + 2] = struct.pack("<H", 5 * HEIGHT)
        assert "damaged" in refusal(bytes(data), how)


def _samples() -> dict[str, bytes]:
    """A file of every kind."""
    exif = Image.Exif()
    exif[274] = 6
    files = {
        form: saved(RGB, form, exif=exif, icc_profile=SRGB) for form in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
    }
    files |= {f"PNG {mode}": saved(Image.fromarray(RGB).convert(mode), "PNG") for mode in ("L", "P", "RGBA", "LA", "1")}
    files |= {"JPEG CMYK": saved(Image.fromarray(RGB).convert("CMYK"), "JPEG"), "16-bit PNG": png(DEEP, 2)}
    files["12-bit JPEG"] = imagecodecs.jpeg_encode(DEEP >> 4, bitspersample=12)
    files["progressive JPEG"] = saved(RGB, "JPEG", progressive=True)
    files["moving PNG"] = saved(RGB, "PNG", save_all=True, append_images=[Image.fromarray(255 - RGB)])
    for name in (None, "lzw", "zstd", "jpeg2000", "lerc"):
        files[f"TIFF {name}"] = tiff(RGB, photometric="rgb", compression=name)
        files[f"16-bit TIFF {name}"] = tiff(DEEP, photometric="rgb", compression=name)
    files["float TIFF"] = tiff(np.random.default_rng(1).random((9, 9)).astype(np.float32))
    files["tiles"] = tiff(DEEP, photometric="rgb", tile=(16, 16))
    files["pages"] = tiff(np.stack([GREY, GREY]), photometric="minisblack")
    files["RGBA TIFF"] = tiff(
        planes(np.dstack([RGB, ALPHA])), photometric="rgb", planarconfig="separate", extrasamples=[1]
    )
    return files


def test_damaged_files_give_an_image_or_a_reason_and_nothing_else() -> None:
    random = np.random.default_rng(3)
    for name, data in _samples().items():
        for trial in range(24):
            damaged = bytearray(data)
            if trial % 3 == 0:
                del damaged[int(random.integers(len(data))) :]
            else:
                reach = len(data) if trial % 3 == 1 else min(len(data), 300)
                for place in random.integers(0, reach, 3):
                    damaged[place] ^= 1 << int(random.integers(8))
            with suppress(UnreadableImage):
                image = decode(bytes(damaged), [None, "full", "percentile", "0-99"][trial % 4])
                assert image.mode == "RGB", name


def test_endings_and_first_bytes_tell_images(tmp_path: Path) -> None:
    for name in ("a.JPG", "a.jfif", "a.webp", "a.tiff", "a.gif"):
        assert looks_like_image(tmp_path / name)
    (tmp_path / "none").write_bytes(saved(RGB, "WEBP"))
    (tmp_path / "x.dat").write_bytes(saved(RGB, "PNG"))
    (tmp_path / "notes.txt").write_text("BM is not the beginning of a bitmap")
    assert looks_like_image(tmp_path / "none")
    assert looks_like_image(tmp_path / "x.dat")
    assert not looks_like_image(tmp_path / "notes.txt")
    assert not looks_like_image(tmp_path / "gone")


def _microscope(folder: Path) -> Path:
    """A table with an ordinary image and two of 16 bits."""
    folder.mkdir(exist_ok=True)
    (folder / "plain.png").write_bytes(saved(RGB, "PNG"))
    (folder / "deep.tif").write_bytes(tiff(DEEP, photometric="rgb"))
    (folder / "deep.png").write_bytes(png(DEEP // 16, 2))
    pd.DataFrame({"path": ["plain.png", "deep.tif", "deep.png"]}).to_csv(folder / "cells.csv", index=False)
    return folder / "cells.csv"


def test_the_scaling_is_recorded_and_used_ever_after(tmp_path: Path) -> None:
    table = _microscope(tmp_path)
    refused = list_cells(table)
    assert refused.cells["cell_id"].tolist() == ["plain.png"]
    assert refused.rejected["reason"].str.contains("--intensity").all()
    listing = list_cells(table, intensity="0-4095")
    assert listing.summary()["scaled"] == 2
    write_cells(listing.cells, tmp_path / "cells.parquet")
    cells = read_cells(tmp_path / "cells.parquet")
    assert intensities(cells) == [None, "0-4095", "0-4095"]
    for workers in (0, 1):
        (batch,) = decoded(cells["path"].tolist(), [np.array([2, 0, 1])], 16, workers, intensities(cells))
        expected = [load_squashed(Path(cells["path"][i]), 16, "0-4095") for i in (2, 0, 1)]
        np.testing.assert_array_equal(batch.numpy(), np.stack(expected))
    # Another scaling is another image: looked at again, and whatever was made of it is out of date.
    again = list_cells(table, intensity="percentile", previous=cells)
    assert again.inspected == 2
    assert pixels_digest(again.cells) != pixels_digest(cells)
    changed = difference(cells, again.cells)
    assert changed is not None
    assert "2 changed" in changed
    assert list_cells(table, intensity="0-4095", previous=cells).inspected == 0


def test_tables_of_before_are_looked_at_again_and_plain_cells_stay_up_to_date(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "plain.png").write_bytes(saved(RGB, "PNG"))
    (tmp_path / "turned.jpg").write_bytes(saved(RGB, "JPEG", exif=exif))
    cells = list_cells(tmp_path).cells
    assert cells.set_index("cell_id").loc["turned.jpg", ["width", "height"]].tolist() == [HEIGHT, WIDTH]
    before = cells.drop(columns=["file_intensity", "file_note"])
    again = list_cells(tmp_path, previous=before)
    assert again.inspected == 2
    plain, turned = (cells["cell_id"] == name for name in ("plain.png", "turned.jpg"))
    assert pixels_digest(before[plain]) == pixels_digest(again.cells[plain])
    assert difference(before[plain], again.cells[plain]) is None
    assert pixels_digest(before[turned]) != pixels_digest(again.cells[turned])  # it was embedded lying on its side


@pytest.mark.parametrize("text", ["", "FULL", "5", "9-3", "3-3", "a-b", "0-inf", "nan-1", "1-2-3"])
def test_scalings_that_are_none(text: str) -> None:
    with pytest.raises(CytosaeError, match="--intensity"):
        ImageConfig(text)


def test_windows() -> None:
    assert intensity_window("0-4095") == (0, 4095)
    assert intensity_window("-100-1e3") == (-100, 1000)
    assert intensity_window("-0.5--.25") == (-0.5, -0.25)
    assert intensity_window("full") is None


def test_the_command_takes_a_scaling_and_says_what_is_ignored(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = _microscope(tmp_path)
    (tmp_path / "plain.png").write_bytes(saved(RGB, "PNG", icc_profile=b"nonsense"))
    (tmp_path / "cut.tif").write_bytes(tiff(RGB, photometric="rgb", compression="lzw")[:900])
    table.write_text(table.read_text() + "cut.tif\n")
    done = CliRunner().invoke(app, ["cells", str(table), "-o", str(tmp_path / "out"), "--intensity", "full"])
    assert done.exit_code == 0, done.output
    said = capfd.readouterr().err + done.output
    assert "broken ICC profile" in said
    assert "plain.png" in said
    assert "Warning" not in said
    assert "TIFF" not in said  # libtiff would speak for itself
    assert intensities(read_cells(tmp_path / "out" / "cells.parquet")) == [None, "full", "full"]


def test_names_and_files_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(saved(RGB, "PNG"))
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "slide.tif").write_bytes(b"")
    os.truncate(tmp_path / "slide.tif", 2_000_000_000)  # of holes
    odd = 'quote " and\nnew line.png'
    (tmp_path / odd).write_bytes(saved(RGB, "PNG"))
    longest = "x" * 251 + ".png"
    (tmp_path / longest).write_bytes(saved(RGB, "PNG"))
    names = ["good.png", odd, longest, "folder.png", "slide.tif", "y" * 300 + ".png"]
    pd.DataFrame({"path": names}).to_parquet(tmp_path / "cells.parquet")
    listing = list_cells(tmp_path / "cells.parquet")
    assert listing.cells["cell_id"].tolist() == names[:3]
    reasons = dict(zip(listing.rejected["cell_id"], listing.rejected["reason"], strict=True))
    assert "folder" in reasons["folder.png"]
    assert "2.0 GB" in reasons["slide.tif"]
    assert "too long" in reasons[names[-1]]
    assert load_squashed(tmp_path / odd, 8).shape == (8, 8, 3)
    with pytest.raises(UnreadableImage, match="name"):
        load_squashed(Path("null\0.png"), 8)


def test_an_upload_is_scaled_as_the_cells_of_its_study(tmp_path: Path) -> None:
    table, folder = _microscope(tmp_path), tmp_path / "study"
    folder.mkdir()
    for scaling in (None, "0-4095"):
        write_cells(list_cells(table, intensity=scaling).cells, folder / "cells.parquet")
        pictures = CellImages(SimpleNamespace(folder=folder))
        assert pictures.intensity == scaling
        cell = pictures.file(SimpleNamespace(name=tmp_path.name, check_row=int, names=lambda rows: ["plain.png"]), 0)
        assert cell == (tmp_path / "plain.png", None)
    np.testing.assert_array_equal(
        np.asarray(_decoded("x", tiff(DEEP, photometric="rgb"), "0-4095")), linear(DEEP, 0, 4095)
    )
    for data, status in ((tiff(DEEP, photometric="rgb"), 415), (saved(Image.new("1", (9000, 9000)), "PNG"), 413)):
        with pytest.raises(HTTPException) as refused:
            _decoded("x", data, None)
        assert refused.value.status_code == status
