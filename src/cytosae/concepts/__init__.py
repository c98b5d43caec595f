"""What does each latent mean? Leaves ``<dataset>.h5ad`` and the maps of its reference images."""

from cytosae.concepts.activations import cell_activations, concept_maps
from cytosae.concepts.encoding import check_fit, encode, encode_inputs
from cytosae.concepts.references import Gallery, References, reference_images
from cytosae.concepts.statistics import (
    LatentSums,
    activation_frequency,
    is_concept,
    label_entropy,
    mean_activation,
)
from cytosae.concepts.storage import read_concepts, read_datasets, read_maps
from cytosae.settings import EncodeConfig

__all__ = [
    "EncodeConfig",
    "Gallery",
    "LatentSums",
    "References",
    "activation_frequency",
    "cell_activations",
    "check_fit",
    "concept_maps",
    "encode",
    "encode_inputs",
    "is_concept",
    "label_entropy",
    "mean_activation",
    "read_concepts",
    "read_datasets",
    "read_maps",
    "reference_images",
]
