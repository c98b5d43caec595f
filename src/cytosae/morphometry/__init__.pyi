from .measuring import measure_cell
from .places import PLACES, patch_places, place_map
from .shape import count_lobes, indentation, shape_of
from .stage import MEASURED, measure_cells, read_measurements, read_places
from .stain import stain_of, unmix
from .texture import granularity, texture_of

__all__ = [
    "MEASURED",
    "PLACES",
    "count_lobes",
    "granularity",
    "indentation",
    "measure_cell",
    "measure_cells",
    "patch_places",
    "place_map",
    "read_measurements",
    "read_places",
    "shape_of",
    "stain_of",
    "texture_of",
    "unmix",
]
