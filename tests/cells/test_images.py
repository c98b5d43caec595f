"""Image files of every kind: read as a person would see them, or refused with a reason; the truth is what was written."""

from __future__ import annotations

import io
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells import decode, list_cells, load_squashed, looks_like_image, read_image
from cytosae.cells.images import MOST_PIXELS
from cytosae.cells.samples import TooManyPixels, UnreadableImage
from support.image_files import (
    ALPHA,
    DEEP,
    GREY,
    HEIGHT,
    OVER_WHITE,
    QUIET,
    RGB,
    SMOOTH,
    SRGB,
    WIDTH,
    grey,
    linear,
    planes,
    png,
    refusal,
    saved,
    seen,
    tiff,
)

pytestmark = QUIET


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
