"""What do concepts say of patients and diseases?"""

from cytosae.cohort.aggregation import make_barcodes
from cytosae.cohort.storage import read_barcodes

__all__ = ["make_barcodes", "read_barcodes"]
