"""What differs between laboratories although the cell is the same: stain, light, focus, compression, scale, position."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cytosae.cells.framing import Frame, framed

Pixels = NDArray[np.uint8]


def stain(pixels: Pixels, factors: tuple[float, float, float] = (1.15, 0.9, 1.05)) -> Pixels:
    """Another strength of the dyes: optical density of red, green and blue times `factors` (Beer and Lambert).

    Parameters
    ----------
    pixels
        RGB, uint8, ``(height, width, 3)``.
    """
    density = -np.log((pixels.astype(np.float32) + 1) / 256)
    return np.clip(np.exp(-density * np.array(factors, np.float32)) * 256 - 1, 0, 255).round().astype(np.uint8)


def blur(pixels: Pixels, radius: float = 1.5) -> Pixels:
    """Out of focus: Gaussian blur with a standard deviation of `radius` pixels."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def jpeg(pixels: Pixels, quality: int = 40) -> Pixels:
    """Compressed as JPEG with a quality from 1 to 95, and read again."""
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file).convert("RGB"))


def dim(pixels: Pixels, light: float = 0.8) -> Pixels:
    """Less light: every value times `light`."""
    return np.clip(pixels.astype(np.float32) * light, 0, 255).round().astype(np.uint8)


def scale(pixels: Pixels, factor: float = 1.15) -> Pixels:
    """Another magnification: about the middle, reflected at the border where it gets smaller."""
    height, width = pixels.shape[:2]
    x, y = width / 2, height / 2
    frame = Frame("scale", x - x / factor, y - y / factor, x + x / factor, y + y / factor)
    return np.asarray(framed(Image.fromarray(pixels), frame, (width, height), Image.Resampling.BILINEAR))


def turn(pixels: Pixels) -> Pixels:
    """A quarter of a turn."""
    return np.ascontiguousarray(np.rot90(pixels))


PERTURBATIONS: dict[str, Callable[[Pixels], Pixels]] = {"stain": stain, "blur": blur, "JPEG": jpeg}
"""By name, each with its usual strength."""

RESPONSES: dict[str, dict[str, Callable[[Pixels], Pixels]]] = {
    "stain": {
        "stain": stain,
        "paler": partial(stain, factors=(0.75, 0.78, 0.8)),
        "redder": partial(stain, factors=(0.85, 1.1, 1.3)),
        "dimmed": dim,
    },
    "optics": {
        "blur": blur,
        "JPEG": jpeg,
        "larger": scale,
        "smaller": partial(scale, factor=0.87),
        "turned": turn,
    },
}
"""What is done to a cell to see whether a concept is the cell's, by kind."""
