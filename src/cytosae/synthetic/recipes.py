"""One recipe per cell type: which parts it has, of what size and stain, and which traits are optional.

Lengths are micrometres. Sizes and looks follow the descriptions in textbooks of blood-cell morphology.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from cytosae.synthetic import morphology as morph
from cytosae.synthetic.concepts import has_concept
from cytosae.synthetic.geometry import Field, coverage
from cytosae.synthetic.scene import Scene, paint_platelet, paint_red_cells, paint_surroundings

Traits: TypeAlias = Mapping[str, bool]

TRAIT_RATES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "segmented_neutrophil": {"hypogranulation": 0.04, "vacuoles": 0.05},
        "band_neutrophil": {"hypogranulation": 0.04, "vacuoles": 0.05},
        "lymphocyte": {
            "azurophilic_granules": 0.08,
            "nuclear_indentation": 0.08,
            "cytoplasmic_basophilia": 0.20,
            "perinuclear_halo": 0.04,
        },
        "monocyte": {"nuclear_indentation": 0.85, "vacuoles": 0.50, "azurophilic_granules": 0.08},
        "eosinophil": {"nuclear_lobes": 0.93, "basophilic_granules": 0.0, "vacuoles": 0.05},
        "basophil": {"nuclear_lobes": 0.6},
        "erythroblast": {"cytoplasmic_basophilia": 0.35},
        "platelet": {},
        "blast": {
            "nucleoli": 0.75,
            "auer_rod": 0.03,
            "vacuoles": 0.06,
            "perinuclear_halo": 0.08,
            "nuclear_indentation": 0.10,
            "azurophilic_granules": 0.15,
            "cytoplasmic_basophilia": 0.65,
        },
        "promyelocyte": {
            "azurophilic_granules": 0.97,
            "nucleoli": 0.45,
            "auer_rod": 0.02,
            "faggot": 0.0,
            "vacuoles": 0.05,
            "perinuclear_halo": 0.30,
            "nuclear_lobes": 0.0,
            "cytoplasmic_basophilia": 0.45,
        },
        "smudge_cell": {},
    }
)
"""Cell type -> optional concept -> share of such cells that carry it when nothing else is asked for."""

CELL_TYPES: tuple[str, ...] = tuple(TRAIT_RATES)
"""Names of the cell types that can be rendered."""


def _surround(scene: Scene, cell: Field, gap: float = -1.0) -> None:
    if scene.alone:
        return
    paint_red_cells(scene, cell, gap)
    paint_surroundings(scene, cell)


def _within(nucleus: Field, cell: Field, margin: float) -> Field:
    """Nucleus cut so that it ends at least `margin` px inside the cell."""
    return np.maximum(nucleus, cell + np.float32(margin))


def _body(scene: Scene) -> Field:
    """1 in the cytoplasm outside of vacuoles, 0 elsewhere."""
    inside = has_concept(scene.masks, "cytoplasm") & ~has_concept(scene.masks, "vacuoles")
    return inside.astype(np.float32)


def _offset(scene: Scene, reach: float) -> tuple[float, float]:
    angle = scene.rng.uniform(0, 2 * np.pi)
    return float(reach * np.cos(angle)), float(reach * np.sin(angle))


def _neutrophil(scene: Scene, traits: Traits, *, band: bool) -> None:
    rng = scene.rng
    radius = rng.uniform(6.1, 7.3)
    cell = morph.outline(scene, radius, 0.025)
    _surround(scene, cell)
    bare = traits["hypogranulation"]
    tone = (0.03, 0.13, 0.0, 0.0) if bare else (0.035, 0.05, 0.08, 0.0)
    body = morph.paint_cytoplasm(scene, cell, tone, 0.07 if bare else 0.14)
    if bare:
        scene.mark("hypogranulation", has_concept(scene.masks, "cytoplasm"))
    else:
        grains = rng.uniform(0.6, 1.0)
        morph.paint_dust(scene, body, (0.08, 0.0, 0.07, 0.0), 0.55, grains)
        morph.paint_dust(scene, body, (0.08, 0.0, 0.06, 0.0), 0.75, 0.7 * grains)
    if band:
        nucleus, bay = morph.band_nucleus(scene, radius)
    else:
        lobes = int(rng.choice((2, 3, 4, 5), p=(0.17, 0.43, 0.30, 0.10)))
        nucleus = morph.lobed_nucleus(scene, radius, lobes)
    nucleus = _within(nucleus, cell, 0.35 * scene.um)
    morph.paint_nucleus(scene, nucleus, "clumped", rng.uniform(0.98, 1.1))
    if band:
        near = (bay < 0.35 * scene.um) & (cell < 0)
        scene.mark("nuclear_indentation", near)
    else:
        scene.mark("nuclear_lobes", has_concept(scene.masks, "nucleus"))
    if traits["vacuoles"]:
        morph.paint_vacuoles(scene, morph.room(cell, nucleus), int(rng.integers(3, 8)), 0.50, 0.95)


def _segmented(scene: Scene, traits: Traits) -> None:
    _neutrophil(scene, traits, band=False)


def _band(scene: Scene, traits: Traits) -> None:
    _neutrophil(scene, traits, band=True)


def _lymphocyte(scene: Scene, traits: Traits) -> None:
    rng = scene.rng
    reactive = traits["cytoplasmic_basophilia"]
    roomy = reactive or traits["azurophilic_granules"] or traits["perinuclear_halo"]
    radius = rng.uniform(5.6, 7.2) if roomy else rng.uniform(4.3, 5.5)
    cell = morph.outline(scene, radius, 0.05 if reactive else 0.03)
    _surround(scene, cell)
    if reactive:
        morph.paint_cytoplasm(scene, cell, (0.15, rng.uniform(0.70, 0.90), 0.0, 0.0), 0.15, 0.30)
    else:
        morph.paint_cytoplasm(scene, cell, (0.07, rng.uniform(0.36, 0.54), 0.0, 0.0), 0.14, 0.20)
    fraction = rng.uniform(0.66, 0.74) if roomy else rng.uniform(0.80, 0.90)
    own = fraction * radius
    centre = _offset(scene, rng.uniform(0.5, 0.9) * (radius - own))
    nucleus = morph.round_nucleus(scene, own, centre, rng.uniform(1.0, 1.15), 0.03)
    notch: Field | None = None
    if traits["nuclear_indentation"]:
        side = float(np.arctan2(-centre[1], -centre[0]))
        nucleus, notch = morph.notched(scene, nucleus, own, centre, rng.uniform(0.10, 0.2), 0.28, side)
    nucleus = _within(nucleus, cell, 0.25 * scene.um)
    morph.paint_nucleus(scene, nucleus, "clumped", rng.uniform(0.98, 1.12))
    _paint_shared_parts(scene, cell, nucleus, notch, traits)
    if traits["azurophilic_granules"]:
        morph.paint_granules(scene, "azurophilic_granules", _body(scene), 0.32, 1.1)


def _monocyte(scene: Scene, traits: Traits) -> None:
    rng = scene.rng
    radius = rng.uniform(7.4, 9.2)
    cell = morph.outline(scene, radius, rng.uniform(0.03, 0.08))
    _surround(scene, cell)
    morph.paint_cytoplasm(scene, cell, (0.13, rng.uniform(0.30, 0.42), 0.02, 0.0), 0.20, 0.10)
    own = radius * rng.uniform(0.60, 0.68)
    centre = _offset(scene, radius * rng.uniform(0.10, 0.22))
    nucleus = morph.round_nucleus(scene, own, centre, rng.uniform(1.1, 1.45), 0.07)
    notch: Field | None = None
    if traits["nuclear_indentation"]:
        side = float(np.arctan2(-centre[1], -centre[0])) + rng.normal(0, 0.4)
        depth, width = rng.uniform(0.22, 0.38), rng.uniform(0.30, 0.48)
        nucleus, notch = morph.notched(scene, nucleus, own, centre, depth, width, side)
    nucleus = _within(nucleus, cell, 0.4 * scene.um)
    # Lacy, folded chromatin between that of a blast and that of a lymphocyte: neither bit is set.
    inside = morph.paint_nucleus(scene, nucleus, "lacy", rng.uniform(0.95, 1.1))
    fold = np.abs(scene.noise(4.5))
    scene.add(inside * np.exp(-np.square(fold / np.float32(0.12))), (0.10, 0.0, 0.0, 0.0))
    ground_glass = rng.uniform(0.3, 0.8)
    morph.paint_dust(scene, _body(scene), (0.10, 0.0, 0.12, 0.0), 0.55, ground_glass)
    _paint_shared_parts(scene, cell, nucleus, notch, traits)
    if traits["azurophilic_granules"]:
        morph.paint_granules(scene, "azurophilic_granules", _body(scene), 0.35, 1.0)


def _eosinophil(scene: Scene, traits: Traits) -> None:
    rng = scene.rng
    radius = rng.uniform(6.3, 7.6)
    cell = morph.outline(scene, radius, 0.03)
    _surround(scene, cell)
    body = morph.paint_cytoplasm(scene, cell, (0.07, 0.03, 0.50, 0.0), 0.12)
    if traits["nuclear_lobes"]:
        lobes = int(rng.choice((2, 3), p=(0.82, 0.18)))
        nucleus = morph.lobed_nucleus(scene, radius * 0.98, lobes)
    else:
        own = radius * rng.uniform(0.52, 0.60)
        nucleus = morph.round_nucleus(scene, own, _offset(scene, radius * 0.3), 1.2, 0.05)
    nucleus = _within(nucleus, cell, 0.3 * scene.um)
    packed = rng.uniform(0.82, 1.0)
    mature = not traits["basophilic_granules"]
    morph.paint_granules(scene, "eosinophilic_granules", body, packed if mature else 0.6, rng.uniform(0.95, 1.2))
    morph.paint_nucleus(scene, nucleus, "clumped", rng.uniform(0.88, 1.0))
    if traits["nuclear_lobes"]:
        scene.mark("nuclear_lobes", has_concept(scene.masks, "nucleus"))
    # Some granules lie above the nucleus.
    over = coverage(nucleus) * coverage(-nucleus - np.float32(1.6 * scene.um), 6.0)
    morph.paint_granules(scene, "eosinophilic_granules", over, 0.30, 1.0)
    if not mature:
        morph.paint_granules(scene, "basophilic_granules", body, rng.uniform(0.28, 0.45), rng.uniform(1.1, 1.35))
    if traits["vacuoles"]:
        morph.paint_vacuoles(scene, morph.room(cell, nucleus), int(rng.integers(2, 6)), 0.45, 0.8)


def _basophil(scene: Scene, traits: Traits) -> None:
    rng = scene.rng
    radius = rng.uniform(5.6, 6.8)
    cell = morph.outline(scene, radius, 0.035)
    _surround(scene, cell)
    body = morph.paint_cytoplasm(scene, cell, (0.20, 0.06, 0.16, 0.0), 0.20)
    if traits["nuclear_lobes"]:
        nucleus = morph.lobed_nucleus(scene, radius * 1.05, int(rng.integers(2, 4)))
    else:
        nucleus = morph.round_nucleus(scene, radius * 0.64, _offset(scene, radius * 0.15), 1.15, 0.08)
    nucleus = _within(nucleus, cell, 0.3 * scene.um)
    morph.paint_nucleus(scene, nucleus, "smeared", 1.7, 2.6)
    if traits["nuclear_lobes"]:
        scene.mark("nuclear_lobes", has_concept(scene.masks, "nucleus"))
    fraction, size = rng.uniform(0.50, 0.95), rng.uniform(0.9, 1.25)
    morph.paint_granules(scene, "basophilic_granules", body, fraction, size, 0.35)
    morph.paint_granules(scene, "basophilic_granules", body, 0.45, 0.8 * size, 0.5, 0.9)


def _erythroblast(scene: Scene, traits: Traits) -> None:
    rng = scene.rng
    early = traits["cytoplasmic_basophilia"]
    radius = rng.uniform(4.8, 6.0) if early else rng.uniform(4.0, 5.0)
    cell = morph.outline(scene, radius, 0.03)
    _surround(scene, cell)
    tone = (0.16, rng.uniform(0.75, 1.0), 0.0, 0.15) if early else (0.05, rng.uniform(0.12, 0.36), 0.03, 0.75)
    morph.paint_cytoplasm(scene, cell, tone, 0.08, 0.05)
    own = radius * (rng.uniform(0.60, 0.70) if early else rng.uniform(0.46, 0.60))
    centre = _offset(scene, rng.uniform(0.2, 0.8) * (radius - own))
    nucleus = morph.round_nucleus(scene, own, centre, rng.uniform(1.0, 1.1), 0.02)
    nucleus = _within(nucleus, cell, 0.2 * scene.um)
    morph.paint_nucleus(scene, nucleus, "clumped" if early else "pyknotic", 1.12 if early else 1.0)
    _paint_shared_parts(scene, cell, nucleus, None, traits)


def _platelet(scene: Scene, traits: Traits) -> None:
    rng = scene.rng
    number = int(rng.choice((1, 2, 3), p=(0.7, 0.2, 0.1)))
    radii = rng.uniform(1.5, 2.9, number) * scene.um
    centres = [(0.0, 0.0)]
    for index in range(1, number):
        angle = rng.uniform(0, 2 * np.pi)
        reach = float(radii[0] + radii[index]) * 1.1
        centres.append((reach * float(np.cos(angle)), reach * float(np.sin(angle))))
    away = np.full_like(scene.x, np.inf)
    for (px, py), radius in zip(centres, radii, strict=True):
        away = np.minimum(away, np.hypot(scene.x - np.float32(px), scene.y - np.float32(py)) - np.float32(radius))
    _surround(scene, away, 0.8 * scene.um)
    for (px, py), radius in zip(centres, radii, strict=True):
        paint_platelet(scene, px, py, float(radius))


def _blast(scene: Scene, traits: Traits) -> None:
    rng = scene.rng
    needs_room = any(traits[name] for name in ("auer_rod", "vacuoles", "perinuclear_halo", "azurophilic_granules"))
    radius = rng.uniform(7.4, 9.0) if needs_room else rng.uniform(6.6, 8.8)
    cell = morph.outline(scene, radius, 0.035)
    _surround(scene, cell)
    _myeloid_cytoplasm(scene, cell, traits)
    own = radius * (rng.uniform(0.67, 0.74) if needs_room else rng.uniform(0.78, 0.86))
    centre = _offset(scene, rng.uniform(0.75, 1.0) * (radius - own) if needs_room else 0.6 * (radius - own))
    nucleus = morph.round_nucleus(scene, own, centre, rng.uniform(1.0, 1.18), 0.03)
    notch: Field | None = None
    if traits["nuclear_indentation"]:
        depth, width = (
            rng.uniform(0.24, 0.34),
            rng.uniform(0.30, 0.42),
        )  # cup-like: a quarter of the diameter or more
        side = float(np.arctan2(-centre[1], -centre[0])) + rng.normal(0, 0.5)
        nucleus, notch = morph.notched(scene, nucleus, own, centre, depth, width, side)
    nucleus = _within(nucleus, cell, 0.3 * scene.um)
    morph.paint_nucleus(scene, nucleus, "open", rng.uniform(0.92, 1.1))
    if traits["nucleoli"]:
        morph.paint_nucleoli(scene, nucleus, int(rng.choice((1, 2, 3, 4), p=(0.2, 0.4, 0.3, 0.1))))
    _paint_shared_parts(scene, cell, nucleus, notch, traits)
    if traits["azurophilic_granules"]:
        morph.paint_granules(scene, "azurophilic_granules", _body(scene), rng.uniform(0.22, 0.45), 1.05, 0.3)
    if traits["auer_rod"]:
        morph.paint_rods(scene, cell, nucleus, "auer_rod", 1)


def _promyelocyte(scene: Scene, traits: Traits) -> None:
    rng = scene.rng
    radius = rng.uniform(8.2, 9.8)
    cell = morph.outline(scene, radius, 0.045)
    _surround(scene, cell)
    _myeloid_cytoplasm(scene, cell, traits)
    if traits["nuclear_lobes"]:
        nucleus = morph.bilobed_nucleus(scene, radius)
    else:
        own = radius * rng.uniform(0.60, 0.68)
        centre = _offset(scene, rng.uniform(0.75, 1.0) * (radius - own))
        nucleus = morph.round_nucleus(scene, own, centre, rng.uniform(1.05, 1.25), 0.04)
    nucleus = _within(nucleus, cell, 0.4 * scene.um)
    morph.paint_nucleus(scene, nucleus, "open", rng.uniform(1.05, 1.2))
    if traits["nuclear_lobes"]:
        scene.mark("nuclear_lobes", has_concept(scene.masks, "nucleus"))
    if traits["nucleoli"]:
        morph.paint_nucleoli(scene, nucleus, int(rng.integers(1, 3)))
    _paint_shared_parts(scene, cell, nucleus, None, traits)
    if traits["azurophilic_granules"]:
        halo = has_concept(scene.masks, "perinuclear_halo")
        body = np.where(halo, np.float32(0), _body(scene))
        size = rng.uniform(0.9, 1.25)
        morph.paint_granules(scene, "azurophilic_granules", body, rng.uniform(0.6, 1.0), size, 0.25)
        over = coverage(nucleus) * (scene.noise(2.0) > 0.6)
        morph.paint_granules(scene, "azurophilic_granules", over.astype(np.float32), 0.5, size, 0.0, 1.25)
    if traits["faggot"]:
        morph.paint_rods(scene, cell, nucleus, "faggot", int(rng.integers(5, 11)))
    elif traits["auer_rod"]:
        morph.paint_rods(scene, cell, nucleus, "auer_rod", 1)


def _smudge(scene: Scene, traits: Traits) -> None:
    nucleus = morph.smeared_nucleus(scene, scene.rng.uniform(5.2, 7.6))
    _surround(scene, nucleus, 0.3 * scene.um)
    morph.paint_nucleus(scene, nucleus, "smeared", scene.rng.uniform(0.9, 1.2), 1.6 * scene.um)


def _myeloid_cytoplasm(scene: Scene, cell: Field, traits: Traits) -> None:
    """Cytoplasm of blasts and promyelocytes: deep blue, or pale greyish blue."""
    rng = scene.rng
    if traits["cytoplasmic_basophilia"]:
        morph.paint_cytoplasm(scene, cell, (0.15, rng.uniform(0.68, 0.90), 0.0, 0.0), 0.15, 0.25)
    else:
        morph.paint_cytoplasm(scene, cell, (0.09, rng.uniform(0.24, 0.36), 0.06, 0.0), 0.14, 0.10)


def _paint_shared_parts(scene: Scene, cell: Field, nucleus: Field, notch: Field | None, traits: Traits) -> None:
    """Optional parts that many types share, painted and marked once the nucleus is there."""
    if notch is not None:
        scene.mark("nuclear_indentation", (notch < 0.35 * scene.um) & (cell < 0))
    if traits.get("perinuclear_halo"):
        morph.paint_halo(scene, cell, nucleus, scene.rng.uniform(1.7, 2.5))
    if traits.get("cytoplasmic_basophilia"):
        deep = has_concept(scene.masks, "cytoplasm") & ~has_concept(scene.masks, "perinuclear_halo")
        scene.mark("cytoplasmic_basophilia", deep)
    if traits.get("vacuoles"):
        number = int(scene.rng.integers(4, 12))
        morph.paint_vacuoles(scene, morph.room(cell, nucleus), number, 0.50, 1.15)


RECIPES: Mapping[str, Callable[[Scene, Traits], None]] = MappingProxyType(
    {
        "segmented_neutrophil": _segmented,
        "band_neutrophil": _band,
        "lymphocyte": _lymphocyte,
        "monocyte": _monocyte,
        "eosinophil": _eosinophil,
        "basophil": _basophil,
        "erythroblast": _erythroblast,
        "platelet": _platelet,
        "blast": _blast,
        "promyelocyte": _promyelocyte,
        "smudge_cell": _smudge,
    }
)
"""Cell type -> function that paints it."""
