from .measuring import measure_cell
from .names import MEASURED
from .places import LOOKS, PLACES, look_map, patch_looks, patch_places, place_map
from .shape import count_lobes, indentation, shape_of
from .stage import measure_cells, measure_inputs, measure_rows, read_measurements, read_places
from .stain import stain_of, unmix
from .texture import granularity, texture_of

__all__ = [
    "LOOKS",
    "MEASURED",
    "PLACES",
    "count_lobes",
    "granularity",
    "indentation",
    "look_map",
    "measure_cell",
    "measure_cells",
    "measure_inputs",
    "measure_rows",
    "patch_looks",
    "patch_places",
    "place_map",
    "read_measurements",
    "read_places",
    "shape_of",
    "stain_of",
    "texture_of",
    "unmix",
]
