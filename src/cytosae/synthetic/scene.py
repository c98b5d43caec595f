"""The slide as amounts of stain per pixel, before light and camera, and what lies on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cytosae.synthetic.concepts import BITS
from cytosae.synthetic.geometry import Field, capsule, coverage, union, wavy_disc
from cytosae.synthetic.noise import SIZE, scattered_dots, smooth_noise

Tone: TypeAlias = tuple[float, float, float, float]
"""Amounts of purple, blue, eosin and haemoglobin."""

N_STAINS = 4


@dataclass(frozen=True)
class Scene:
    """A picture in the making; its two arrays are painted in place."""

    amounts: Field
    """Amount of each stain, float32, shape (4, 224, 224), order as in `Tone`."""
    masks: NDArray[np.uint32]
    """Bit field of planted concepts, shape (224, 224)."""
    x: Field
    """Pixels right of the middle of the cell, shape (224, 224)."""
    y: Field
    """Pixels below the middle of the cell, shape (224, 224)."""
    um: float
    """Pixels per micrometre."""
    rng: np.random.Generator
    """Source of all randomness of this picture."""
    alone: bool = False
    """Whether nothing lies around the cell."""

    def noise(self, sigma_um: float) -> Field:
        """Smooth noise of unit variance with a grain of `sigma_um` micrometres."""
        return smooth_noise(self.rng, sigma_um * self.um)

    def cover(self, alpha: Field, tone: Sequence[float | Field], texture: Field | None = None) -> None:
        """Replace what is there by `tone` (times `texture`, if given) where `alpha` is 1."""
        for stain, amount in enumerate(tone):
            wanted: Field = np.multiply(amount, np.float32(1) if texture is None else texture, dtype=np.float32)
            plane = self.amounts[stain]
            plane += alpha * (wanted - plane)

    def add(self, alpha: Field, tone: Tone) -> None:
        """Put `tone` on top of what is there, times `alpha`."""
        for stain, amount in enumerate(tone):
            if amount:
                self.amounts[stain] += np.float32(amount) * alpha

    def fade(self, alpha: Field, rest: float) -> None:
        """Leave only the share `rest` of every stain where `alpha` is 1."""
        np.multiply(self.amounts, 1 - np.float32(1 - rest) * alpha, out=self.amounts)

    def mark(self, concept: str, where: NDArray[np.bool_]) -> None:
        """Set the bit of a concept."""
        self.masks[where] |= BITS[concept]


def new_scene(rng: np.random.Generator, um: float, *, alone: bool = False) -> Scene:
    """Empty slide; the cell's middle lies within a few pixels of the middle of the image."""
    shift_x, shift_y = rng.normal(0, 4, 2)
    line = np.arange(SIZE, dtype=np.float32) - np.float32((SIZE - 1) / 2)
    x = np.broadcast_to(line - np.float32(shift_x), (SIZE, SIZE))
    y = np.broadcast_to((line - np.float32(shift_y))[:, None], (SIZE, SIZE))
    return Scene(
        amounts=np.zeros((N_STAINS, SIZE, SIZE), dtype=np.float32),
        masks=np.zeros((SIZE, SIZE), dtype=np.uint32),
        x=x,
        y=y,
        um=um,
        rng=rng,
        alone=alone,
    )


@dataclass(frozen=True)
class RedCellLook:
    """What the red cells of a slide have in common."""

    pallor: float
    """Depth of the central pallor, as a share."""
    filled: float
    """Haemoglobin where a cell is thickest."""
    crenated: bool
    """Whether they are echinocytes, an artefact of slow drying."""
    deformed: float
    """Height of the waves of their rims, as a share of the radius."""
    stretch: float
    """How far they are from round, likewise."""


def red_cell_look(rng: np.random.Generator) -> RedCellLook:
    """A look at random."""
    return RedCellLook(
        pallor=rng.uniform(0.35, 0.95),
        filled=rng.uniform(0.70, 1.08),
        crenated=rng.random() < 0.08,
        deformed=rng.uniform(0.01, 0.035),
        stretch=rng.uniform(0.0, 0.10),
    )


def red_cell(x: Field, y: Field, radius: float, look: RedCellLook, rng: np.random.Generator) -> tuple[Field, Field]:
    """Coverage and haemoglobin of one red cell around the origin, both of the shape of `x`.

    Parameters
    ----------
    x, y
        Pixels right of and below its middle.
    radius
        In pixels.
    """
    waves = [(2, rng.normal(0, 0.03) + look.stretch, rng.uniform(0, 6.3))]
    waves += [(n, look.deformed * rng.normal() / (n - 1), rng.uniform(0, 6.3)) for n in (3, 4, 5)]
    if look.crenated:
        waves.append((int(rng.integers(9, 15)), rng.uniform(0.01, 0.05), rng.uniform(0, 6.3)))
    distance = wavy_disc(x, y, radius, waves)
    depth = np.minimum(np.hypot(x, y) / np.float32(radius), 1)  # 0 in the middle, 1 at the rim
    own_pallor = np.clip(look.pallor + rng.normal(0, 0.12), 0, 0.95)
    sharp = rng.uniform(0.04, 0.09)
    width = rng.uniform(0.28, 0.50)
    dip = np.float32(own_pallor) / (1 + np.exp((depth - np.float32(width)) / np.float32(sharp)))
    profile = (1 - dip) * (0.86 + 0.14 * depth * depth) * np.float32(look.filled * rng.uniform(0.88, 1.08))
    return coverage(distance, 2.2), profile


def _patch(x: float, y: float, reach: float, scene: Scene) -> tuple[slice, slice] | None:
    """Part of the image within `reach` px of a point in cell coordinates; None outside the image."""
    left, top = x - float(scene.x[0, 0]), y - float(scene.y[0, 0])
    rows = slice(max(0, int(top - reach)), min(SIZE, int(top + reach) + 2))
    columns = slice(max(0, int(left - reach)), min(SIZE, int(left + reach) + 2))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    return rows, columns


def paint_red_cells(scene: Scene, cell_distance: Field, gap: float) -> None:
    """Scatter red cells with central pallor around the cell.

    Parameters
    ----------
    cell_distance
        Signed distance to the outline of the cell in the middle, px.
    gap
        Red cells keep about this distance, px, from it; below 0 some touch it.
    """
    rng = scene.rng
    radius = 3.6 * scene.um * rng.uniform(0.94, 1.06)
    crowding = rng.uniform(1.15, 2.15)  # distance of neighbours in radii; below 2 they overlap
    look = red_cell_look(rng)
    wanted = int(rng.integers(8, 40))
    placed: list[tuple[float, float]] = []
    half = SIZE / 2
    for _ in range(4 * wanted):
        if len(placed) == wanted:
            break
        px, py = rng.uniform(-half - 0.7 * radius, half + 0.7 * radius, 2)
        row = min(SIZE - 1, max(0, int(py - scene.y[0, 0])))
        column = min(SIZE - 1, max(0, int(px - scene.x[0, 0])))
        outside = max(0.0, abs(px) - half) + max(0.0, abs(py) - half)
        if cell_distance[row, column] + outside < radius + gap + rng.uniform(-3, 3):
            continue
        if any((px - qx) ** 2 + (py - qy) ** 2 < (crowding * radius) ** 2 for qx, qy in placed):
            continue
        placed.append((px, py))
        own = radius * rng.uniform(0.9, 1.1)
        window = _patch(px, py, 1.35 * own, scene)
        if window is None:
            continue
        x, y = scene.x[window] - np.float32(px), scene.y[window] - np.float32(py)
        alpha, profile = red_cell(x, y, own, look, rng)
        plane = scene.amounts[3][window]
        # Where red cells overlap each is squeezed thinner, so that amounts add up to less than their sum.
        plane += alpha * profile * (1 - np.float32(0.40) * np.minimum(plane, 1))
        if rng.random() < 0.015:  # polychromatic red cells keep some RNA
            scene.amounts[1][window] += alpha * np.float32(0.10)
        scene.masks[window][alpha > 0.5] |= BITS["red_cell"]


def paint_platelet(scene: Scene, px: float, py: float, radius: float) -> None:
    """One platelet: pale blue outer zone (hyalomere) around purple granules (granulomere).

    Parameters
    ----------
    px, py
        Its middle in cell coordinates, px.
    radius
        Its radius, px.
    """
    rng = scene.rng
    x = scene.x + scene.noise(0.5) * np.float32(0.07 * radius) - np.float32(px)
    y = scene.y + scene.noise(0.5) * np.float32(0.07 * radius) - np.float32(py)
    waves = [(n, rng.normal(0, 0.16) / n, rng.uniform(0, 6.3)) for n in (2, 3, 4, 5, 7)]
    distance = wavy_disc(x, y, radius, waves)
    alpha = coverage(distance, 2.0)
    scene.cover(alpha * 0.92, (0.09, 0.20, 0.05, 0.0), 1 + 0.16 * scene.noise(0.25))
    core = np.clip(-distance / np.float32(0.6 * radius), 0, 1)
    scene.add(core * alpha, (0.16, 0.02, 0.08, 0.0))
    for spacing, size in ((0.68, 0.24), (0.55, 0.17)):
        far, own, dot_size = scattered_dots(rng, spacing * scene.um)
        dots = coverage(far - (0.7 + 0.6 * dot_size) * np.float32(size * scene.um))
        scene.add(dots * (own < 0.75) * np.clip(core * 2.2, 0, 1), (0.30, 0.0, 0.14, 0.0))
    scene.masks[alpha > 0.5] &= ~BITS["red_cell"]
    scene.mark("platelet", alpha > 0.5)


def paint_surroundings(scene: Scene, cell_distance: Field) -> None:
    """Plasma film, a few stray platelets and specks of stain."""
    rng = scene.rng
    film = np.float32(rng.uniform(0.0, 0.05)) * (1 + 0.25 * scene.noise(4.0))
    scene.amounts[3] += np.maximum(film, 0)
    for _ in range(int(rng.choice(4, p=(0.45, 0.3, 0.15, 0.1)))):
        px, py = rng.uniform(-0.5 * SIZE, 0.5 * SIZE, 2)
        row = min(SIZE - 1, max(0, int(py - scene.y[0, 0])))
        column = min(SIZE - 1, max(0, int(px - scene.x[0, 0])))
        radius = scene.um * rng.uniform(0.9, 1.6)
        if cell_distance[row, column] > 1.5 * radius:
            paint_platelet(scene, px, py, radius)
    for _ in range(int(rng.poisson(1.0))):
        px, py = rng.uniform(-0.5 * SIZE, 0.5 * SIZE, 2)
        speck = coverage(
            np.hypot(scene.x - np.float32(px), scene.y - np.float32(py)) - np.float32(rng.uniform(0.4, 1.2))
        )
        scene.add(speck, (0.5, 0.0, 0.0, 0.0))


def bent_rod(scene: Scene, start: tuple[float, float], angle: float, length: float, width: float) -> Field:
    """Signed distance of a slightly bent needle of `length` and half-width `width` px."""
    bend = scene.rng.normal(0, 0.08)
    middle = (start[0] + 0.5 * length * np.cos(angle), start[1] + 0.5 * length * np.sin(angle))
    end = (
        middle[0] + 0.5 * length * np.cos(angle + bend),
        middle[1] + 0.5 * length * np.sin(angle + bend),
    )
    first = capsule(scene.x, scene.y, start, middle, width)
    return union(first, capsule(scene.x, scene.y, middle, end, width), 1.0)
