from .activations import cell_activations, concept_maps
from .alike import ALIKE, alike_leaders, count_correlations, spread_rows
from .attribution import CellConcepts, cell_concepts, patch_concepts, tissue_fractions
from .called import latent_called
from .columns import add_columns, text_column
from .description import describe_concepts, has_words, read_descriptions, read_facts, update_descriptions
from .dictionary import (
    TAUGHT_FOLDER,
    check_encoded_with,
    other_dictionary,
    read_dictionary,
    read_taught,
    same_dictionary,
    taught_inputs,
    untaught,
)
from .discovery import CountMoments, concentration, means_by_rule, papers_rule, why_no_concept
from .encoding import encode, encode_inputs
from .evaluation import evaluate_study
from .familiarity import (
    Familiarity,
    cell_summaries,
    far_cells,
    fit_familiarity,
    make_familiarity,
    read_familiarity,
)
from .fitting import check_fit
from .grouping import group_leaders
from .interest import interest_of, interest_scores, middle_share
from .joining import is_joined_statistics, joined_statistics
from .measurements import join_measurements
from .panel import draw_panel, expert_panel, is_worklist, stratified_panel
from .passports import has_descriptions, is_passport_table, passport, passport_table
from .references import ReferenceImages, References, reference_images
from .schema import ANNOTATION, NAMES, TAUGHT, VERDICT
from .statistics import (
    Groups,
    LatentSums,
    activation_frequency,
    is_common,
    is_concept,
    label_entropy,
    mean_activation,
)
from .storage import (
    check_unchanged,
    concept_files,
    file_name,
    file_names,
    read_activations,
    read_cell_rows,
    read_concepts,
    read_datasets,
    read_inputs,
    read_maps,
    read_names,
    read_parameters,
    read_rows,
    stream_concepts,
)

__all__ = [
    "ALIKE",
    "ANNOTATION",
    "NAMES",
    "TAUGHT",
    "TAUGHT_FOLDER",
    "VERDICT",
    "CellConcepts",
    "CountMoments",
    "Familiarity",
    "Groups",
    "LatentSums",
    "ReferenceImages",
    "References",
    "activation_frequency",
    "add_columns",
    "alike_leaders",
    "cell_activations",
    "cell_concepts",
    "cell_summaries",
    "check_encoded_with",
    "check_fit",
    "check_unchanged",
    "concentration",
    "concept_files",
    "concept_maps",
    "count_correlations",
    "describe_concepts",
    "draw_panel",
    "encode",
    "encode_inputs",
    "evaluate_study",
    "expert_panel",
    "far_cells",
    "file_name",
    "file_names",
    "fit_familiarity",
    "group_leaders",
    "has_descriptions",
    "has_words",
    "interest_of",
    "interest_scores",
    "is_common",
    "is_concept",
    "is_joined_statistics",
    "is_passport_table",
    "is_worklist",
    "join_measurements",
    "joined_statistics",
    "label_entropy",
    "latent_called",
    "make_familiarity",
    "mean_activation",
    "means_by_rule",
    "middle_share",
    "other_dictionary",
    "papers_rule",
    "passport",
    "passport_table",
    "patch_concepts",
    "read_activations",
    "read_cell_rows",
    "read_concepts",
    "read_datasets",
    "read_descriptions",
    "read_dictionary",
    "read_facts",
    "read_familiarity",
    "read_inputs",
    "read_maps",
    "read_names",
    "read_parameters",
    "read_rows",
    "read_taught",
    "reference_images",
    "same_dictionary",
    "spread_rows",
    "stratified_panel",
    "stream_concepts",
    "taught_inputs",
    "text_column",
    "tissue_fractions",
    "untaught",
    "update_descriptions",
    "why_no_concept",
]
