"""PNG and JPEG with more than 8 bits a channel, which Pillow cuts short or refuses."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
from PIL.PngImagePlugin import PngImageFile

from cytosae.cells.orientation import orientation
from cytosae.cells.samples import WHICH, Samples, UnreadableImage, channels_unknown, check_size

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers with the size of a JPEG


def deep_png(data: bytes, most_pixels: int) -> Samples:
    """The values of a PNG of 16 bits."""
    header = PngImageFile(io.BytesIO(data))
    check_size(*header.size, most_pixels)
    if header.is_animated:
        raise UnreadableImage(f"an animation of {header.n_frames} frames: {WHICH}")
    values = np.atleast_3d(imagecodecs.png_decode(data))
    alpha = values[..., -1] if values.shape[-1] in (2, 4) else None
    colours = values if alpha is None else values[..., :-1]
    return Samples(colours, 16, alpha, False, orientation(header), header.info.get("icc_profile"))


def deep_jpeg(data: bytes, most_pixels: int) -> Samples:
    """The values of a JPEG of 12 bits, or of another number but 8."""
    bits, height, width, channels = _frame(data)
    check_size(width, height, most_pixels)
    if channels not in (1, 3):
        raise UnreadableImage(channels_unknown(channels))
    return Samples(np.atleast_3d(imagecodecs.jpeg_decode(data)), bits)


def _frame(data: bytes) -> tuple[int, int, int, int]:
    """Bits, height, width and channels of a JPEG."""
    offset = 2
    while offset + 10 <= len(data):
        marker, length = data[offset + 1], int.from_bytes(data[offset + 2 : offset + 4], "big")
        if marker in _FRAMES:
            frame = data[offset + 4 : offset + 10]
            return frame[0], int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"), frame[5]
        offset += 1 if marker == 0xFF else 2 + length
    raise UnreadableImage("damaged: a JPEG without a frame")
