"""All words of descriptions. Terms are those of the vocabulary that annotation uses (ICSH), in the singular."""

from __future__ import annotations

from types import MappingProxyType

NOTHING = "nothing known"

PLACE_WORDS = MappingProxyType(
    {
        "nucleus": "nucleus",
        "nuclear border": "nuclear border",
        "nuclear notch": "notch or gap of an indented or segmented nucleus",
        "cytoplasm": "cytoplasm",
        "cell border": "cytoplasmic border",
        "red cell": "red blood cell beside",
        "stained beside": "platelet beside or other nucleated cell beside",
        "platelet": "platelet or fragment",
        "background": "empty background",
        "image border": "image border",
        "cell": "nucleated cell",
    }
)
"""Place -> how a description calls it."""

LOOK_WORDS = MappingProxyType(
    {
        ("nucleus", "pale spots", 1): "nucleolus or pale spot",
        ("nucleus", "azure", 1): "condensed chromatin",
        ("nucleus", "azure", -1): "fine, pale chromatin",
        ("nucleus", "dark spots", 1): "coarse chromatin",
        ("cytoplasm", "pale spots", 1): "vacuole or pale spot",
        ("cytoplasm", "azure", 1): "basophilic",
        ("cytoplasm", "azure", -1): "clear",
        ("cytoplasm", "eosin", 1): "eosinophilic",
        ("cytoplasm", "dark spots", 1): "granules",
        ("cytoplasm", "needles", 1): "Auer rod or needles",
    }
)
"""Tissue, look, and whether the concept's patches have more or less of it than the rest of that tissue in the same cells."""

MEASUREMENT_WORDS = MappingProxyType(
    {
        ("nuclear_fraction", 1): "high nuclear-cytoplasmic ratio",
        ("nuclear_fraction", -1): "low nuclear-cytoplasmic ratio",
        ("cell_size_in_red_cells", 1): "large cells",
        ("cell_size_in_red_cells", -1): "small cells",
        ("cell_area", 1): "large cells",
        ("cell_area", -1): "small cells",
        ("nucleus_area", 1): "large nucleus",
        ("nucleus_area", -1): "small nucleus",
        ("cytoplasm_area", 1): "abundant cytoplasm",
        ("cytoplasm_area", -1): "scant cytoplasm",
        ("cell_solidity", -1): "frayed border",
        ("nucleus_lobes", 1): "segmented nucleus",
        ("nucleus_parts", 1): "segmented nucleus",
        ("nucleus_indentation", 1): "indented or segmented nucleus",
        ("nucleus_indentation", -1): "round nucleus",
        ("nucleus_solidity", 1): "round nucleus",
        ("nucleus_solidity", -1): "indented or segmented nucleus",
        ("nucleus_eccentricity", 1): "oval or band-shaped nucleus",
        ("nucleus_eccentricity", -1): "round nucleus",
        ("nucleus_offset", 1): "eccentric nucleus",
        ("nucleus_density", 1): "condensed chromatin",
        ("nucleus_density", -1): "fine, pale chromatin",
        ("nucleus_azure", 1): "condensed chromatin",
        ("nucleus_azure", -1): "fine, pale chromatin",
        ("chromatin_roughness", 1): "coarse chromatin",
        ("chromatin_roughness", -1): "smooth chromatin",
        ("nucleus_contrast", 1): "coarse chromatin",
        ("nucleus_homogeneity", 1): "smooth chromatin",
        ("nucleolus_score", 1): "nucleolus or pale spots",
        ("cytoplasm_azure", 1): "basophilic cytoplasm",
        ("cytoplasm_azure", -1): "clear cytoplasm",
        ("cytoplasm_density", 1): "deeply stained cytoplasm",
        ("cytoplasm_density", -1): "clear cytoplasm",
        ("cytoplasm_eosin", 1): "eosinophilic cytoplasm",
        ("granule_score", 1): "granules",
        ("granule_score", -1): "agranular cytoplasm",
        ("granule_redness", 1): "eosinophilic granules or cytoplasm",
        ("granule_redness", -1): "basophilic granules or cytoplasm",
        ("cytoplasm_contrast", 1): "granules",
        ("cytoplasm_homogeneity", 1): "agranular cytoplasm",
        ("vacuole_share", 1): "vacuole",
        ("vacuole_contrast", 1): "vacuole",
        ("red_cells", 1): "many red cells around",
        ("background_share", 1): "few red cells around",
        ("background_share", -1): "many red cells around",
        ("red_cell_diameter", 1): "large red cells or a large scale",
        ("red_cell_diameter", -1): "small red cells or a small scale",
        ("sharpness", 1): "sharp images",
        ("sharpness", -1): "out of focus",
    }
)
"""Measurement and the sign of its correlation -> what more activation goes with. Others are facts without words."""

_TISSUE = {
    "nucleus": "nucleus",
    "nuclear border": "nucleus",
    "nuclear notch": "cytoplasm",
    "cytoplasm": "cytoplasm",
    "cell border": "cytoplasm",
}
_CELL = ("nucleus", "cytoplasm", "size")
_THEMES = MappingProxyType(
    {
        "vacuole": "vacuoles",
        "granule": "cytoplasm's grain",
        **dict.fromkeys(("area", "size", "fraction"), "size"),
        **dict.fromkeys(("red_cells", "background_share"), "surroundings"),
        **dict.fromkeys(
            ("lobes", "parts", "indentation", "nucleus_eccentricity", "nucleus_solidity"), "nucleus's shape"
        ),
        **dict.fromkeys(("nucleus_density", "nucleus_azure", "nucleus_eosin"), "nucleus's stain"),
        **dict.fromkeys(("cytoplasm_density", "cytoplasm_azure", "cytoplasm_eosin"), "cytoplasm's stain"),
        **dict.fromkeys(("chromatin", "nucleus_contrast", "nucleus_homogeneity"), "nucleus's grain"),
        **dict.fromkeys(("cytoplasm_contrast", "cytoplasm_homogeneity"), "cytoplasm's grain"),
    }
)
"""Part of the name of a measurement -> what it is about."""


def tissue_of(place: str) -> str | None:
    """The tissue that a place belongs to, whose looks and measurements can describe it; None outside the cell."""
    return _TISSUE.get(place)


def look_theme_of(subject: str) -> str:
    """What a look (``cytoplasm: azure``) is about; of one theme a sentence names the strongest alone."""
    return "stain" if subject.endswith(("azure", "eosin")) else "grain"


def parts_of(tissues: tuple[str, ...]) -> list[list[str]]:
    """The places of each tissue."""
    return [[place for place, tissue in _TISSUE.items() if tissue == wanted] for wanted in tissues]


def kinds_of(place: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Kinds of measurements that can describe a concept of a place: its own, and those of the rest of the cell."""
    if place == "cell":
        return _CELL, _CELL
    if place == "platelet":
        return (), ()
    tissue = _TISSUE.get(place)
    return (("surroundings", "image"), ()) if tissue is None else ((tissue,), _CELL)


def theme_of(measurement: str) -> str:
    """What a measurement is about; of one theme a sentence names the strongest alone."""
    return next((theme for part, theme in _THEMES.items() if part in measurement), measurement)


EOSINOPHILIC = 0.25
"""Eosin less azure over their sum above which patches are eosinophilic; purple has much of both."""


def is_of_colour(tissue: str, look: str, sign: int, redness: float) -> bool:
    """Whether the colour of the patches bears the word for more of a stain in the cytoplasm."""
    if tissue != "cytoplasm" or sign < 0 or look not in ("azure", "eosin"):
        return True
    return (redness > EOSINOPHILIC) == (look == "eosin")


GRANULES = ("eosinophilic granules", "basophilic granules", "azurophilic granules")
"""Dark spots of the cytoplasm, by colour."""


def granule_words(redness: float) -> str:
    """Granules by the colour of the patches: eosin less azure over their sum."""
    eosinophilic, basophilic, azurophilic = GRANULES
    return eosinophilic if redness > EOSINOPHILIC else basophilic if redness < -0.05 else azurophilic


def times(ratio: float) -> str:
    """A ratio of frequencies in words."""
    return f"{ratio:.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def class_of_cells(name: str, area: float, ratio: float) -> str:
    """``promyelocyte, 8.1 times as often as elsewhere (AUROC 0.96)``; the ratio where it is at least 2."""
    often = f", {times(ratio)} as often as elsewhere" if ratio >= 2 else ""
    return f"{name}{often} (AUROC {area:.2f})"


def diagnosis(name: str, area: float, ratio: float) -> str:
    """``diagnosis APL, 3.1 times as often as in other patients (AUROC over patients 0.92)``."""
    often = f", {times(ratio)} as often as in other patients" if ratio >= 2 else ""
    return f"diagnosis {name}{often} (AUROC over patients {area:.2f})"


def sentence(parts: list[str]) -> str:
    """The description of the parts that pass."""
    return "; ".join(parts) if parts else NOTHING
