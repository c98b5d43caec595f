"""One knob is turned on an otherwise identical cell: anatomy planted as a dose.

Every part of a cell is drawn from a random stream of its own, so that another level of a knob changes that knob's part and
nothing else. Lengths are micrometres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cytosae.synthetic import morphology as morph
from cytosae.synthetic.laboratory import LABORATORIES, REFERENCE, Laboratory
from cytosae.synthetic.render import photograph
from cytosae.synthetic.scene import Scene, new_scene, paint_red_cells, paint_surroundings


@dataclass(frozen=True)
class Knob:
    """Something of a cell that can be turned."""

    meaning: str
    """With its unit."""
    levels: tuple[float, ...]
    """Ascending; the first is that of the cell as it is where `turned` is 0."""


KNOBS: Mapping[str, Knob] = MappingProxyType(
    {
        "vacuoles": Knob("number of vacuoles", (0, 2, 4, 8, 12)),
        "lobes": Knob("number of lobes of the nucleus", (1, 2, 3, 4, 5)),
        "indentation": Knob("depth of a notch, share of the nucleus's diameter", (0, 0.1, 0.2, 0.3, 0.4)),
        "chromatin": Knob("from open (0) to clumped (1) chromatin", (0, 0.25, 0.5, 0.75, 1)),
        "nucleoli": Knob("number of nucleoli", (0, 1, 2, 3, 4)),
        "azurophilic granules": Knob("share of the possible places that have one", (0, 0.2, 0.4, 0.7, 1)),
        "eosinophilic granules": Knob("share of the possible places that have one", (0, 0.2, 0.4, 0.7, 1)),
        "basophilic granules": Knob("share of the possible places that have one", (0, 0.2, 0.4, 0.7, 1)),
        "basophilia": Knob("azure in the cytoplasm", (0.2, 0.35, 0.5, 0.7, 0.9)),
        "nuclear fraction": Knob("radius of the nucleus over that of the cell", (0.45, 0.55, 0.65, 0.75, 0.85)),
        "Auer rods": Knob("number of rods", (0, 1, 2, 4, 8)),
        "perinuclear halo": Knob("width of the halo, micrometres", (0, 0.8, 1.4, 2, 2.6)),
        "cell size": Knob("radius of the cell, micrometres", (6, 7, 8, 9, 10)),
        "stain": Knob("from the reference (0) to the faded laboratory (1)", (0, 0.25, 0.5, 0.75, 1)),
        "focus": Knob("blur, pixels", (0.45, 1, 1.5, 2, 3)),
    }
)
"""What can be turned, by name."""

BASE: Mapping[str, float] = MappingProxyType(
    {
        **{name: knob.levels[0] for name, knob in KNOBS.items()},
        "basophilia": 0.35,
        "nuclear fraction": 0.65,
        "cell size": 8,
    }
)
"""The cell on which one of them is turned."""

_GRANULES = {
    "azurophilic granules": "azurophilic_granules",
    "eosinophilic granules": "eosinophilic_granules",
    "basophilic granules": "basophilic_granules",
}
_PARTS: tuple[str, ...] = ("place", "around", "outline", "cytoplasm", "nucleus", "chromatin", "clumps", "notch", "halo")
_PARTS += ("nucleoli", "vacuoles", "rods", "camera", *_GRANULES)
_FADED = next(laboratory for laboratory in LABORATORIES if laboratory.name == "faded")


def turned_cell(seed: int, knob: str | None = None, level: float = 0.0) -> NDArray[np.uint8]:
    """A cell with one knob turned.

    Parameters
    ----------
    seed
        Which cell: all levels of all knobs are the same cell otherwise.
    knob, level
        One of `KNOBS` and where it stands; the cell of `BASE` if None.

    Returns
    -------
    uint8, ``(224, 224, 3)``.

    Raises
    ------
    ValueError
        No such knob.

    Examples
    --------
    >>> base, same = turned_cell(0), turned_cell(0, "vacuoles", 0)
    >>> bool((base == same).all()), bool((base == turned_cell(0, "vacuoles", 8)).all())
    (True, False)
    """
    if knob is not None and knob not in KNOBS:
        raise ValueError(f"unknown knob {knob!r}; known: {', '.join(KNOBS)}")
    at = {**BASE, **({} if knob is None else {knob: level})}
    streams = {name: np.random.default_rng([seed, number]) for number, name in enumerate(_PARTS)}
    scene = new_scene(streams["place"], REFERENCE.pixels_per_um)

    def part(name: str) -> Scene:
        return replace(scene, rng=streams[name])

    radius = at["cell size"]
    cell = morph.outline(part("outline"), radius, 0.03)
    around = part("around")
    paint_red_cells(around, morph.outline(replace(scene, rng=np.random.default_rng([seed, 2])), 10.0, 0.03), -1.0)
    paint_surroundings(around, cell)
    body = morph.paint_cytoplasm(part("cytoplasm"), cell, (0.09, at["basophilia"], 0.04, 0.0), 0.14, 0.10)
    nucleus = _nucleus(part("nucleus"), part("notch"), radius, at)
    nucleus = np.maximum(nucleus, cell + np.float32(0.35 * scene.um))
    for name, kind in _GRANULES.items():
        if at[name]:
            morph.paint_granules(part(name), kind, body, at[name])
    _chromatin(part("chromatin"), part("clumps"), nucleus, at["chromatin"])
    if at["nucleoli"]:
        morph.paint_nucleoli(part("nucleoli"), nucleus, round(at["nucleoli"]))
    if at["perinuclear halo"]:
        morph.paint_halo(part("halo"), cell, nucleus, at["perinuclear halo"])
    if at["vacuoles"]:
        morph.paint_vacuoles(part("vacuoles"), morph.room(cell, nucleus), round(at["vacuoles"]), 0.5, 1.0)
    if at["Auer rods"]:
        rods = round(at["Auer rods"])
        morph.paint_rods(part("rods"), cell, nucleus, "auer_rod" if rods == 1 else "faggot", rods)
    return photograph(part("camera"), _laboratory(at))


def _nucleus(scene: Scene, notching: Scene, radius: float, at: Mapping[str, float]) -> NDArray[np.float32]:
    """Signed distance (px) to the nucleus; lobes are those of a nucleus of about the same area."""
    if at["lobes"] > 1:
        return morph.lobed_nucleus(scene, radius * 1.1, round(at["lobes"]))
    own = radius * at["nuclear fraction"]
    angle = scene.rng.uniform(0, 2 * np.pi)
    reach = 0.6 * (radius - own)
    centre = (reach * float(np.cos(angle)), reach * float(np.sin(angle)))
    nucleus = morph.round_nucleus(scene, own, centre, 1.1, 0.03)
    if at["indentation"]:
        nucleus, _ = morph.notched(notching, nucleus, own, centre, at["indentation"], 0.4, angle + np.pi)
    return nucleus


def _chromatin(scene: Scene, clumping: Scene, nucleus: NDArray[np.float32], clumped: float) -> None:
    """Paint a nucleus between open and clumped: stains of both, weighted."""
    before = scene.amounts.copy()
    morph.paint_nucleus(scene, nucleus, "open")
    if not clumped:
        return
    opened = scene.amounts.copy()
    scene.amounts[:] = before
    morph.paint_nucleus(clumping, nucleus, "clumped")
    scene.amounts[:] = (1 - np.float32(clumped)) * opened + np.float32(clumped) * scene.amounts


def _laboratory(at: Mapping[str, float]) -> Laboratory:
    """The stain on its way from the reference to a faded one, at the reference's magnification and focus."""
    stained = REFERENCE.toward(_FADED, at["stain"])
    return replace(stained, pixels_per_um=REFERENCE.pixels_per_um, focus=at["focus"], noise=REFERENCE.noise)
