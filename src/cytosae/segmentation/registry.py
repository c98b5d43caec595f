"""Every measurement of a cell, once: its name, unit and definition, for writers, readers and documentation."""

from __future__ import annotations

from dataclasses import dataclass

RED_CELL_DIAMETER = 7.2
"""Mean diameter of normal red cells in a smear, in micrometres (Diez-Silva et al., MRS Bulletin 2010: 6 to 8)."""


@dataclass(frozen=True)
class Measurement:
    """A number that is measured of every cell."""

    name: str
    """Column of ``measurements.parquet`` and of ``obs``."""
    unit: str
    """Empty for what has none."""
    meaning: str
    kind: str
    """Of what it speaks: ``size``, ``nucleus``, ``cytoplasm``, ``surroundings`` or ``image``."""
    whole: bool = False
    """A whole number."""


_DENSITY = "optical density"
GRANULARITY_RADII = (0.015, 0.03, 0.06, 0.12)
"""Radii of the granularity spectrum, in diameters of the cell."""

MEASUREMENTS = (
    Measurement("cell_area", "pixels", "area of the cell", "size"),
    Measurement("nucleus_area", "pixels", "area of the nucleus", "nucleus"),
    Measurement("cytoplasm_area", "pixels", "area of the cell without its nucleus", "cytoplasm"),
    Measurement("cell_area_um2", "square micrometres", "area of the cell, where a column `mpp` is known", "size"),
    Measurement("nucleus_area_um2", "square micrometres", "area of the nucleus, likewise", "nucleus"),
    Measurement("cytoplasm_area_um2", "square micrometres", "area of the cytoplasm, likewise", "cytoplasm"),
    Measurement(
        "cell_size_in_red_cells", "red cells", "area of the cell over that of the median red cell beside it", "size"
    ),
    Measurement(
        "nuclear_fraction",
        "0 to 1",
        "area of the nucleus over that of the cell: the nuclear-cytoplasmic ratio as a share",
        "nucleus",
    ),
    Measurement("cell_eccentricity", "0 to 1", "of the ellipse with the cell's moments; 0 is a circle", "size"),
    Measurement("cell_solidity", "0 to 1", "area of the cell over that of its convex hull", "size"),
    Measurement(
        "nucleus_lobes",
        "lobes",
        "maxima of the distance to the nucleus's border that stand out by a seventh of the largest distance",
        "nucleus",
        whole=True,
    ),
    Measurement("nucleus_parts", "parts", "connected parts of the nucleus", "nucleus", whole=True),
    Measurement(
        "nucleus_indentation",
        "diameters",
        "depth of the deepest notch: largest distance, within the convex hull but outside the nucleus, to the hull's "
        "border; over the diameter of the circle of the nucleus's area",
        "nucleus",
    ),
    Measurement("nucleus_eccentricity", "0 to 1", "of the ellipse with the nucleus's moments", "nucleus"),
    Measurement("nucleus_solidity", "0 to 1", "area of the nucleus over that of its convex hull", "nucleus"),
    Measurement(
        "nucleus_offset",
        "radii",
        "distance of the centres of nucleus and cell, over the radius of the cell's area",
        "nucleus",
    ),
    Measurement(
        "nucleus_density", _DENSITY, "mean over the nucleus and the three colours: strength of its stain", "nucleus"
    ),
    Measurement(
        "nucleus_azure", _DENSITY, "mean density of azure and methylene blue in the nucleus (deconvolution)", "nucleus"
    ),
    Measurement("nucleus_eosin", _DENSITY, "mean density of eosin in the nucleus", "nucleus"),
    Measurement("cytoplasm_density", _DENSITY, "mean over the cytoplasm and the three colours", "cytoplasm"),
    Measurement(
        "cytoplasm_azure",
        _DENSITY,
        "mean density of azure and methylene blue in the cytoplasm: basophilia",
        "cytoplasm",
    ),
    Measurement("cytoplasm_eosin", _DENSITY, "mean density of eosin in the cytoplasm", "cytoplasm"),
    Measurement(
        "chromatin_roughness",
        "1",
        "standard deviation of the density within the nucleus, over its mean; without its rim",
        "nucleus",
    ),
    Measurement(
        "nucleus_contrast", "1", "contrast of the co-occurrence of densities in the nucleus (16 levels)", "nucleus"
    ),
    Measurement("nucleus_homogeneity", "0 to 1", "homogeneity of the same", "nucleus"),
    Measurement("nucleus_correlation", "-1 to 1", "correlation of the same", "nucleus"),
    Measurement("cytoplasm_contrast", "1", "contrast of the co-occurrence of densities in the cytoplasm", "cytoplasm"),
    Measurement("cytoplasm_homogeneity", "0 to 1", "homogeneity of the same", "cytoplasm"),
    Measurement("cytoplasm_correlation", "-1 to 1", "correlation of the same", "cytoplasm"),
    *(
        Measurement(
            f"{tissue}_granularity_{number}",
            "0 to 1",
            f"granularity spectrum: share of the {tissue}'s density that an opening with a disc of {radius:g} cell "
            "diameters takes away, beyond that of the next smaller disc",
            tissue,
        )
        for tissue in ("nucleus", "cytoplasm")
        for number, radius in enumerate(GRANULARITY_RADII, 1)
    ),
    Measurement(
        "granule_score",
        _DENSITY,
        "mean of what stands out darkly at up to 0.03 cell diameters in the cytoplasm (white top-hat)",
        "cytoplasm",
    ),
    Measurement(
        "granule_redness",
        "-1 to 1",
        "eosin less azure over their sum in what stands out darkly in the cytoplasm",
        "cytoplasm",
    ),
    Measurement(
        "vacuole_share",
        "0 to 1",
        "share of the cytoplasm whose density is below 0.35 of the cytoplasm's median",
        "cytoplasm",
    ),
    Measurement(
        "vacuole_contrast",
        "0 to 1",
        "97th percentile, over the cytoplasm, of how much paler than its surroundings a place is, as a share of theirs "
        "(black top-hat of 0.1 cell diameters)",
        "cytoplasm",
    ),
    Measurement(
        "nucleolus_score",
        _DENSITY,
        "mean of what stands out palely at up to 0.08 cell diameters in the nucleus",
        "nucleus",
    ),
    Measurement("red_cells", "red cells", "red cells around that are seen whole", "surroundings", whole=True),
    Measurement("red_cell_diameter", "pixels", "median diameter of these", "surroundings"),
    Measurement("red_cell_diameter_low", "pixels", "lower end of its 95 % interval", "surroundings"),
    Measurement("red_cell_diameter_high", "pixels", "upper end of it", "surroundings"),
    Measurement(
        "mpp_from_red_cells",
        "micrometres per pixel",
        f"scale if the median red cell has {RED_CELL_DIAMETER:g} micrometres; its interval is that of the diameter",
        "surroundings",
    ),
    Measurement("background_share", "0 to 1", "share of the image that is empty", "surroundings"),
    Measurement(
        "sharpness",
        "1 per pixel",
        "95th percentile of the gradient of density in the cell, over the range of its density",
        "image",
    ),
)
"""In the order of the columns."""


SEGMENTED, FLAGS = "segmented_by", "segmentation_flags"
"""Columns beside the measurements: ``mask`` or ``colour``; and what can be doubted, joined by a bar."""
