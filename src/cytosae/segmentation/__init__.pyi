from .cell import DOUBTS, FoundCell, find_cell, read_tissues
from .contour import enclosing_contour
from .field import REASONS, FieldObject, find_field_cells
from .optics import Optics, measure_optics
from .red_cells import RedCells, find_red_cells
from .registry import FLAGS, MEASUREMENTS, RED_CELL_DIAMETER, SEGMENTED, Measurement
from .scale import NUCLEATED_DIAMETER, Ruler, measure_scale, scale_of_cells

__all__ = [
    "DOUBTS",
    "FLAGS",
    "MEASUREMENTS",
    "NUCLEATED_DIAMETER",
    "REASONS",
    "RED_CELL_DIAMETER",
    "SEGMENTED",
    "FieldObject",
    "FoundCell",
    "Measurement",
    "Optics",
    "RedCells",
    "Ruler",
    "enclosing_contour",
    "find_cell",
    "find_field_cells",
    "find_red_cells",
    "measure_optics",
    "measure_scale",
    "read_tissues",
    "scale_of_cells",
]
