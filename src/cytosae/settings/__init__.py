"""Settings of every stage; the defaults are the paper's. Imports nothing heavy: the command line shows them."""

from cytosae.settings.concepts import CONCEPT_THRESHOLD, POSITION_SHARE, DescribeConfig, EncodeConfig, EvaluateConfig
from cytosae.settings.declaration import SEED, SHORT_SEED, from_stored, readable, stored_names, to_stored
from cytosae.settings.fields import FieldConfig
from cytosae.settings.patients import (
    CHOOSE,
    FROM_CONCEPTS,
    FROM_TOKENS,
    BarcodeConfig,
    ClassifyConfig,
    CompareConfig,
    DrawnConfig,
    LabelConfig,
    LaboratoryConfig,
    PatientConfig,
    PredictConfig,
    StainConfig,
)
from cytosae.settings.refining import RefineConfig
from cytosae.settings.teaching import TeachConfig
from cytosae.settings.tokens import (
    IN_PROCESS,
    BackboneConfig,
    EngineConfig,
    FrameConfig,
    HarmoniseConfig,
    ImageConfig,
    StoreConfig,
    intensity_window,
)
from cytosae.settings.training import OBJECTIVES, PRESETS, RETURNS_ABOVE, TrainConfig

__all__ = [
    "CHOOSE",
    "CONCEPT_THRESHOLD",
    "FROM_CONCEPTS",
    "FROM_TOKENS",
    "IN_PROCESS",
    "OBJECTIVES",
    "POSITION_SHARE",
    "PRESETS",
    "RETURNS_ABOVE",
    "SEED",
    "SHORT_SEED",
    "BackboneConfig",
    "BarcodeConfig",
    "ClassifyConfig",
    "CompareConfig",
    "DescribeConfig",
    "DrawnConfig",
    "EncodeConfig",
    "EngineConfig",
    "EvaluateConfig",
    "FieldConfig",
    "FrameConfig",
    "HarmoniseConfig",
    "ImageConfig",
    "LabelConfig",
    "LaboratoryConfig",
    "PatientConfig",
    "PredictConfig",
    "RefineConfig",
    "StainConfig",
    "StoreConfig",
    "TeachConfig",
    "TrainConfig",
    "from_stored",
    "intensity_window",
    "readable",
    "stored_names",
    "to_stored",
]
