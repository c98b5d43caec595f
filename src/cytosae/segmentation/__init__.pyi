from .cell import DOUBTS, FoundCell, find_cell, read_tissues
from .contour import enclosing_contour
from .field import REASONS, FieldObject, find_field_cells
from .optics import Optics, measure_optics
from .red_cells import RedCells, find_red_cells
from .registry import FLAGS, MEASUREMENTS, RED_CELL_DIAMETER, SEGMENTED, Measurement
from .scale import measure_scale

__all__ = [
    "DOUBTS",
    "FLAGS",
    "MEASUREMENTS",
    "REASONS",
    "RED_CELL_DIAMETER",
    "SEGMENTED",
    "FieldObject",
    "FoundCell",
    "Measurement",
    "Optics",
    "RedCells",
    "enclosing_contour",
    "find_cell",
    "find_field_cells",
    "find_red_cells",
    "measure_optics",
    "measure_scale",
    "read_tissues",
]
