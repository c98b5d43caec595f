"""Which images, of which patient, with which label? Leaves ``cells.parquet``."""

from cytosae.cells.attributes import read_attributes
from cytosae.cells.decoding import decoded, default_workers
from cytosae.cells.images import UnreadableImage, decode, load_squashed
from cytosae.cells.masks import TISSUES, patch_tissues
from cytosae.cells.perturbations import PERTURBATIONS
from cytosae.cells.sources import COLUMNS, read_source
from cytosae.cells.table import (
    Listing,
    difference,
    held_out,
    list_cells,
    metadata_digest,
    pixels_digest,
    read_cells,
    write_cells,
)

__all__ = [
    "COLUMNS",
    "PERTURBATIONS",
    "TISSUES",
    "Listing",
    "UnreadableImage",
    "decode",
    "decoded",
    "default_workers",
    "difference",
    "held_out",
    "list_cells",
    "load_squashed",
    "metadata_digest",
    "patch_tissues",
    "pixels_digest",
    "read_attributes",
    "read_cells",
    "read_source",
    "write_cells",
]
