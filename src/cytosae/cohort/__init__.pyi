from .aggregation import make_barcodes
from .barcodes import (
    BarcodeSums,
    barcode_correlation,
    disease_barcodes,
    pooled_mean_activation,
    variance_between,
)
from .classification import (
    PAPER_THRESHOLD,
    Judged,
    Sweep,
    choose_threshold,
    contender_table,
    figures,
    judged_by,
    linear_judge,
    sweep,
)
from .comparison import compare, most_different, strata_of
from .contenders import PatientTokens, patient_tokens
from .explanation import Classifier, read_classifiers, trained, write_classifiers
from .folds import Folds, given_folds, stratified_folds
from .guards import Finding, association, examine
from .multiple_instance import Bags, judge_bags
from .patients import RULE, cell_scores, selected, unusual
from .problem import Problem, column_of, pose
from .storage import BARCODES, CLASSIFICATION, COHORT, is_barcodes, read_barcodes, why_of_others

__all__ = [
    "BARCODES",
    "CLASSIFICATION",
    "COHORT",
    "PAPER_THRESHOLD",
    "RULE",
    "Bags",
    "BarcodeSums",
    "Classifier",
    "Finding",
    "Folds",
    "Judged",
    "PatientTokens",
    "Problem",
    "Sweep",
    "association",
    "barcode_correlation",
    "cell_scores",
    "choose_threshold",
    "column_of",
    "compare",
    "contender_table",
    "disease_barcodes",
    "examine",
    "figures",
    "given_folds",
    "is_barcodes",
    "judge_bags",
    "judged_by",
    "linear_judge",
    "make_barcodes",
    "most_different",
    "patient_tokens",
    "pooled_mean_activation",
    "pose",
    "read_barcodes",
    "read_classifiers",
    "selected",
    "strata_of",
    "stratified_folds",
    "sweep",
    "trained",
    "unusual",
    "variance_between",
    "why_of_others",
    "write_classifiers",
]
