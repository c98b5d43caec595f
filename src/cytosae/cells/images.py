"""From an image file to 8-bit RGB pixels, or a reason why not."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cytosae.storage import StoredPath, contents

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
"""Image formats that are read, by lower-case file ending."""

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
_DEEP_MODES = ("I", "F")  # Pillow's modes of 16 and 32 bits a channel begin with these


class UnreadableImage(Exception):
    """An image that cannot become a cell; the message is the reason, for the table of rejected cells."""


def _deep(image: Image.Image) -> bool:
    # Pillow silently keeps the high byte of 16-bit colour: only the raw mode of the first tile tells.
    raw = [str(argument) for tile in getattr(image, "tile", []) for argument in (tile[3],)]
    return image.mode.startswith(_DEEP_MODES) or any(";16" in text for text in raw)


def decode(data: bytes) -> Image.Image:
    """Decode JPEG, PNG, TIFF or BMP bytes to an RGB image.

    Grey, palette, CMYK and alpha become RGB; transparent pixels are laid over white.

    Raises
    ------
    UnreadableImage
        With the reason: empty, truncated, not an image, more than 8 bits a channel.
    """
    if not data:
        raise UnreadableImage("file is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if _deep(image):
                raise UnreadableImage(
                    f"more than 8 bits a channel (mode {image.mode}): its grey scale is unknown; convert it to 8 bits"
                )
            image.load()
            if image.has_transparency_data:
                layer = image.convert("RGBA")
                white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
                return Image.alpha_composite(white, layer).convert("RGB")
            return image.convert("RGB")
    except UnidentifiedImageError:
        raise UnreadableImage("not a JPEG, PNG, TIFF or BMP image") from None
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"too large ({error})") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow raises any of these for damaged files.
        raise UnreadableImage(f"damaged: {error}") from None


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises
    ------
    UnreadableImage
        With the reason: missing, a folder, no permission.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadableImage("file is missing") from None
    except IsADirectoryError:
        raise UnreadableImage("a folder, not a file") from None
    except OSError as error:
        raise UnreadableImage(f"cannot be read ({error.strerror})") from None


def read_many(paths: Sequence[Path]) -> Iterator[bytes | UnreadableImage]:
    """The bytes of image files, or why there are none; those at URLs are read side by side."""
    stored = iter(contents([path.url for path in paths if isinstance(path, StoredPath)]))
    for path in paths:
        try:
            data = next(stored) if isinstance(path, StoredPath) else read_bytes(path)
            yield UnreadableImage("file is missing") if data is None else data
        except UnreadableImage as reason:
            yield reason


def inspect(path: Path) -> tuple[int, int, str]:
    """Decode an image in full; returns width, height and the SHA-256 of the file's bytes."""
    data = read_bytes(path)
    image = decode(data)
    return image.width, image.height, hashlib.sha256(data).hexdigest()


def load_squashed(path: Path, size: int) -> NDArray[np.uint8]:
    """Read an image and squash it to a square.

    Every image takes the same size whatever its own, so that image size cannot tell one class from another.

    Parameters
    ----------
    path
        Image file.
    size
        Edge of the square in pixels.

    Returns
    -------
    Pixels, uint8 of shape ``(size, size, 3)``; bilinear with antialiasing, as in Pillow.
    """
    return squashed(decode(read_bytes(path)), size)


def squashed(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The pixels of an image squashed to a square, see `load_squashed`."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)
