"""From a cell type and a random generator to an image and its masks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from cytosae.synthetic.concepts import BITS, CONCEPTS
from cytosae.synthetic.laboratory import LABORATORIES, REFERENCE, Laboratory
from cytosae.synthetic.noise import SIZE, Field
from cytosae.synthetic.recipes import CELL_TYPES, RECIPES, TRAIT_RATES
from cytosae.synthetic.scene import Scene, new_scene

RENDERER_VERSION = 1
"""Goes up whenever a rendered byte changes."""

_ALL_TRAITS = tuple(name for name in CONCEPTS if any(name in rates for rates in TRAIT_RATES.values()))


def render_cell(
    cell_type: str,
    rng: np.random.Generator,
    *,
    laboratory: Laboratory = REFERENCE,
    traits: Mapping[str, float] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Render one cell.

    Parameters
    ----------
    cell_type
        One of `CELL_TYPES`.
    rng
        Source of all randomness; the same state gives the same picture.
    laboratory
        Style of stain, light and optics.
    traits
        Optional concept -> probability that this cell carries it, instead of the rate in `TRAIT_RATES`.
        A concept that cells of this type never carry is passed over.

    Returns
    -------
    image
        uint8, shape (224, 224, 3), RGB.
    masks
        uint32, shape (224, 224); bit ``b`` is set where ``CONCEPTS[b]`` is present.

    Raises
    ------
    ValueError
        Unknown cell type, unknown trait, or a probability outside of 0 to 1.
    """
    if cell_type not in RECIPES:
        raise ValueError(f"unknown cell type {cell_type!r}; known: {', '.join(CELL_TYPES)}")
    carried = drawn_traits(cell_type, rng, traits or {})
    um = laboratory.pixels_per_um * float(np.exp(0.05 * laboratory.variation * rng.normal()))
    scene = new_scene(rng, um)
    RECIPES[cell_type](scene, carried)
    scene.masks[scene.masks == 0] = BITS["background"]
    return photograph(scene, laboratory), scene.masks


def drawn_traits(cell_type: str, rng: np.random.Generator, asked: Mapping[str, float]) -> dict[str, bool]:
    """Which optional concepts this cell carries; one draw per trait, whatever the type and the rates."""
    for name, rate in asked.items():
        if name not in _ALL_TRAITS:
            raise ValueError(f"unknown trait {name!r}; known: {', '.join(_ALL_TRAITS)}")
        if not 0 <= rate <= 1:
            raise ValueError(f"the rate of trait {name!r} is {rate}, not between 0 and 1")
    rates = TRAIT_RATES[cell_type]
    draws = rng.random(len(_ALL_TRAITS))
    return {
        name: bool(draw < asked.get(name, rates[name]))
        for name, draw in zip(_ALL_TRAITS, draws, strict=True)
        if name in rates
    }


def photograph(scene: Scene, laboratory: Laboratory) -> NDArray[np.uint8]:
    """Light through the stained slide (Beer-Lambert), blurred by the optics, read by a noisy camera."""
    rng = scene.rng
    vary = laboratory.variation
    strength = np.exp(vary * (0.05 * rng.normal() + 0.06 * rng.normal(size=4)))
    stains = np.array([laboratory.purple, laboratory.blue, laboratory.eosin, laboratory.haemoglobin])
    stains = stains * strength[:, None] * np.exp(0.025 * vary * rng.normal(size=(4, 3)))
    density = np.tensordot(stains.astype(np.float32), scene.amounts, axes=(0, 0))

    white = np.array(laboratory.white) * np.exp(vary * (0.012 * rng.normal() + 0.008 * rng.normal(size=3)))
    light = _illumination(scene, laboratory)
    # Saturation: a camera does not go to zero where the stain is deepest.
    image = np.exp(-density)
    image *= light
    image *= np.minimum(white, 255).astype(np.float32)[:, None, None]
    image += np.float32(4.0)

    blur = laboratory.focus * float(np.exp(0.22 * vary * rng.normal()))
    for axis in (1, 2):
        image = gaussian_filter1d(image, blur, axis=axis, mode="nearest", truncate=3.0)
    grain = rng.standard_normal(image.shape[1:], dtype=np.float32)
    colour_grain = rng.standard_normal(image.shape, dtype=np.float32)
    image += np.float32(laboratory.noise) * (np.float32(0.75) * grain + np.float32(0.6) * colour_grain)
    return np.ascontiguousarray(np.clip(image + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def _illumination(scene: Scene, laboratory: Laboratory) -> Field:
    """Uneven light: a slope and a fall-off towards the corners, both weak."""
    rng = scene.rng
    half = np.float32(max(scene.x.shape) / 2)
    slope_x, slope_y = (np.float32(v) for v in 0.012 * laboratory.variation * rng.normal(size=2))
    x, y = scene.x / half, scene.y / half
    return 1 + slope_x * x + slope_y * y - np.float32(0.5 * laboratory.vignette) * (x * x + y * y)


def random_cells(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """A balanced mix of cell types, traits and laboratories.

    Cell ``i`` depends on ``(seed, i)`` alone: types take turns, a quarter of the cells show each laboratory on
    average, and rare optional concepts are raised so that each is seen often.

    Parameters
    ----------
    n
        Number of cells.
    seed
        Non-negative.

    Returns
    -------
    images
        uint8, shape (n, 224, 224, 3).
    masks
        uint32, shape (n, 224, 224).
    """
    images = np.empty((n, SIZE, SIZE, 3), dtype=np.uint8)
    masks = np.empty((n, SIZE, SIZE), dtype=np.uint32)
    styles = (REFERENCE, *LABORATORIES)
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i,)))
        style = styles[int(rng.integers(len(styles)))]
        cell_type = CELL_TYPES[i % len(CELL_TYPES)]
        images[i], masks[i] = render_cell(cell_type, rng, laboratory=style, traits=_RAISED[cell_type])
    return images, masks


_RAISED: Mapping[str, Mapping[str, float]] = {
    cell_type: {name: min(max(rate, 0.25), 0.85) for name, rate in rates.items()}
    for cell_type, rates in TRAIT_RATES.items()
}
"""Rates for `random_cells`: every optional concept both occurs and is missing in a fair share of the cells."""
