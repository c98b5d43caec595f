"""The figures of a study and one shareable HTML page. Leaves ``report/index.html``."""

from cytosae.report.figures import overview, save, training_curves
from cytosae.report.page import report_inputs, strongest, write_report

__all__ = ["overview", "report_inputs", "save", "strongest", "training_curves", "write_report"]
