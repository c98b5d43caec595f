"""How strongly nucleus and cytoplasm are stained, and with what."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_AZURE = np.array([0.834750, 0.513556, 0.196330])
_EOSIN = np.array([0.092789, 0.954111, 0.283111])
"""Densities of red, green and blue light of methylene blue and of eosin in Giemsa's stain (G. Landini)."""
_UNMIX = np.linalg.inv(np.stack([_AZURE, _EOSIN, np.cross(_AZURE, _EOSIN) / np.linalg.norm(np.cross(_AZURE, _EOSIN))]))


def unmix(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Densities of azure and of eosin, ``(..., 2)``, from those of red, green and blue, ``(..., 3)``; at least 0.

    Colour deconvolution (Ruifrok & Johnston, Anal Quant Cytol Histol 2001) with a third, perpendicular colour for the rest.

    Examples
    --------
    >>> unmix(2 * _AZURE).round(3).tolist()
    [2.0, 0.0]
    """
    return np.asarray(np.maximum(density @ _UNMIX, 0)[..., :2])


def stain_of(
    density: NDArray[np.float64], nucleus: NDArray[np.bool_], cytoplasm: NDArray[np.bool_]
) -> dict[str, float]:
    """Mean densities of nucleus and cytoplasm; NaN for a cytoplasm without a pixel."""
    stains = unmix(density)
    result: dict[str, float] = {}
    for name, mask in (("nucleus", nucleus), ("cytoplasm", cytoplasm)):
        mean = density[mask].mean() if mask.any() else np.nan
        azure, eosin = stains[mask].mean(axis=0) if mask.any() else (np.nan, np.nan)
        result |= {f"{name}_density": float(mean), f"{name}_azure": float(azure), f"{name}_eosin": float(eosin)}
    return result
