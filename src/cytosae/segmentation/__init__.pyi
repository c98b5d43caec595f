from .cell import DOUBTS, FoundCell, find_cell, read_tissues
from .contour import enclosing_contour
from .optics import Optics, measure_optics
from .red_cells import RedCells, find_red_cells
from .registry import FLAGS, MEASUREMENTS, RED_CELL_DIAMETER, SEGMENTED, Measurement

__all__ = [
    "DOUBTS",
    "FLAGS",
    "MEASUREMENTS",
    "RED_CELL_DIAMETER",
    "SEGMENTED",
    "FoundCell",
    "Measurement",
    "Optics",
    "RedCells",
    "enclosing_contour",
    "find_cell",
    "find_red_cells",
    "measure_optics",
    "read_tissues",
]
