"""The figures of a study and one shareable HTML page. Leaves ``report/index.html``."""

from cytosae.report.curves import training_curves
from cytosae.report.galleries import Row, patch_references, reference_grid
from cytosae.report.overlays import enlarge, multiplied, overlay
from cytosae.report.overview import overview, threshold_counts
from cytosae.report.page import report_inputs, strongest, write_report
from cytosae.report.quality import density_histogram, quality_summary
from cytosae.report.style import save

__all__ = [
    "Row",
    "density_histogram",
    "enlarge",
    "multiplied",
    "overlay",
    "overview",
    "patch_references",
    "quality_summary",
    "reference_grid",
    "report_inputs",
    "save",
    "strongest",
    "threshold_counts",
    "training_curves",
    "write_report",
]
