from . import datasets
from .attributes import read_attributes
from .decoding import decoded, default_workers
from .images import UnreadableImage, decode, load_squashed
from .masks import TISSUES, patch_tissues
from .perturbations import PERTURBATIONS
from .sources import COLUMNS, read_source
from .table import (
    Listing,
    difference,
    held_out,
    is_listing,
    list_cells,
    metadata_digest,
    pixels_digest,
    read_cells,
    rejected_beside,
    write_cells,
    write_listing,
)

__all__ = [
    "COLUMNS",
    "PERTURBATIONS",
    "TISSUES",
    "Listing",
    "UnreadableImage",
    "datasets",
    "decode",
    "decoded",
    "default_workers",
    "difference",
    "held_out",
    "is_listing",
    "list_cells",
    "load_squashed",
    "metadata_digest",
    "patch_tissues",
    "pixels_digest",
    "read_attributes",
    "read_cells",
    "read_source",
    "rejected_beside",
    "write_cells",
    "write_listing",
]
