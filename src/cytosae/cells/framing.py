"""Which part of an image a cell's picture shows: all of it, a square of one physical size, or the cell with a margin.

The part is a square, so nothing is stretched. Where it reaches beyond the image, the image is reflected at its border.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytosae.errors import CytosaeError

_MOST = 4096
"""Pixels by which an image is reflected beyond a border, at most."""


class Frame(NamedTuple):
    """The square of an image that is shown, in its pixels; its edges may lie outside."""

    rule: str
    """How it was chosen, such as ``um 25`` or ``cell 0.25`` (`cytosae.settings.FrameConfig.rule`)."""
    left: float
    top: float
    right: float
    bottom: float

    def __str__(self) -> str:
        return f"{self.rule}: {self.left:.2f} {self.top:.2f} {self.right:.2f} {self.bottom:.2f}"

    @classmethod
    def parse(cls, text: str) -> Frame:
        """From the column ``file_frame`` of a listing.

        Raises
        ------
        CytosaeError
            The text is no frame.

        Examples
        --------
        >>> Frame.parse("um 25: -2.00 3.50 98.00 103.50").left
        -2.0
        """
        rule, colon, numbers = text.partition(": ")
        try:
            left, top, right, bottom = map(float, numbers.split())
        except ValueError:
            left = top = right = bottom = math.nan
        if not (colon and right > left and bottom > top):
            raise CytosaeError(f"column file_frame: {text!r} is no frame. List the cells again with `cytosae cells`.")
        return cls(rule, left, top, right, bottom)

    @classmethod
    def square(cls, rule: str, x: float, y: float, edge: float) -> Frame:
        """The square around a point, in pixels."""
        left, top, right, bottom = (round(v, 2) for v in (x - edge / 2, y - edge / 2, x + edge / 2, y + edge / 2))
        return cls(rule, left, top, right, bottom)


class Reading(NamedTuple):
    """How the file of a cell becomes its picture."""

    intensity: str | None = None
    """Scaling from more than 8 bits a channel, see `cytosae.settings.ImageConfig`."""
    frame: Frame | None = None
    """What is shown of the image; all of it if None."""


def framed(image: Image.Image, frame: Frame, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """The picture of a frame: what lies outside the image is reflected at its border.

    Parameters
    ----------
    image
        Any mode.
    frame
        What is shown.
    size
        Width and height of the picture, in pixels.
    method
        Interpolation.

    Examples
    --------
    >>> image = Image.fromarray(np.array([[10, 20], [30, 40]], np.uint8))
    >>> np.asarray(framed(image, Frame("cell 1", -1, -1, 3, 3), (4, 4), Image.Resampling.NEAREST))[0].tolist()
    [10, 10, 20, 20]
    """
    before = [min(_MOST, max(0, math.ceil(-edge))) for edge in (frame.left, frame.top)]
    after = [min(_MOST, max(0, math.ceil(edge - own))) for edge, own in zip(frame[3:], image.size, strict=True)]
    if any(before) or any(after):
        pixels = np.asarray(image)
        widths = [(before[1], after[1]), (before[0], after[0]), *[(0, 0)] * (pixels.ndim - 2)]
        image = Image.fromarray(np.pad(pixels, widths, mode="symmetric"))
    box = (
        max(0.0, frame.left + before[0]),
        max(0.0, frame.top + before[1]),
        min(float(image.size[0]), frame.right + before[0]),
        min(float(image.size[1]), frame.bottom + before[1]),
    )
    return image.resize(size, method, box)


def framed_array(values: NDArray[Any], frame: Frame, own: tuple[int, int], size: int) -> NDArray[Any]:
    """A map that covers a whole image ``(height, width)`` at any grid, cut to a frame: ``(size, size)``, nearest neighbour.

    Parameters
    ----------
    own
        Width and height of the image in pixels, in which the frame is given.
    """
    rows, columns = (
        np.clip(_reflected((low + (np.arange(size) + 0.5) * (high - low) / size) / edge) * count, 0, count - 1).astype(
            np.int64
        )
        for low, high, edge, count in (
            (frame.top, frame.bottom, own[1], values.shape[0]),
            (frame.left, frame.right, own[0], values.shape[1]),
        )
    )
    return values[rows[:, None], columns]


def _reflected(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places along an edge of length 1, reflected into it."""
    return np.asarray(1 - np.abs(1 - np.mod(places, 2)))
