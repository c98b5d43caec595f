"""The sparse autoencoder: model, objectives, training, checkpoints. Leaves ``model.safetensors`` and ``config.json``."""

from cytosae.sae.distributed import join
from cytosae.sae.importing import import_sae
from cytosae.sae.loss import Loss, backward, ghost_reconstruction, terms
from cytosae.sae.metrics import HELD_OUT, TRAINING, ExplainedVariance, evaluate, measured_on
from cytosae.sae.model import SAE
from cytosae.sae.objectives import RECONSTRUCTION, recorded
from cytosae.sae.seeds import train_seeds
from cytosae.sae.start import geometric_median
from cytosae.sae.tracking import TRACKERS, read_metrics
from cytosae.sae.trainer import training_inputs
from cytosae.sae.training import train
from cytosae.settings import TrainConfig

__all__ = [
    "HELD_OUT",
    "RECONSTRUCTION",
    "SAE",
    "TRACKERS",
    "TRAINING",
    "ExplainedVariance",
    "Loss",
    "TrainConfig",
    "backward",
    "evaluate",
    "geometric_median",
    "ghost_reconstruction",
    "import_sae",
    "join",
    "measured_on",
    "read_metrics",
    "recorded",
    "terms",
    "train",
    "train_seeds",
    "training_inputs",
]
