"""Views of a cell as many laboratories might show it: stain, light, focus, compression and scale far beyond one laboratory.

What has to be predicted stays that of the undisturbed image (`training.tiny.targets`), so the backbone has to see through
the stain; two such views of a cell have to agree.
"""

from __future__ import annotations

import io
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cytosae.harmonise.images import density, from_density
from cytosae.synthetic import CELL_TYPES, LABORATORIES, REFERENCE, Laboratory, render_cell
from training.tiny.data import SIZE, Geometry, Pixels

HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density (R, G, B) of haematoxylin, eosin and the residual, a row each (Ruifrok and Johnston 2001)."""
LARGEST = 1.4
"""Edge of a view, in edges of the image, at most; beyond the border the image is reflected."""
SMALLEST = 0.5
"""Edge of a view at least."""

_DENSITY = density(np.arange(256)).astype(np.float32)  # a table costs a tenth of the logarithms

Colours = NDArray[np.float64]


def hed_jitter(rng: np.random.Generator, strength: float = 0.25) -> Colours:
    """Each dye stronger or weaker: a map of optical densities ``(3, 3)`` (Tellez et al. 2018)."""
    rows = HED / np.linalg.norm(HED, axis=1, keepdims=True)
    return np.asarray(np.linalg.inv(rows) @ np.diag(np.exp(rng.uniform(-strength, strength, 3))) @ rows)


def laboratory_shift(rng: np.random.Generator) -> tuple[Colours, Colours]:
    """Mean and deviation of a channel's optical density moved as between two laboratories: factor ``(3,)``, offset ``(3,)``.

    Reinhard's map (2001) to a laboratory that is drawn, not one that exists.
    """
    factor = np.exp(rng.uniform(-0.35, 0.35) + rng.uniform(-0.15, 0.15, 3))
    return factor, rng.uniform(-0.08, 0.12) + rng.uniform(-0.05, 0.05, 3)


def illumination(rng: np.random.Generator) -> NDArray[np.float64]:
    """Light of each pixel: a slope and a fall-off towards the corners, ``(SIZE, SIZE)``."""
    x = np.linspace(-1, 1, SIZE)
    slope, fall = rng.uniform(-0.08, 0.08, 2), rng.uniform(0, 0.12)
    away = x[None, :] ** 2 + x[:, None] ** 2
    return np.asarray(1 + slope[0] * x[None, :] + slope[1] * x[:, None] - 0.5 * fall * away)


def strong_view(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, Geometry]:
    """A random view of a cell: scale, place, turn, flip, stain of another laboratory, light, focus, compression.

    Parameters
    ----------
    image
        ``(224, 224, 3)``.
    rng
        Source of all randomness.

    Returns
    -------
    view
        uint8 ``(224, 224, 3)``.
    geometry
        What was done to the positions; its box may reach beyond the image, where the image is reflected.
    """
    side = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
    free = abs(1 - side)
    left, upper = min(1 - side, 0.0) + rng.uniform(0, free), min(1 - side, 0.0) + rng.uniform(0, free)
    geometry = Geometry((left, upper, left + side, upper + side), int(rng.integers(4)), bool(rng.integers(2)))
    pad = SIZE if side > 1 else 0
    wide = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), "symmetric")
    box = tuple(pad + SIZE * edge for edge in geometry.box)
    view = Image.fromarray(wide).resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.5:
        view = view.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 2.2)))
    factor, offset = laboratory_shift(rng)
    changed = _DENSITY[np.asarray(view)] @ (hed_jitter(rng) * factor).astype(np.float32) + offset.astype(np.float32)
    pixels = from_density(changed - np.log(illumination(rng)).astype(np.float32)[:, :, None])
    if rng.random() < 0.3:
        pixels = _compressed(pixels, int(rng.integers(30, 91)))
    return np.ascontiguousarray(geometry.oriented(pixels)), geometry


def _compressed(pixels: Pixels, quality: int) -> Pixels:
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file).convert("RGB"))


def random_laboratory(rng: np.random.Generator) -> Laboratory:
    """A style between two of the drawn laboratories and a little beyond, every number on its own way."""
    styles = (REFERENCE, *LABORATORIES)
    found = {}
    for field in fields(Laboratory):
        first, second = (styles[place] for place in rng.choice(len(styles), 2, replace=False))
        found[field.name] = getattr(first.toward(second, rng.uniform(-0.2, 1.2)), field.name)
    return Laboratory(**{**found, "name": "drawn"})


def cells_of_many_laboratories(n: int, seed: int) -> Pixels:
    """Drawn cells, each of a laboratory of its own, uint8 ``(n, 224, 224, 3)``; types take turns."""
    images = np.empty((n, SIZE, SIZE, 3), np.uint8)
    for place in range(n):
        rng = np.random.default_rng([seed, 20, place])
        images[place] = render_cell(CELL_TYPES[place % len(CELL_TYPES)], rng, laboratory=random_laboratory(rng))[0]
    return images
