from .boxes import BOX_FORMATS, read_boxes
from .cutting import cut_out
from .detecting import find_in_tiles
from .geojson import features, read_features, write_features
from .stage import find_cells_of_fields, read_field_cells, read_fields
from .table import BOX, FIELDS, LISTED, REJECTED, TABLE

__all__ = [
    "BOX",
    "BOX_FORMATS",
    "FIELDS",
    "LISTED",
    "REJECTED",
    "TABLE",
    "cut_out",
    "features",
    "find_cells_of_fields",
    "find_in_tiles",
    "read_boxes",
    "read_features",
    "read_field_cells",
    "read_fields",
    "write_features",
]
