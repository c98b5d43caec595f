from .captioning import Captioner
from .classification import classify
from .comparison import compare_groups
from .concepts import attribute, show_concept
from .conclusions import classification_in_words, comparison_in_words
from .counting import count_labels
from .evaluation import compare_counts, evaluate
from .labelling import label_cells
from .laboratories import compare_laboratories
from .outcomes import predict_outcome
from .outlines import export_outlines
from .patient_page import show_patient
from .prediction import predict_patients
from .proposing import propose
from .refinement import refine_study
from .restaining import restain
from .stain_response import stain_response
from .suggestion import suggest
from .teaching import teach
from .transferring import transfer
from .viewing import Viewer, further_tokens, saved_backbone, study_framing, study_layout, study_store, study_tokens

__all__ = [
    "Captioner",
    "Viewer",
    "attribute",
    "classification_in_words",
    "classify",
    "compare_counts",
    "compare_groups",
    "compare_laboratories",
    "comparison_in_words",
    "count_labels",
    "evaluate",
    "export_outlines",
    "further_tokens",
    "label_cells",
    "predict_outcome",
    "predict_patients",
    "propose",
    "refine_study",
    "restain",
    "saved_backbone",
    "show_concept",
    "show_patient",
    "stain_response",
    "study_framing",
    "study_layout",
    "study_store",
    "study_tokens",
    "suggest",
    "teach",
    "transfer",
]
