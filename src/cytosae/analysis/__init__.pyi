from .classification import classify
from .comparison import compare_groups
from .concepts import attribute, show_concept
from .evaluation import compare_counts, evaluate
from .labelling import label_cells
from .outcomes import predict_outcome
from .outlines import export_outlines
from .patient_page import show_patient
from .prediction import predict_patients
from .refinement import refine_study
from .suggestion import suggest
from .teaching import teach
from .viewing import Viewer, saved_backbone, study_store, study_tokens

__all__ = [
    "Viewer",
    "attribute",
    "classify",
    "compare_counts",
    "compare_groups",
    "evaluate",
    "export_outlines",
    "label_cells",
    "predict_outcome",
    "predict_patients",
    "refine_study",
    "saved_backbone",
    "show_concept",
    "show_patient",
    "study_store",
    "study_tokens",
    "suggest",
    "teach",
]
