"""The figures of a study and one shareable HTML page. Leaves ``report/index.html``."""

from cytosae.report.barcodes import BARCODE_FIGURES, barcode_figures
from cytosae.report.classification_figures import (
    abstention_figure,
    calibration_figure,
    confusion_figure,
    method_figure,
    sparsity_figure,
    threshold_sweep,
)
from cytosae.report.cohort import (
    comparison_scatter,
    correlation_map,
    disease_barcodes,
    patient_barcode,
    patient_map,
)
from cytosae.report.curves import training_curves
from cytosae.report.inline import encode_png, template
from cytosae.report.outcome_figures import outcome_figure
from cytosae.report.overlays import enlarge, multiplied, overlay
from cytosae.report.overview import overview, threshold_counts
from cytosae.report.page import PAGE, drawn_config, report_inputs, shown_concepts, write_report
from cytosae.report.patient import Concept, Section, Tile, is_patient_page, patient_page
from cytosae.report.quality_figures import density_histogram, quality_summary
from cytosae.report.reference_grids import Row, patch_references, reference_grid
from cytosae.report.style import figure_files, number, refuse_foreign_figure, save

__all__ = [
    "BARCODE_FIGURES",
    "PAGE",
    "Concept",
    "Row",
    "Section",
    "Tile",
    "abstention_figure",
    "barcode_figures",
    "calibration_figure",
    "comparison_scatter",
    "confusion_figure",
    "correlation_map",
    "density_histogram",
    "disease_barcodes",
    "drawn_config",
    "encode_png",
    "enlarge",
    "figure_files",
    "is_patient_page",
    "method_figure",
    "multiplied",
    "number",
    "outcome_figure",
    "overlay",
    "overview",
    "patch_references",
    "patient_barcode",
    "patient_map",
    "patient_page",
    "quality_summary",
    "reference_grid",
    "refuse_foreign_figure",
    "report_inputs",
    "save",
    "shown_concepts",
    "sparsity_figure",
    "template",
    "threshold_counts",
    "threshold_sweep",
    "training_curves",
    "write_report",
]
