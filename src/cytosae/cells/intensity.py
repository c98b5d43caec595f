"""From more than 8 bits a channel to 8: how bright a value is shown is stated, never guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells.samples import Samples, UnreadableImage
from cytosae.settings import intensity_window

PERCENTILES = (0.1, 99.9)
"""What ``percentile`` takes as black and white, over all pixels and colours of one image."""
_TOGETHER = 2**22  # values that are scaled together


def to_image(samples: Samples, intensity: str | None) -> tuple[Image.Image, str | None]:
    """The image with 8 bits a channel, in L, LA, RGB or RGBA, and the scaling where one was needed."""
    pixels = to_eight_bits(samples, intensity)
    if samples.white_is_zero:
        pixels = 255 - pixels
    if samples.alpha is not None:
        opaque = 1.0 if samples.alpha.dtype.kind == "f" else 2**samples.bits - 1
        pixels = np.concatenate([pixels, scaled(samples.alpha, 0, opaque)[..., None]], axis=-1)
    deep = samples.values.dtype != np.uint8
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels), intensity if deep else None


def to_eight_bits(samples: Samples, intensity: str | None) -> NDArray[np.uint8]:
    """Scale an image linearly to 0 to 255; values outside of the window become black or white.

    Parameters
    ----------
    samples
        The image.
    intensity
        ``full`` (whole range of the type; 0 to 1 for floating point), ``percentile`` (`PERCENTILES` of this image) or
        ``LOW-HIGH``. Images with 8 bits or fewer always take their full range.

    Returns
    -------
    uint8, in the shape of the values.

    Raises
    ------
    UnreadableImage
        No scaling is given, values that are not finite, floating point outside of 0 to 1 with ``full``, or no contrast.
    """
    values = samples.values
    if values.dtype == np.uint8:
        return scaled(values, 0, 2**samples.bits - 1)
    if values.dtype.kind not in "uif":
        raise UnreadableImage(f"values of type {values.dtype}; save it with 8 bits a channel")
    if not np.isfinite(values).all():
        raise UnreadableImage(
            "holds values that are not finite (NaN or infinite); replace them, or leave the image out"
        )
    least, most = values.min(), values.max()
    if intensity is None:
        raise UnreadableImage(
            f"{_kind(samples)}, values {least:g} to {most:g}: how bright they are meant is unknown; say it with "
            "--intensity full, percentile or LOW-HIGH, or save the image with 8 bits a channel"
        )
    return scaled(values, *_window(samples, intensity, float(least), float(most)))


def _kind(samples: Samples) -> str:
    names = {"u": "", "i": " signed", "f": " floating-point"}
    return f"{samples.bits}{names[samples.values.dtype.kind]} bits a channel"


def _window(samples: Samples, intensity: str, least: float, most: float) -> tuple[float, float]:
    """The values that become black and white."""
    window = intensity_window(intensity)
    if window is not None:
        return window
    if intensity == "percentile":
        low, high = (float(value) for value in np.percentile(samples.values, PERCENTILES))
        if low == high:  # a few bright pixels in front of nothing
            low, high = least, most
        if low == high:
            raise UnreadableImage(f"every value is {low:g}: no contrast that --intensity percentile could scale")
        return low, high
    if samples.values.dtype.kind == "f":
        if least < 0 or most > 1:
            raise UnreadableImage(
                f"floating-point values {least:g} to {most:g}, with --intensity full they are 0 to 1; give LOW-HIGH"
            )
        return 0.0, 1.0
    half = 2 ** (samples.bits - 1)
    return (-half, half - 1) if samples.values.dtype.kind == "i" else (0, 2 * half - 1)


def scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Values from `low` to `high` as 0 to 255, rounded."""
    result = np.empty(values.shape, np.uint8)
    flat, out = np.ascontiguousarray(values).reshape(-1), result.reshape(-1)
    for start in range(0, len(flat), _TOGETHER):  # in float64, which for all at once would take eight times the memory
        chunk = flat[start : start + _TOGETHER].astype(np.float64)
        out[start : start + _TOGETHER] = np.rint(np.clip((chunk - low) / (high - low), 0, 1) * 255)
    return result
