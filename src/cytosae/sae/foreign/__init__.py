"""Autoencoders of other programs: read into ours without running anything, and written for SAELens."""

from cytosae.sae.foreign.detector import FORMATS, import_sae
from cytosae.sae.foreign.saelens import write as write_saelens

__all__ = ["FORMATS", "import_sae", "write_saelens"]
