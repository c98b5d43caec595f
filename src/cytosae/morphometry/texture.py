"""Texture of nucleus and cytoplasm: co-occurrence, granularity, granules, vacuoles, nucleoli."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops
from skimage.morphology import disk

from cytosae.morphometry.stain import unmix
from cytosae.segmentation.registry import GRANULARITY_RADII

Mask = NDArray[np.bool_]
Plane = NDArray[np.float64]

_LEVELS, _MOST = 16, 1.2
"""Levels of density of the co-occurrence, and the density of the highest."""
_STEP = 1 / 40
"""Distance of the pixels whose densities are compared, in diameters of the cell."""
_GRANULE, _VACUOLE, _NUCLEOLUS = 0.03, 0.1, 0.08
"""Radii of granules, vacuoles and nucleoli, in diameters of the cell; at most."""
_PALER = 0.35
"""Density of a vacuole over the median of its cytoplasm, at most."""
_LEAST = 12
"""Pixels of a tissue below which its texture is not measured."""


def texture_of(density: NDArray[np.float64], nucleus: Mask, cytoplasm: Mask) -> dict[str, float]:
    """Texture of nucleus and cytoplasm, see `cytosae.morphometry.MEASUREMENTS`; NaN for a tissue of few pixels.

    Both are made narrower by a pixel first, so that their borders are no texture.

    Parameters
    ----------
    density
        ``(height, width, 3)``.
    nucleus, cytoplasm
        ``(height, width)``.
    """
    mean = density.mean(axis=2)
    diameter = 2 * np.sqrt((nucleus | cytoplasm).sum() / np.pi)
    inner = {name: _within(mask) for name, mask in (("nucleus", nucleus), ("cytoplasm", cytoplasm))}
    filled = {name: filled_beyond(mean, mask) for name, mask in inner.items()}
    result: dict[str, float] = {}
    for name, mask in inner.items():
        result |= {f"{name}_{key}": value for key, value in _co_occurrence(mean, mask, diameter).items()}
        spectrum = granularity(filled[name], mask, diameter)
        result |= {f"{name}_granularity_{number}": value for number, value in enumerate(spectrum, 1)}
    enough = inner["nucleus"].sum() >= _LEAST
    values = mean[inner["nucleus"]]
    result["chromatin_roughness"] = float(values.std() / max(values.mean(), 1e-6)) if enough else np.nan
    pale = ndimage.black_tophat(filled["nucleus"], footprint=_disc(_NUCLEOLUS * diameter))
    result["nucleolus_score"] = float(pale[inner["nucleus"]].mean()) if enough else np.nan
    return result | _cytoplasm(density, filled["cytoplasm"], inner["cytoplasm"], diameter)


def _cytoplasm(density: NDArray[np.float64], filled: Plane, mask: Mask, diameter: float) -> dict[str, float]:
    """Granules and vacuoles."""
    if mask.sum() < _LEAST:
        return dict.fromkeys(("granule_score", "granule_redness", "vacuole_share", "vacuole_contrast"), np.nan)
    dark = ndimage.white_tophat(filled, footprint=_disc(_GRANULE * diameter))[mask]
    azure, eosin = (dark @ unmix(density)[mask]) / max(dark.sum(), 1e-9)
    pale = ndimage.black_tophat(filled, footprint=_disc(_VACUOLE * diameter))[mask]
    around = pale + filled[mask]
    return {
        "granule_score": float(dark.mean()),
        "granule_redness": float((eosin - azure) / max(eosin + azure, 1e-9)),
        "vacuole_share": float((filled[mask] < _PALER * np.median(filled[mask])).mean()),
        "vacuole_contrast": float(np.percentile(pale / np.maximum(around, 0.05), 97)),
    }


def granularity(density: Plane, mask: Mask, diameter: float) -> list[float]:
    """Granularity spectrum of a tissue: what openings with growing discs take away, each beyond the one before.

    After Maragos (IEEE Trans PAMI 1989); radii are `GRANULARITY_RADII` diameters of the cell, and no two the same.
    """
    if mask.sum() < _LEAST:
        return [np.nan] * len(GRANULARITY_RADII)
    total = max(float(density[mask].sum()), 1e-9)
    left, shares, before = total, [], 0
    for share in GRANULARITY_RADII:
        radius = max(before + 1, round(share * diameter))
        opened = float(ndimage.grey_opening(density, footprint=disk(radius))[mask].sum())
        shares.append(max(0.0, left - opened) / total)
        left, before = min(left, opened), radius
    return shares


def _co_occurrence(mean: Plane, mask: Mask, diameter: float) -> dict[str, float]:
    """Contrast, homogeneity and correlation (Haralick et al., IEEE Trans SMC 1973) over four directions, within a mask."""
    names = ("contrast", "homogeneity", "correlation")
    if mask.sum() < _LEAST:
        return dict.fromkeys(names, np.nan)
    levels = 1 + np.clip(mean / _MOST * _LEVELS, 0, _LEVELS - 1).astype(np.uint8)
    levels[~mask] = 0
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    counts = graycomatrix(levels, [max(1, round(_STEP * diameter))], angles, levels=_LEVELS + 1, symmetric=True)
    inside = counts[1:, 1:].astype(float)
    inside /= np.maximum(inside.sum(axis=(0, 1)), 1)
    return {name: float(graycoprops(inside, name).mean()) for name in names}


def filled_beyond(values: Plane, mask: Mask) -> Plane:
    """Values within a mask, and outside it those of its nearest pixel: a border without an edge."""
    if not mask.any():
        return values
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return np.asarray(values[nearest[0], nearest[1]])


def _within(mask: Mask) -> Mask:
    narrow = ndimage.binary_erosion(mask)
    return narrow if narrow.sum() >= _LEAST else mask


def _disc(radius: float) -> NDArray[np.uint8]:
    return np.asarray(disk(max(1, round(radius))))
