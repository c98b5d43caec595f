"""Fields of a smear with known cells: many nucleated cells, some in clumps, among red cells, platelets and artefacts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cytosae.synthetic.concepts import has_concept
from cytosae.synthetic.geometry import coverage
from cytosae.synthetic.laboratory import REFERENCE, Laboratory
from cytosae.synthetic.profiles import PROFILES
from cytosae.synthetic.recipes import CELL_TYPES, RECIPES
from cytosae.synthetic.render import drawn_traits, photograph
from cytosae.synthetic.scene import N_STAINS, Scene, new_scene, paint_platelet, red_cell, red_cell_look

NUCLEATED = tuple(name for name in CELL_TYPES if name not in ("platelet", "smudge_cell"))
"""Cell types that a detector of nucleated cells should find."""
_SHARE = 0.03
"""Least share of a rare type among the drawn cells, so that every type is seen."""
_CELL = 7.0
"""Radius of a cell that keeps others at a distance, in micrometres."""


@dataclass(frozen=True)
class FieldSpec:
    """What a field shows."""

    width: int = 640
    """In pixels."""
    height: int = 480
    """In pixels."""
    cells: float = 6.0
    """Nucleated cells on 10,000 square micrometres, on average."""
    red_cells: float = 90.0
    """Red cells, likewise; above about 150 many overlap."""
    platelets: float = 8.0
    """Platelets, likewise."""
    smudges: float = 0.6
    """Smudges, likewise: nuclei of broken cells."""
    deposits: float = 1.5
    """Deposits of stain, likewise."""
    clumped: float = 0.25
    """Share of the nucleated cells that touch another one."""
    overlap: float = 0.12
    """Largest overlap of touching cells, as a share of their distance."""


@dataclass(frozen=True)
class DrawnObject:
    """Something in a field."""

    kind: str
    """A cell type, ``platelet``, ``smudge_cell`` or ``stain deposit``."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of what lies in the field, in pixels."""
    inside: float
    """Share of its area that lies in the field, 0 to 1."""


@dataclass(frozen=True)
class DrawnField:
    """An image and what is in it."""

    pixels: NDArray[np.uint8]
    """RGB, ``(height, width, 3)``."""
    mpp: float
    """Micrometres per pixel."""
    objects: tuple[DrawnObject, ...]
    """Nucleated cells, platelets, smudges, deposits."""

    @property
    def cells(self) -> tuple[DrawnObject, ...]:
        """The nucleated ones."""
        return tuple(one for one in self.objects if one.kind in NUCLEATED)


def render_field(
    spec: FieldSpec, seed: int, *, laboratory: Laboratory = REFERENCE, diagnosis: str = "healthy"
) -> DrawnField:
    """Draw a field of a smear.

    Parameters
    ----------
    spec
        What it shows.
    seed
        The same seed gives the same field.
    laboratory
        Style of stain, light and optics.
    diagnosis
        One of `DIAGNOSES`: which types of cells are frequent.

    Examples
    --------
    >>> field = render_field(FieldSpec(width=320, height=240), seed=0)
    >>> field.pixels.shape, all(cell.inside > 0 for cell in field.cells)
    ((240, 320, 3), True)
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
    um = laboratory.pixels_per_um * float(np.exp(0.05 * laboratory.variation * rng.normal()))
    scene = _empty(spec, rng, um)
    unit = spec.width * spec.height / um**2 / 10_000
    film = np.float32(rng.uniform(0.0, 0.05))
    scene.amounts[3] += np.maximum(film * (1 + 0.25 * rng.normal()), 0)
    mean = np.array([max(_SHARE, PROFILES[diagnosis].fractions[name] / 100) for name in NUCLEATED])
    types = rng.choice(NUCLEATED, rng.poisson(spec.cells * unit), p=mean / mean.sum())
    places = _places(spec, rng, um, len(types))
    _paint_red_cells(scene, spec, places, rng.poisson(spec.red_cells * unit))
    objects = []
    for kind, middle in zip(types, places, strict=True):
        objects.append(_paint_cell(scene, str(kind), middle))
    for kind, density in (
        ("smudge_cell", spec.smudges),
        ("platelet", spec.platelets),
        ("stain deposit", spec.deposits),
    ):
        for _ in range(rng.poisson(density * unit)):
            apart = _CELL * um + {"smudge_cell": 7.0, "platelet": 2.0}.get(kind, -3.0) * um
            free = _free_place(spec, rng, places, apart)
            if free is not None:
                objects.append(_paint_cell(scene, kind, free))
                if kind == "smudge_cell":
                    places.append(free)
    pixels = photograph(scene, laboratory)
    return DrawnField(pixels, 1 / um, tuple(one for one in objects if one.inside > 0))


def _empty(spec: FieldSpec, rng: np.random.Generator, um: float) -> Scene:
    y, x = np.mgrid[: spec.height, : spec.width].astype(np.float32)
    x, y = x - np.float32((spec.width - 1) / 2), y - np.float32((spec.height - 1) / 2)
    amounts = np.zeros((N_STAINS, spec.height, spec.width), np.float32)
    return Scene(amounts, np.zeros(x.shape, np.uint32), x, y, um, rng)


def _places(spec: FieldSpec, rng: np.random.Generator, um: float, count: int) -> list[tuple[float, float]]:
    """Middles of the nucleated cells, column and row; some beside an earlier one."""
    places: list[tuple[float, float]] = []
    for _ in range(count):
        middle = None
        if places and rng.random() < spec.clumped:
            x, y = places[int(rng.integers(len(places)))]
            angle, distance = rng.uniform(0, 2 * np.pi), 2 * _CELL * um * rng.uniform(1 - spec.overlap, 1.0)
            near = x + distance * np.cos(angle), y + distance * np.sin(angle)
            far = [np.hypot(near[0] - a, near[1] - b) for a, b in places]
            middle = near if min(far) >= 2 * _CELL * um * (1 - spec.overlap) else None
        middle = middle or _free_place(spec, rng, places, 2.4 * _CELL * um)
        if middle is not None:
            places.append((float(middle[0]), float(middle[1])))
    places += [(-1e6, -1e6)] * (count - len(places))  # no room: beyond the field
    return places


def _free_place(
    spec: FieldSpec, rng: np.random.Generator, places: list[tuple[float, float]], apart: float
) -> tuple[float, float] | None:
    for _ in range(60):
        x, y = rng.uniform(0, spec.width), rng.uniform(0, spec.height)
        if all(np.hypot(x - a, y - b) >= apart for a, b in places):
            return float(x), float(y)
    return None


def _paint_red_cells(scene: Scene, spec: FieldSpec, places: list[tuple[float, float]], count: int) -> None:
    rng, um = scene.rng, scene.um
    look = red_cell_look(rng)
    radius = 3.6 * um * rng.uniform(0.94, 1.06)
    crowding = rng.uniform(1.3, 2.15)
    placed: list[tuple[float, float]] = []
    for _ in range(6 * count):
        if len(placed) == count:
            break
        x, y = rng.uniform(-radius, spec.width + radius), rng.uniform(-radius, spec.height + radius)
        if any(np.hypot(x - a, y - b) < _CELL * um + radius * rng.uniform(0.85, 1.1) for a, b in places):
            continue
        if any((x - a) ** 2 + (y - b) ** 2 < (crowding * radius) ** 2 for a, b in placed):
            continue
        placed.append((x, y))
        own = radius * rng.uniform(0.9, 1.1)
        rows, columns = _window(spec, x, y, 1.35 * own)
        dy, dx = np.mgrid[rows, columns].astype(np.float32)
        if not dx.size:
            continue
        alpha, profile = red_cell(dx - np.float32(x), dy - np.float32(y), own, look, rng)
        plane = scene.amounts[3][rows, columns]
        plane += alpha * profile * (1 - np.float32(0.40) * np.minimum(plane, 1))


def _window(spec: FieldSpec, x: float, y: float, reach: float) -> tuple[slice, slice]:
    rows = slice(max(0, int(y - reach)), max(0, min(spec.height, int(y + reach) + 2)))
    columns = slice(max(0, int(x - reach)), max(0, min(spec.width, int(x + reach) + 2)))
    return rows, columns


def _paint_cell(scene: Scene, kind: str, middle: tuple[float, float]) -> DrawnObject:
    """Draw one object on a slide of its own and lay it into the field."""
    rng = np.random.default_rng(scene.rng.integers(2**63))
    own = new_scene(rng, scene.um, alone=True)
    if kind == "platelet":
        paint_platelet(own, 0.0, 0.0, scene.um * rng.uniform(0.9, 1.9))
        shape = has_concept(own.masks, "platelet")
    elif kind == "stain deposit":
        shape = _paint_deposit(own)
    else:
        RECIPES[kind](own, drawn_traits(kind, rng, {}))
        shape = has_concept(own.masks, "nucleus") | has_concept(own.masks, "cytoplasm")
    return _lay(scene, own, shape, kind, middle)


def _paint_deposit(scene: Scene) -> NDArray[np.bool_]:
    """Precipitated stain: a heap of small dark grains without cytoplasm, up to 4 micrometres wide."""
    rng, um = scene.rng, scene.um
    size, shape = rng.uniform(0.5, 2.0) * um, np.zeros(scene.x.shape, bool)
    for _ in range(int(rng.integers(4, 16))):
        px, py = rng.normal(0, size / 2, 2)
        far = np.hypot(scene.x - np.float32(px), scene.y - np.float32(py)) - np.float32(rng.uniform(0.2, 0.6) * um)
        alpha = coverage(far)
        scene.cover(alpha, (rng.uniform(0.8, 1.6), 0.3, 0.1, 0.0))
        shape |= alpha > 0.5
    return shape


def _lay(scene: Scene, own: Scene, shape: NDArray[np.bool_], kind: str, middle: tuple[float, float]) -> DrawnObject:
    """Add a drawn object; where it lies over another, light passes both, each squeezed thinner."""
    height, width = scene.x.shape
    left, top = round(middle[0] + float(own.x[0, 0])), round(middle[1] + float(own.y[0, 0]))
    edge = own.x.shape[0]
    rows, columns = slice(max(0, top), min(height, top + edge)), slice(max(0, left), min(width, left + edge))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return DrawnObject(kind, (0, 0, 0, 0), 0.0)
    part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    alpha = np.clip(gaussian_filter(shape.astype(np.float32), 0.8), 0, 1)[part]
    nucleated = has_concept(scene.masks[rows, columns], "nucleus") | has_concept(
        scene.masks[rows, columns], "cytoplasm"
    )
    below = np.where(nucleated, np.float32(0.35), np.float32(0.95))
    scene.amounts[:, rows, columns] *= 1 - below * alpha
    scene.amounts[:, rows, columns] += own.amounts[:, part[0], part[1]]
    scene.masks[rows, columns] |= np.where(shape[part], own.masks[part], 0)
    visible = np.argwhere(shape[part])
    if not len(visible):
        return DrawnObject(kind, (0, 0, 0, 0), 0.0)
    (y0, x0), (y1, x1) = visible.min(axis=0), visible.max(axis=0) + 1
    box = int(columns.start + x0), int(rows.start + y0), int(columns.start + x1), int(rows.start + y1)
    return DrawnObject(kind, box, float(len(visible) / shape.sum()))
