from . import datasets
from .attributes import read_attributes
from .columns import COLUMNS, RESERVED
from .decoding import decoded, default_workers
from .images import UnreadableImage, decode, load_squashed
from .masks import TISSUES, patch_tissues
from .perturbations import PERTURBATIONS
from .sources import chosen_columns, read_source
from .table import (
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
    "RESERVED",
    "TISSUES",
    "Listing",
    "UnreadableImage",
    "chosen_columns",
    "datasets",
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
