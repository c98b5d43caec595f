from .aggregation import make_barcodes, patient_names
from .artefact_latents import artefact_latents
from .barcodes import (
    BarcodeSums,
    barcode_correlation,
    disease_barcodes,
    pooled_mean_activation,
    variance_between,
)
from .baselines import PatientTokens, count_bags, patient_tokens, rows_of_cells
from .blocks import TOP, CountSums
from .cell_types import CELL_TYPE_LEAST, CellProbe, answering_threshold, fit_probe, predicted_fractions
from .colours import colour_histograms
from .composition import without_components
from .conformal import Calibration, error_rate, least_patients, set_figures
from .count_model import compare_rates
from .cross_validation import Predictions, Predictor, cross_validate, figures, method_table
from .differences import as_records, compare, group_means, make_strata, most_different
from .differential import Differential, differential_count
from .explanation import (
    Classifier,
    LinearModel,
    read_classifiers,
    read_regressions,
    strongest,
    trained,
    write_models,
)
from .fold_files import fold_column
from .folds import Folds, given_folds, stratified_folds
from .multiple_instance import Bags, predict_bags
from .novelty import BEYOND, Novelty, nearest_distances, patient_novelty
from .outcome_calibration import (
    THIRDS,
    OutcomeCalibration,
    interval_figures,
    left_out_intervals,
    third_of,
)
from .outcome_validation import (
    OutcomePredictions,
    choose_outcome,
    latent_weights,
    outcome_table,
    trained_outcome,
    validated,
)
from .outcomes import CLASSES, NUMBER, SURVIVAL, Outcome, outcome_kind, outcome_task
from .outliers import RULE, cell_scores, selected, unusual
from .parts import patch_parts
from .reaching import REACH_Z, compare_reach
from .representation import FEATURES, PAPER, Representation, transformed, transformed_error
from .restriction import RESTRICTIONS, only, restricted
from .retrieval import FALSE_SHARE, ByChance, cells_showing, expected_as_strong, number_by_chance, sure_cells
from .scores import weighted_f1
from .selection import (
    Choice,
    Chosen,
    Products,
    candidates,
    choice_record,
    choose,
    chosen_predictions,
    chosen_records,
    null_record,
)
from .set_coverage import conformal_figures, left_out_p_values
from .short_model import fit_short, predict_short, short_table
from .sparsity import SizedModels, sparsity_curve, sparsity_rows
from .storage import (
    BARCODES,
    CLASSIFICATION,
    COHORT,
    OUTCOMES,
    is_barcodes,
    methods_figure,
    outcome_folder,
    read_barcodes,
    read_methods,
    read_patient_columns,
    read_warnings,
    why_other_concepts,
)
from .striking import Refitted, refitted
from .task import ClassificationTask, classification_task, patient_column
from .threshold_sweep import PAPER_THRESHOLD, Sweep, sweep
from .transfer import (
    ALONE,
    AT_HAND,
    Transfer,
    cells_fitter,
    harmonised,
    left_out_laboratories,
    patients_fitter,
    within_laboratories,
)
from .unfamiliar import ALARMS, Unfamiliar, unfamiliar_cells
from .warnings import CohortWarning, association, cohort_warnings

__all__ = [
    "ALARMS",
    "ALONE",
    "AT_HAND",
    "BARCODES",
    "BEYOND",
    "CELL_TYPE_LEAST",
    "CLASSES",
    "CLASSIFICATION",
    "COHORT",
    "FALSE_SHARE",
    "FEATURES",
    "NUMBER",
    "OUTCOMES",
    "PAPER",
    "PAPER_THRESHOLD",
    "REACH_Z",
    "RESTRICTIONS",
    "RULE",
    "SURVIVAL",
    "THIRDS",
    "TOP",
    "Bags",
    "BarcodeSums",
    "ByChance",
    "Calibration",
    "CellProbe",
    "Choice",
    "Chosen",
    "ClassificationTask",
    "Classifier",
    "CohortWarning",
    "CountSums",
    "Differential",
    "Folds",
    "LinearModel",
    "Novelty",
    "Outcome",
    "OutcomeCalibration",
    "OutcomePredictions",
    "PatientTokens",
    "Predictions",
    "Predictor",
    "Products",
    "Refitted",
    "Representation",
    "SizedModels",
    "Sweep",
    "Transfer",
    "Unfamiliar",
    "answering_threshold",
    "artefact_latents",
    "as_records",
    "association",
    "barcode_correlation",
    "candidates",
    "cell_scores",
    "cells_fitter",
    "cells_showing",
    "choice_record",
    "choose",
    "choose_outcome",
    "chosen_predictions",
    "chosen_records",
    "classification_task",
    "cohort_warnings",
    "colour_histograms",
    "compare",
    "compare_rates",
    "compare_reach",
    "conformal_figures",
    "count_bags",
    "cross_validate",
    "differential_count",
    "disease_barcodes",
    "error_rate",
    "expected_as_strong",
    "figures",
    "fit_probe",
    "fit_short",
    "fold_column",
    "given_folds",
    "group_means",
    "harmonised",
    "interval_figures",
    "is_barcodes",
    "latent_weights",
    "least_patients",
    "left_out_intervals",
    "left_out_laboratories",
    "left_out_p_values",
    "make_barcodes",
    "make_strata",
    "method_table",
    "methods_figure",
    "most_different",
    "nearest_distances",
    "null_record",
    "number_by_chance",
    "only",
    "outcome_folder",
    "outcome_kind",
    "outcome_table",
    "outcome_task",
    "patch_parts",
    "patient_column",
    "patient_names",
    "patient_novelty",
    "patient_tokens",
    "patients_fitter",
    "pooled_mean_activation",
    "predict_bags",
    "predict_short",
    "predicted_fractions",
    "read_barcodes",
    "read_classifiers",
    "read_methods",
    "read_patient_columns",
    "read_regressions",
    "read_warnings",
    "refitted",
    "restricted",
    "rows_of_cells",
    "selected",
    "set_figures",
    "short_table",
    "sparsity_curve",
    "sparsity_rows",
    "stratified_folds",
    "strongest",
    "sure_cells",
    "sweep",
    "third_of",
    "trained",
    "trained_outcome",
    "transformed",
    "transformed_error",
    "unfamiliar_cells",
    "unusual",
    "validated",
    "variance_between",
    "weighted_f1",
    "why_other_concepts",
    "within_laboratories",
    "without_components",
    "write_models",
]
