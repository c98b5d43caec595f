"""Questions to a finished study: are its concepts to be believed, what does one look like, what tells patients apart?"""

from cytosae.analysis.concepts import attribute, show_concept
from cytosae.analysis.quality import compare_counts, evaluate
from cytosae.analysis.viewing import Viewer, saved_backbone, study_tokens

__all__ = ["Viewer", "attribute", "compare_counts", "evaluate", "saved_backbone", "show_concept", "study_tokens"]
