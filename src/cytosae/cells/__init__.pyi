from . import datasets
from .attributes import read_attributes
from .columns import COLUMNS, RESERVED
from .decoding import decoded, default_workers
from .frames import frame_of_one, with_frames
from .framing import Frame, Reading
from .images import SUFFIXES, decode, load_squashed, looks_like_image, read_image
from .listing import Listing, list_cells, rejected_path, write_listing
from .masks import TISSUES, patch_tissues, tissues_of_cells
from .opening import open_regions
from .perturbations import PERTURBATIONS, RESPONSES
from .regions import REGION_WISE, Regions, WholeImage
from .samples import TooManyPixels, UnreadableImage
from .sources import check_source, chosen_columns, read_source
from .table import (
    difference,
    frame_rule,
    held_out,
    image_digests,
    intensities,
    is_listing,
    metadata_digest,
    pixels_digest,
    read_cells,
    readings,
    write_cells,
)
from .user_tables import read_table

__all__ = [
    "COLUMNS",
    "PERTURBATIONS",
    "REGION_WISE",
    "RESERVED",
    "RESPONSES",
    "SUFFIXES",
    "TISSUES",
    "Frame",
    "Listing",
    "Reading",
    "Regions",
    "TooManyPixels",
    "UnreadableImage",
    "WholeImage",
    "check_source",
    "chosen_columns",
    "datasets",
    "decode",
    "decoded",
    "default_workers",
    "difference",
    "frame_of_one",
    "frame_rule",
    "held_out",
    "image_digests",
    "intensities",
    "is_listing",
    "list_cells",
    "load_squashed",
    "looks_like_image",
    "metadata_digest",
    "open_regions",
    "patch_tissues",
    "pixels_digest",
    "read_attributes",
    "read_cells",
    "read_image",
    "read_source",
    "read_table",
    "readings",
    "rejected_path",
    "tissues_of_cells",
    "with_frames",
    "write_cells",
    "write_listing",
]
