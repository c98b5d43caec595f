"""What differs between laboratories although the cell is the same: stain, focus, compression."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

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


PERTURBATIONS: dict[str, Callable[[Pixels], Pixels]] = {"stain": stain, "blur": blur, "JPEG": jpeg}
"""By name, each with its usual strength."""
