from .asking import Candidates, Suggestion, how_sure, worth_marking
from .background import Background
from .judging import Figure, Threshold
from .latent_marks import marks_from_latent
from .learning import Learned, Learner
from .marks import (
    COLUMNS,
    NONE,
    NOT,
    THIS,
    WHOLE_CELL,
    ConceptMarks,
    joined_marks,
    marks_from_column,
    marks_from_masks,
    marks_table,
    read_marks,
    usable_marks,
    write_marks,
)
from .nuisance import VIEWS, Views, mean_square_change

__all__ = [
    "COLUMNS",
    "NONE",
    "NOT",
    "THIS",
    "VIEWS",
    "WHOLE_CELL",
    "Background",
    "Candidates",
    "ConceptMarks",
    "Figure",
    "Learned",
    "Learner",
    "Suggestion",
    "Threshold",
    "Views",
    "how_sure",
    "joined_marks",
    "marks_from_column",
    "marks_from_latent",
    "marks_from_masks",
    "marks_table",
    "mean_square_change",
    "read_marks",
    "usable_marks",
    "worth_marking",
    "write_marks",
]
