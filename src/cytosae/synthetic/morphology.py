"""Parts of a cell: cytoplasm, nucleus, granules, vacuoles, rods.

Lengths are in micrometres unless a name or docstring says pixels; a `Field` has shape (224, 224).
"""

from __future__ import annotations

import numpy as np

from cytosae.synthetic.concepts import has_concept
from cytosae.synthetic.geometry import (
    Field,
    arc,
    capsule,
    coverage,
    ellipse,
    rotated,
    union,
    wavy_disc,
    without,
)
from cytosae.synthetic.noise import scattered_dots
from cytosae.synthetic.scene import Scene, Tone, bent_rod

GRANULES: dict[str, tuple[Tone, float, float]] = {
    "eosinophilic_granules": ((0.14, 0.0, 1.12, 0.0), 0.64, 0.31),
    "basophilic_granules": ((1.10, 0.25, 0.05, 0.0), 0.80, 0.36),
    "azurophilic_granules": ((0.52, 0.0, 0.62, 0.0), 0.82, 0.27),
}
"""Granule -> amounts of stain, distance between neighbours and radius, micrometres."""


def warped(scene: Scene, amount: float, grain: float) -> tuple[Field, Field]:
    """Coordinates of the scene, bent at random by about `amount` over distances of about `grain`."""
    by = np.float32(amount * scene.um)
    return scene.x + by * scene.noise(grain), scene.y + by * scene.noise(grain)


def outline(scene: Scene, radius: float, uneven: float = 0.03) -> Field:
    """Signed distance (px) to the outline of a roundish cell."""
    rng = scene.rng
    x, y = warped(scene, 0.10 + uneven, 1.4)
    waves = [(n, uneven * rng.normal() * 1.6 / n**0.7, rng.uniform(0, 6.3)) for n in (2, 3, 4, 5)]
    return wavy_disc(x, y, radius * scene.um, waves)


def round_nucleus(scene: Scene, radius: float, centre: tuple[float, float], oval: float, uneven: float) -> Field:
    """Signed distance (px) to a round or oval nucleus around `centre`; `oval` is the ratio of its axes."""
    rng = scene.rng
    x, y = warped(scene, 0.10 + 1.6 * uneven, 1.2)
    u, v = rotated(x - np.float32(centre[0] * scene.um), y - np.float32(centre[1] * scene.um), rng.uniform(0, np.pi))
    root = np.float32(np.sqrt(oval))
    waves = [(n, uneven * rng.normal() / n**0.5, rng.uniform(0, 6.3)) for n in (2, 3, 4)]
    return wavy_disc(u * root, v / root, radius * scene.um, waves)


def lobed_nucleus(scene: Scene, cell_radius: float, lobes: int) -> Field:
    """Signed distance (px) to a chain of lobes that hang together by thin bridges."""
    rng = scene.rng
    size = {2: 0.37, 3: 0.315, 4: 0.28}.get(lobes, 0.25) * rng.uniform(0.95, 1.08)
    span = {2: 1.9, 3: 3.3, 4: 4.3}.get(lobes, 5.0) * rng.uniform(0.88, 1.08)
    x, y = warped(scene, 0.26, 1.3)
    unit = cell_radius * scene.um
    angles = rng.uniform(0, 2 * np.pi) + np.linspace(-span / 2, span / 2, lobes) + rng.normal(0, 0.10, lobes)
    reach = rng.normal({2: 0.44, 3: 0.50}.get(lobes, 0.54), 0.04, lobes) * unit
    points = [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(reach, angles, strict=True)]
    whole: Field | None = None
    for index, (px, py) in enumerate(points):
        a = size * unit * rng.uniform(0.95, 1.18)
        b = size * unit * rng.uniform(0.72, 0.90)
        along = angles[index] + np.pi / 2 + rng.normal(0, 0.4)
        lobe = ellipse(x - np.float32(px), y - np.float32(py), a, b, along)
        whole = lobe if whole is None else union(whole, lobe, 0.2 * scene.um)
        if index:
            thin = rng.uniform(0.16, 0.42) * scene.um
            bridge = capsule(x, y, points[index - 1], (px, py), thin)
            whole = union(whole, bridge, 0.7 * scene.um)
    assert whole is not None
    return whole


def bilobed_nucleus(scene: Scene, cell_radius: float) -> Field:
    """Signed distance (px) to two large lobes side by side, joined by a broad isthmus (butterfly)."""
    rng = scene.rng
    unit = cell_radius * scene.um
    x, y = warped(scene, 0.2, 1.4)
    u, v = rotated(x, y, rng.uniform(0, 2 * np.pi))
    v = v + np.float32(rng.uniform(0.12, 0.28) * unit)
    apart = rng.uniform(0.36, 0.42) * unit
    a, b = rng.uniform(0.34, 0.40, 2) * unit
    left = ellipse(u + np.float32(apart), v, a, a * rng.uniform(1.05, 1.3), rng.uniform(-0.5, 0.2))
    right = ellipse(u - np.float32(apart), v, b, b * rng.uniform(1.05, 1.3), rng.uniform(-0.2, 0.5))
    neck = capsule(u, v, (-apart, 0.0), (apart, 0.0), rng.uniform(0.08, 0.20) * unit)
    return union(union(left, right, 0.15 * scene.um), neck, 0.5 * scene.um)


def smeared_nucleus(scene: Scene, radius: float) -> Field:
    """Signed distance (px) to the smear that a burst cell leaves: ragged and drawn out to one side."""
    rng = scene.rng
    x, y = warped(scene, 0.9, 2.6)
    fray = np.float32(0.35 * scene.um)
    u, v = rotated(x + fray * scene.noise(0.6), y + fray * scene.noise(0.6), rng.uniform(0, 2 * np.pi))
    root = np.float32(rng.uniform(1.0, 1.35))
    waves = [(n, 0.16 * rng.normal() / n**0.6, rng.uniform(0, 6.3)) for n in (1, 2, 3, 5, 7)]
    return wavy_disc(u / root, v * root, radius * scene.um, waves)


def band_nucleus(scene: Scene, cell_radius: float) -> tuple[Field, Field]:
    """Signed distances (px) to a horseshoe-shaped nucleus and to the bay that it encloses."""
    rng = scene.rng
    unit = cell_radius * scene.um
    middle, thick = unit * rng.uniform(0.42, 0.48), unit * rng.uniform(0.20, 0.25)
    x, y = warped(scene, 0.22, 1.5)
    u, v = rotated(x, y, rng.uniform(0, 2 * np.pi))
    u = u + np.float32(0.10 * unit)
    half_span = rng.uniform(1.45, 2.15)
    nucleus = arc(u, v * np.float32(rng.uniform(0.95, 1.2)), middle, half_span, thick)
    waist = np.float32(0.06 * unit) * scene.noise(1.8)
    bay = ellipse(u + np.float32(0.12 * unit), v, middle - thick + 0.16 * unit, middle - thick + 0.05 * unit)
    return nucleus + waist, bay


def notched(
    scene: Scene,
    nucleus: Field,
    radius: float,
    centre: tuple[float, float],
    depth: float,
    width: float,
    angle: float,
) -> tuple[Field, Field]:
    """Nucleus with a notch from one side.

    Parameters
    ----------
    nucleus
        Signed distance to the whole nucleus, px.
    radius, centre
        Its size and place.
    depth, width
        Of the notch, as shares of the diameter of the nucleus.
    angle
        Side of the notch, radians.

    Returns
    -------
    Signed distances (px) to the notched nucleus and to the part of the notch within the whole nucleus.
    """
    x, y = warped(scene, 0.12, 1.2)
    u, v = rotated(x - np.float32(centre[0] * scene.um), y - np.float32(centre[1] * scene.um), angle)
    unit = radius * scene.um
    # The ellipse reaches past the rim so that the notch is open to the cytoplasm.
    notch = ellipse(u - np.float32(unit * 1.15), v, unit * (0.15 + 2 * depth), unit * width)
    inner = np.maximum(notch, nucleus - np.float32(0.2 * scene.um))
    return without(nucleus, notch, 0.5 * scene.um), inner


def paint_cytoplasm(scene: Scene, cell: Field, tone: Tone, grain: float = 0.12, rim: float = 0.0) -> Field:
    """Paint the body of the cell.

    Parameters
    ----------
    cell
        Signed distance to its outline, px.
    tone
        Amounts of stain.
    grain
        Relative strength of its texture.
    rim
        How much deeper (above 0) or paler (below 0) the outer micrometre is.

    Returns
    -------
    Coverage of the cell, 0 to 1.
    """
    alpha = coverage(cell, 2.0)
    texture = 1 + np.float32(grain) * (0.6 * scene.noise(0.3) + 0.7 * scene.noise(0.9))
    texture += np.float32(rim) * np.exp(np.minimum(cell, 0) / np.float32(1.0 * scene.um))
    scene.cover(alpha, tone, np.maximum(texture, 0.1))
    inside = alpha > 0.5
    scene.masks[inside] = 0
    scene.mark("cytoplasm", inside)
    return alpha


def paint_nucleus(scene: Scene, nucleus: Field, chromatin: str, depth: float = 1.0, softness: float = 1.8) -> Field:
    """Paint chromatin inside the nucleus.

    Parameters
    ----------
    nucleus
        Signed distance to its outline, px.
    chromatin
        "open" (fine and pale), "lacy" (between open and clumped), "clumped", "pyknotic" (nearly black) or "smeared".
    depth
        Factor on the amount of stain.
    softness
        Width of the outline, px.

    Returns
    -------
    Coverage of the nucleus, 0 to 1.
    """
    alpha = coverage(nucleus, softness)
    if chromatin == "open":
        fine = 0.17 * scene.noise(0.12) + 0.05 * scene.noise(0.4) + 0.03 * scene.noise(1.5)
        level = 0.58 * (1 + fine)
        blue = 0.10
    elif chromatin == "clumped":
        clumps = np.tanh(1.3 * scene.noise(0.42))
        level = 0.95 + 0.25 * clumps + 0.12 * scene.noise(0.12) + 0.10 * scene.noise(0.25)
        blue = 0.12
    elif chromatin == "lacy":
        strands = np.tanh(1.2 * scene.noise(0.4))
        level = 0.74 * (1 + 0.19 * strands + 0.16 * scene.noise(0.12) + 0.06 * scene.noise(1.5))
        blue = 0.10
    elif chromatin == "pyknotic":
        level = 1.28 + 0.07 * scene.noise(0.4)
        blue = 0.20
    else:
        strands = 0.7 * scene.noise(0.3) + 0.7 * scene.noise(0.7) + scene.noise(2.0)
        level = 0.50 * (1 + 0.20 * strands)
        blue = 0.02
    membrane = np.exp(-np.square((nucleus + np.float32(0.25 * scene.um)) / np.float32(0.25 * scene.um)))
    if chromatin != "smeared":
        level = level + 0.14 * membrane
    level = np.maximum(level * np.float32(depth), 0.05)
    scene.cover(alpha, (level, level * np.float32(blue), level * np.float32(0.0), level * np.float32(0.0)))
    inside = alpha > 0.5
    scene.masks[inside] = 0
    scene.mark("nucleus", inside)
    if chromatin == "open":
        scene.mark("open_chromatin", inside)
    elif chromatin in ("clumped", "pyknotic"):
        scene.mark("dense_chromatin", inside)
    return alpha


def paint_granules(
    scene: Scene,
    kind: str,
    where: Field,
    fraction: float,
    size: float = 1.0,
    patchy: float = 0.0,
    strength: float = 1.0,
) -> None:
    """Scatter granules.

    Parameters
    ----------
    kind
        A key of `GRANULES`.
    where
        Coverage of the part of the cell that carries them, 0 to 1.
    fraction
        Fraction of the possible positions that get a granule.
    size
        Factor on their radius.
    patchy
        0 spreads them evenly; 1 lets them cluster.
    strength
        Factor on their stain.
    """
    tone, spacing, radius = GRANULES[kind]
    far, own, dot_size = scattered_dots(scene.rng, spacing * size * scene.um)
    local = np.full_like(far, fraction)
    if patchy:
        local *= 1 + np.float32(patchy) * scene.noise(1.5)
    far = far + np.float32(0.30 * radius * size * scene.um) * scene.noise(0.3)  # not quite round
    distance = far - (0.55 + 0.8 * dot_size) * np.float32(radius * size * scene.um)
    taken = np.where(own < local, where, np.float32(0))
    alpha = coverage(distance, 1.6) * taken
    texture: Field = np.asarray(0.85 + 0.3 * own / np.maximum(local, 0.05), dtype=np.float32)
    scene.cover(alpha * 0.92, tone, texture * np.float32(strength))
    scene.mark(kind, alpha > 0.4)


def paint_dust(scene: Scene, where: Field, tone: Tone, spacing: float = 0.6, fraction: float = 0.6) -> None:
    """Fine specific granules of neutrophils: too small to be a planted concept of their own."""
    far, own, _ = scattered_dots(scene.rng, spacing * scene.um)
    dots = np.exp(-np.square(far / np.float32(0.20 * scene.um)))
    scene.add(dots * np.where(own < np.float32(fraction), where, np.float32(0)), tone)


def room(cell: Field, nucleus: Field) -> Field:
    """Distance (px) from each pixel of the cytoplasm to its nearer border; negative elsewhere."""
    return np.minimum(-cell, nucleus)


def widest_point(scene: Scene, space: Field) -> tuple[float, float, float]:
    """A point of much room: x, y in cell coordinates and the room there, px."""
    best = float(space.max())
    candidates = np.flatnonzero(space >= best - 0.15 * abs(best))
    row, column = divmod(int(scene.rng.choice(candidates)), space.shape[1])
    return float(scene.x[row, column]), float(scene.y[row, column]), best


def paint_vacuoles(scene: Scene, space: Field, number: int, smallest: float, largest: float) -> None:
    """Punch round holes of `smallest` to `largest` radius into the cytoplasm.

    Parameters
    ----------
    space
        Room around each pixel, px (see `room`).
    """
    rng = scene.rng
    for _ in range(number):
        radius = rng.uniform(smallest, largest) * scene.um
        positions = np.flatnonzero(space > min(0.75 * radius, 0.8 * float(space.max())))
        if not len(positions):
            return
        row, column = divmod(int(rng.choice(positions)), space.shape[1])
        x, y = scene.x - scene.x[row, column], scene.y - scene.y[row, column]
        hole = ellipse(x, y, radius * rng.uniform(0.9, 1.15), radius * rng.uniform(0.9, 1.1), rng.uniform(0, 3.1))
        alpha = coverage(hole, 2.2) * coverage(np.float32(0.5) - space, 1.5)
        scene.fade(alpha, 0.10)
        scene.mark("vacuoles", alpha > 0.5)


def paint_halo(scene: Scene, cell: Field, nucleus: Field, width: float) -> None:
    """Clear the cytoplasm beside the nucleus, on the side where there is most of it."""
    px, py, _ = widest_point(scene, room(cell, nucleus))
    length = max(float(np.hypot(px, py)), 1e-3)
    toward = (scene.x * np.float32(px / length) + scene.y * np.float32(py / length)) / np.float32(scene.um)
    sector = np.clip(0.75 + 0.45 * toward, 0, 1)
    reach = np.float32(width * scene.um) * sector * (1 + 0.20 * scene.noise(1.1))
    alpha = np.clip((reach - nucleus) / np.float32(1.0 * scene.um), 0, 1)
    alpha = alpha * coverage(0.5 - nucleus) * coverage(cell + np.float32(0.7 * scene.um), 3.0)
    scene.fade(alpha, 0.38)
    scene.add(alpha, (0.0, 0.0, 0.08, 0.0))
    inside = (alpha > 0.5) & has_concept(scene.masks, "cytoplasm")
    scene.mark("perinuclear_halo", inside)


def paint_nucleoli(scene: Scene, nucleus: Field, number: int) -> None:
    """Pale bluish bodies with a faint dark rim, apart from each other."""
    rng = scene.rng
    near = np.full_like(nucleus, -np.inf)  # above 0 where another one is too near
    for _ in range(number):
        radius = rng.uniform(0.90, 1.35) * scene.um
        free = np.maximum(nucleus, near)
        positions = np.flatnonzero(free <= max(-1.25 * radius, 0.8 * float(free.min())))
        if free.flat[positions[0]] > 0:
            return
        row, column = divmod(int(rng.choice(positions)), nucleus.shape[1])
        x, y = scene.x - scene.x[row, column], scene.y - scene.y[row, column]
        body = ellipse(x, y, radius * rng.uniform(1.0, 1.2), radius * rng.uniform(0.8, 1.0), rng.uniform(0, 3.1))
        rim = np.exp(-np.square((body - 1) / np.float32(1.6)))
        scene.add(rim, (0.16, 0.0, 0.0, 0.0))
        alpha = coverage(body, 2.2)
        scene.cover(alpha * 0.90, (0.20, 0.42, 0.0, 0.0))
        scene.mark("nucleoli", alpha > 0.5)
        near = np.maximum(near, np.float32(2.4 * radius) - np.hypot(x, y))


def paint_rods(scene: Scene, cell: Field, nucleus: Field, concept: str, number: int) -> None:
    """Auer rods: one needle, or a bundle of them (faggot), where the cytoplasm is widest.

    Parameters
    ----------
    concept
        "auer_rod" or "faggot".
    number
        Needles in all.
    """
    rng = scene.rng
    px, py, _ = widest_point(scene, room(cell, nucleus))
    across = float(np.arctan2(py, px)) + np.pi / 2  # along the crescent of cytoplasm there is most room
    bundle = concept == "faggot"
    spread, offset = (0.28, 0.62) if bundle else (0.35, 0.0)
    inside = coverage(cell + np.float32(0.25 * scene.um))
    for _ in range(number):
        length = rng.uniform(4.2, 6.4) * scene.um
        width = rng.uniform(0.24, 0.34) * scene.um
        angle = across + rng.normal(0, spread)
        x0, y0 = np.array((px, py)) + rng.normal(0, offset * scene.um + 1e-9, 2)
        start = (x0 - 0.5 * length * np.cos(angle), y0 - 0.5 * length * np.sin(angle))
        rod = bent_rod(scene, start, angle, length, width)
        alpha = coverage(rod, 1.5) * inside
        scene.cover(alpha * 0.95, (0.52, 0.0, 1.15, 0.0))
        scene.mark(concept, alpha > 0.35)
