from .aggregation import make_barcodes
from .barcodes import (
    BarcodeSums,
    barcode_correlation,
    disease_barcodes,
    pooled_mean_activation,
    variance_between,
)
from .baselines import PatientTokens, patient_tokens
from .cross_validation import (
    PAPER_THRESHOLD,
    Predictions,
    Sweep,
    choose_threshold,
    cross_validate,
    figures,
    linear_predictor,
    method_table,
    sweep,
)
from .differences import as_records, compare, make_strata, most_different
from .explanation import Classifier, read_classifiers, trained, write_classifiers
from .folds import Folds, given_folds, stratified_folds
from .multiple_instance import Bags, predict_bags
from .outliers import RULE, cell_scores, selected, unusual
from .storage import (
    BARCODES,
    CLASSIFICATION,
    COHORT,
    is_barcodes,
    methods_figure,
    read_barcodes,
    read_methods,
    why_other_concepts,
)
from .task import ClassificationTask, classification_task, patient_column
from .warnings import CohortWarning, association, cohort_warnings

__all__ = [
    "BARCODES",
    "CLASSIFICATION",
    "COHORT",
    "PAPER_THRESHOLD",
    "RULE",
    "Bags",
    "BarcodeSums",
    "ClassificationTask",
    "Classifier",
    "CohortWarning",
    "Folds",
    "PatientTokens",
    "Predictions",
    "Sweep",
    "as_records",
    "association",
    "barcode_correlation",
    "cell_scores",
    "choose_threshold",
    "classification_task",
    "cohort_warnings",
    "compare",
    "cross_validate",
    "disease_barcodes",
    "figures",
    "given_folds",
    "is_barcodes",
    "linear_predictor",
    "make_barcodes",
    "make_strata",
    "method_table",
    "methods_figure",
    "most_different",
    "patient_column",
    "patient_tokens",
    "pooled_mean_activation",
    "predict_bags",
    "read_barcodes",
    "read_classifiers",
    "read_methods",
    "selected",
    "stratified_folds",
    "sweep",
    "trained",
    "unusual",
    "variance_between",
    "why_other_concepts",
    "write_classifiers",
]
