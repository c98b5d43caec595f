"""Settings of ``cytosae fields``: lengths in micrometres, areas in square micrometres, stain in optical density."""

from __future__ import annotations

from dataclasses import dataclass

from cytosae.settings.declaration import check, setting


@dataclass(frozen=True)
class FieldConfig:
    """Finding and cutting out nucleated cells"""

    mpp: float = setting(
        0.0,
        "Micrometres per pixel of all fields. Left out: column mpp, or else red cells, taken to be 7.2 micrometres wide.",
        minimum=0.0,
        maximum=10.0,
    )
    window: float = setting(
        25.0,
        "Edge of the square that is cut out around a cell, in micrometres, margin included.",
        minimum=5.0,
        maximum=200.0,
    )
    pixels: int = setting(
        224, "Edge of the cut-out image, in pixels; the scale is window / pixels.", minimum=32, maximum=2048
    )
    faintest: float = setting(
        0.08,
        "Least mean stain of chromatin (optical density of green light, less half of that of blue and a quarter of red).",
        minimum=0.0,
    )
    smallest_nucleus: float = setting(
        12.0, "Smallest nucleus, in square micrometres; below it is a platelet or a deposit of stain.", minimum=0.0
    )
    largest_nucleus: float = setting(
        75.0, "Lobes are joined up to this area of the whole nucleus, in square micrometres.", minimum=1.0
    )
    lobe_gap: float = setting(2.5, "Widest gap between lobes of one nucleus, in micrometres.", minimum=0.0)
    nucleus_reach: float = setting(12.0, "Largest extent of a nucleus made of lobes, in micrometres.", minimum=1.0)
    border_width: float = setting(
        1.0,
        "Width of the border of a smudge, in micrometres (range of the stain over its steepest slope); that of a cell is "
        "narrower.",
        minimum=0.05,
    )
    least_covered: float = setting(
        0.02,
        "Regions of a slide of which less is covered are not searched: bare glass. 0 searches them.",
        minimum=0.0,
        maximum=1.0,
    )
    most_covered: float = setting(
        0.85,
        "Where more of a slide is covered, cells lie in layers; regions with a quarter of such places are not searched. 1 "
        "searches them.",
        minimum=0.0,
        maximum=1.0,
    )

    def __post_init__(self) -> None:
        check(self)
