"""What does each latent mean? Leaves ``<dataset>.h5ad`` and the maps of its reference images."""

from cytosae.concepts.activations import cell_activations, concept_maps
from cytosae.concepts.attribution import CellConcepts, cell_concepts, is_common, patch_concepts, tissue_shares
from cytosae.concepts.encoding import check_fit, encode, encode_inputs
from cytosae.concepts.evaluation import evaluate_study
from cytosae.concepts.joining import joined_statistics
from cytosae.concepts.panel import draw_panel, expert_panel, stratified_panel
from cytosae.concepts.references import Gallery, References, reference_images
from cytosae.concepts.statistics import (
    LatentSums,
    activation_frequency,
    is_concept,
    label_entropy,
    mean_activation,
)
from cytosae.concepts.storage import (
    concept_files,
    file_names,
    read_activations,
    read_concepts,
    read_datasets,
    read_inputs,
    read_maps,
    read_parameters,
    read_rows,
    stream_concepts,
)
from cytosae.settings import EncodeConfig, EvaluateConfig

__all__ = [
    "CellConcepts",
    "EncodeConfig",
    "EvaluateConfig",
    "Gallery",
    "LatentSums",
    "References",
    "activation_frequency",
    "cell_activations",
    "cell_concepts",
    "check_fit",
    "concept_files",
    "concept_maps",
    "draw_panel",
    "encode",
    "encode_inputs",
    "evaluate_study",
    "expert_panel",
    "file_names",
    "is_common",
    "is_concept",
    "joined_statistics",
    "label_entropy",
    "mean_activation",
    "patch_concepts",
    "read_activations",
    "read_concepts",
    "read_datasets",
    "read_inputs",
    "read_maps",
    "read_parameters",
    "read_rows",
    "reference_images",
    "stratified_panel",
    "stream_concepts",
    "tissue_shares",
]
