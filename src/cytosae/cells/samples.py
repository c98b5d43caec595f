"""What lies in an image file before it is turned into 8-bit colours, and the reason why a file is no cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


class UnreadableImage(Exception):
    """An image that cannot become a cell; the message is the reason, for the table of rejected cells."""


class TooManyPixels(UnreadableImage):
    """An image that is larger than the caller takes."""


WHICH = "which of them is the cell is unknown; save it as a single image"


def channels_unknown(count: int | str) -> str:
    """Why an image of so many channels is refused."""
    return f"{count} channels: which of them to show is unknown; save it in grey or RGB"


def check_size(width: int, height: int, most_pixels: int) -> None:
    """Refuse an image without pixels, or with more than so many."""
    if width <= 0 or height <= 0:
        raise UnreadableImage(f"damaged: it has {width} x {height} pixels")
    if width * height > most_pixels:
        raise TooManyPixels(
            f"too large: {width} x {height} pixels, {width * height / 1e6:,.0f} megapixels; at most "
            f"{most_pixels / 1e6:g} are read"
        )


@dataclass(frozen=True)
class Samples:
    """Values of an image as its file holds them."""

    values: NDArray[Any]
    """``(height, width, channels)``: 1 grey or 3 colour channels, without alpha."""
    bits: int
    """Of a channel; those in use, where the file says that they are fewer than it stores."""
    alpha: NDArray[Any] | None = None
    """``(height, width)``, in the type of the values."""
    white_is_zero: bool = False
    orientation: int = 1
    """As in EXIF."""
    profile: bytes | None = None
    """ICC profile."""
