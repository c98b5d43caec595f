"""A laboratory is a style: stains, light, optics, camera and file quality."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

Colour: TypeAlias = tuple[float, float, float]

PURPLE: Colour = (1.18, 1.92, 0.45)
"""Optical density (R, G, B) of chromatin: the azure B - eosin Y complex (Romanowsky-Giemsa effect)."""
BLUE: Colour = (0.82, 0.56, 0.09)
"""Optical density of azure B on RNA-rich cytoplasm."""
EOSIN: Colour = (0.11, 0.60, 0.54)
"""Optical density of eosin Y on basic protein, as in eosinophilic granules."""
HAEMOGLOBIN: Colour = (0.27, 0.41, 0.23)
"""Optical density of a red cell where it is thickest."""


@dataclass(frozen=True)
class Laboratory:
    """How one laboratory stains, photographs and stores its slides."""

    name: str
    """Name, as it stands in the table of cells."""
    purple: Colour = PURPLE
    """Natural-log optical density (R, G, B) of a unit of the chromatin stain."""
    blue: Colour = BLUE
    """Optical density of a unit of azure on RNA."""
    eosin: Colour = EOSIN
    """Optical density of a unit of eosin."""
    haemoglobin: Colour = HAEMOGLOBIN
    """Optical density of a unit of haemoglobin."""
    white: Colour = (251.0, 226.0, 202.0)
    """Camera values (R, G, B; 0 to 255) of an empty spot of the slide."""
    pixels_per_um: float = 7.4
    """Magnification: pixels of the 224-px image per micrometre."""
    focus: float = 0.45
    """Typical blur: standard deviation of the point spread, px."""
    noise: float = 1.6
    """Standard deviation of the sensor noise, camera values."""
    vignette: float = 0.03
    """Loss of light from the centre to the corners, as a share."""
    variation: float = 1.0
    """How much stain, light and focus differ from cell to cell; 1 is usual, 0 is none."""
    jpeg_quality: int = 92
    """Quality of stored JPEG files, 1 to 95."""
    jpeg_subsampling: int = 0
    """Chroma subsampling as in Pillow: 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0."""

    def toward(self, other: Laboratory, fraction: float) -> Laboratory:
        """Style on the way from this laboratory to another one.

        Parameters
        ----------
        other
            Laboratory to move to; its name is kept.
        fraction
            0 gives this style, 1 the other one, more than 1 exaggerates.
        """

        def mixed(a: float, b: float, low: float) -> float:
            return max(low, a + fraction * (b - a))

        def colour(a: Colour, b: Colour, high: float = 9.0) -> Colour:
            red, green, blue = (min(high, mixed(p, q, 0.01)) for p, q in zip(a, b, strict=True))
            return red, green, blue

        return replace(
            other,
            purple=colour(self.purple, other.purple),
            blue=colour(self.blue, other.blue),
            eosin=colour(self.eosin, other.eosin),
            haemoglobin=colour(self.haemoglobin, other.haemoglobin),
            white=colour(self.white, other.white, 255.0),
            pixels_per_um=min(9.0, mixed(self.pixels_per_um, other.pixels_per_um, 4.5)),
            focus=mixed(self.focus, other.focus, 0.3),
            noise=mixed(self.noise, other.noise, 0.0),
            vignette=mixed(self.vignette, other.vignette, 0.0),
            variation=mixed(self.variation, other.variation, 0.0),
            jpeg_quality=min(95, round(mixed(self.jpeg_quality, other.jpeg_quality, 30))),
            jpeg_subsampling=other.jpeg_subsampling if fraction > 0.5 else self.jpeg_subsampling,
        )


def _scaled(colour: Colour, by: float) -> Colour:
    red, green, blue = colour
    return red * by, green * by, blue * by


REFERENCE = Laboratory("reference")
"""Warm light and strong purple nuclei, in the manner of an automated analyser's camera."""

LABORATORIES: tuple[Laboratory, ...] = (
    Laboratory(
        "azure",
        purple=(1.30, 1.62, 0.42),
        blue=_scaled((0.86, 0.52, 0.10), 1.2),
        eosin=_scaled((0.10, 0.60, 0.42), 0.9),
        haemoglobin=(0.24, 0.40, 0.33),
        white=(238.0, 238.0, 240.0),
        pixels_per_um=6.8,
        focus=0.7,
        noise=2.2,
        jpeg_quality=88,
        jpeg_subsampling=2,
    ),
    Laboratory(
        "eosin",
        purple=(0.92, 1.72, 0.62),
        blue=_scaled((0.80, 0.62, 0.20), 0.9),
        eosin=_scaled((0.12, 0.66, 0.66), 1.1),
        haemoglobin=(0.17, 0.46, 0.36),
        white=(249.0, 236.0, 230.0),
        pixels_per_um=8.0,
        focus=0.6,
        noise=1.8,
        vignette=0.06,
        jpeg_quality=85,
        jpeg_subsampling=0,
    ),
    Laboratory(
        "faded",
        purple=_scaled((1.14, 1.72, 0.52), 0.72),
        blue=_scaled((0.78, 0.56, 0.16), 0.8),
        eosin=_scaled((0.12, 0.58, 0.56), 0.85),
        haemoglobin=_scaled((0.25, 0.40, 0.42), 0.85),
        white=(226.0, 221.0, 200.0),
        pixels_per_um=6.2,
        focus=1.0,
        noise=3.0,
        vignette=0.10,
        jpeg_quality=72,
        jpeg_subsampling=2,
    ),
)
"""Three styles that differ clearly from `REFERENCE` and from each other."""
