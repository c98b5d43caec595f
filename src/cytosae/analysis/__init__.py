"""Questions to a finished study: are its concepts to be believed, what does one look like, what tells patients apart?"""

from cytosae.analysis.classification import classify
from cytosae.analysis.comparison import compare_groups
from cytosae.analysis.concepts import attribute, show_concept
from cytosae.analysis.patients import show_patient
from cytosae.analysis.quality import compare_counts, evaluate
from cytosae.analysis.viewing import Viewer, saved_backbone, study_tokens

__all__ = [
    "Viewer",
    "attribute",
    "classify",
    "compare_counts",
    "compare_groups",
    "evaluate",
    "saved_backbone",
    "show_concept",
    "show_patient",
    "study_tokens",
]
