"""Image files whose pixels are known, of the kinds that no library writes for a user."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from cytosae.cells import decode
from cytosae.cells.samples import UnreadableImage

QUIET = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
"""The mark of tests that read odd files: pytest takes the package's own filter away."""
HEIGHT, WIDTH = 20, 30
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[..., 0].copy()
ALPHA = RANDOM.integers(1, 256, (HEIGHT, WIDTH), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
SMOOTH = np.stack([np.add.outer(np.arange(HEIGHT) * 3, np.arange(WIDTH) * 4) + 10 * c for c in range(3)], -1).astype(
    "u1"
)
SHARE = ALPHA[..., None] / 255
OVER_WHITE = np.rint(RGB * SHARE + 255 * (1 - SHARE))


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def planes(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


def saved(image: Image.Image | NDArray[Any], form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form, **options)
    return file.getvalue()


def seen(data: bytes, intensity: str | None = None) -> NDArray[np.int64]:
    return np.asarray(decode(data, intensity)).astype(np.int64)


def refusal(data: bytes, intensity: str | None = None) -> str:
    with pytest.raises(UnreadableImage) as reason:
        decode(data, intensity)
    return str(reason.value)


def linear(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """The stated scaling, once more; grey in three channels."""
    share = (values.astype(np.float64) - low) / (high - low)
    scaled = np.rint(np.clip(share, 0, 1) * 255)
    return scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, axis=-1)


def grey(values: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(values[..., None], 3, axis=-1).astype(np.int64)


def png(values: NDArray[Any], kind: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG, with its bytes as they are: Pillow writes no 16-bit colour."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """sRGB with red and blue in each other's place."""
    data = bytearray(SRGB)
    for index in range(struct.unpack(">I", data[128:132])[0]):
        place = 132 + 12 * index
        name = bytes(data[place : place + 4])
        data[place : place + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    return bytes(data)


def grey_profile(gamma: float) -> bytes:
    """A grey profile with a power law."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    table = struct.pack(">I", 2) + b"wtpt" + struct.pack(">II", 156, 20) + b"kTRC" + struct.pack(">II", 176, 16)
    header = bytearray(128)
    header[0:4] = struct.pack(">I", 192)
    header[8:12], header[12:16], header[16:20], header[20:24] = b"\2\x10\0\0", b"mntr", b"GRAY", b"XYZ "
    header[36:40], header[68:80] = b"acsp", struct.pack(">3i", 63190, 65536, 54061)
    return bytes(header) + table + white + curve
