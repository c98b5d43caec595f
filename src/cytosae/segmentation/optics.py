"""How much light the stain takes away: optical density against the empty background of the same image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_DARK = 4.0
"""Added to 8-bit values, so that black has a density."""
_MODE = 0.15
"""Height of the brightest mode of brightness that counts as background, against the highest."""
_NEAR = 8
"""Levels around that mode from which the background is fitted."""
_CURVED = 0.15
"""Share of background above which its brightness is fitted by a parabola rather than by one level."""
_MOST = 1.6
"""Densities are cut here: hardly any light is left."""


@dataclass(frozen=True)
class Optics:
    """Optical density of an image against its own background."""

    density: NDArray[np.float64]
    """``(height, width, 3)``, of red, green and blue light; below 0 where a pixel is brighter than the background."""
    noise: float
    """Standard deviation of the smoothed density of the background."""
    background: float
    """Share of the image that is background."""

    @property
    def stain(self) -> NDArray[np.float64]:
        """Density, and 0 where it is below."""
        return np.maximum(self.density, 0)


def measure_optics(pixels: NDArray[np.uint8]) -> Optics:
    r"""Optical density against the background, whose brightness may vary over the image.

    .. math:: D_c = \log_{10} \frac{I_{0,c}(x, y)}{I_c(x, y)}

    (Beer and Lambert; Ruifrok & Johnston, Anal Quant Cytol Histol 2001). The background *I_0* is a parabola in x and y
    through the pixels around the brightest mode of brightness, one level where these are few.

    Parameters
    ----------
    pixels
        RGB, ``(height, width, 3)``.

    Examples
    --------
    >>> image = np.full((40, 40, 3), 240, np.uint8)
    >>> image[10:20, 10:20] = (90, 40, 130)
    >>> optics = measure_optics(image)
    >>> round(optics.background, 2), [round(float(d), 2) for d in optics.density[15, 15]]
    (0.94, [0.41, 0.74, 0.26])
    """
    values = pixels.astype(np.float64)
    brightness = ndimage.uniform_filter(values.mean(axis=2), 3)
    chosen = np.abs(brightness - _brightest_mode(brightness)) <= _NEAR
    height, width = brightness.shape
    y, x = np.mgrid[:height, :width]
    y, x = y / height - 0.5, x / width - 0.5
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)
    light = np.log10(values + _DARK)
    density, mean = np.zeros_like(light), np.zeros_like(brightness)
    for _ in range(2):
        basis = terms if chosen.mean() > _CURVED else terms[..., :1]
        level = np.linalg.lstsq(basis[chosen], light[chosen], rcond=None)[0]
        density = basis @ level - light
        mean = ndimage.uniform_filter(density.mean(axis=2), 3)
        spread = 1.4826 * np.median(np.abs(mean[chosen] - np.median(mean[chosen]))) + 0.002
        chosen = np.abs(mean) < 3 * spread
        if chosen.mean() < 0.01:
            break
    brighter = -mean[mean < 0]
    noise = 1.4826 * float(np.median(brighter)) if brighter.size > 20 else 0.005
    return Optics(np.clip(density, -0.2, _MOST), noise, float(chosen.mean()))


def _brightest_mode(brightness: NDArray[np.float64]) -> int:
    """The brightest level at which the histogram has a mode that is not tiny."""
    counts = np.bincount(np.clip(brightness, 0, 255).astype(int).ravel(), minlength=256).astype(float)
    counts = np.r_[0.0, ndimage.gaussian_filter1d(counts, 3), 0.0]
    inner = counts[1:-1]
    modes = np.flatnonzero((inner >= counts[:-2]) & (inner > counts[2:]) & (inner > _MODE * inner.max()))
    return int(modes[-1]) if modes.size else int(inner.argmax())
