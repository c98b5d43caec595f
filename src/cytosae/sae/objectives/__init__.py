"""What training minimises: each objective is a module here, named in `cytosae.settings.OBJECTIVES`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from cytosae import settings
from cytosae.sae.objectives.base import (
    Activation,
    Dictionary,
    Latents,
    Objective,
    relative_squared_error,
    squared_error,
)
from cytosae.sae.objectives.batchtopk import BatchTopK
from cytosae.sae.objectives.gated import Gated
from cytosae.sae.objectives.jumprelu import JumpReLU
from cytosae.sae.objectives.release import ReLU
from cytosae.sae.objectives.topk import TopK
from cytosae.settings import TrainConfig, stored_names, to_stored

OBJECTIVES: dict[str, Objective] = {name: import_module(f"{__name__}.{name}").OBJECTIVE for name in settings.OBJECTIVES}
"""By the name that ``--objective`` takes."""
RECONSTRUCTION = {name: objective.error for name, objective in OBJECTIVES.items()}
"""Reconstruction error per token, by the name of the objective."""
ACTIVATIONS = {objective.kind.name: objective.kind for objective in OBJECTIVES.values()}
"""By the name that ``config.json`` gives."""


def restore_activation(described: Mapping[str, Any] | None) -> Activation:
    """The activation that `Activation.described` described; a ReLU if None, as before there were others.

    Raises
    ------
    KeyError, TypeError
        No such activation, or other fields than its own.
    """
    if described is None:
        return ReLU()
    return ACTIVATIONS[described["kind"]](**{key: value for key, value in described.items() if key != "kind"})


def recorded(config: TrainConfig) -> dict[str, Any]:
    """The settings that the objective uses, by their names on disk: what a training is identified by, and compared by.

    No example: needs a store of tokens, or a trained autoencoder; the README trains one.
    """
    own = {name for objective in OBJECTIVES.values() for name in objective.settings}
    names = stored_names(TrainConfig)
    unused = {names[name] for name in own - set(OBJECTIVES[config.objective].settings)}
    return {name: value for name, value in to_stored(config).items() if name not in unused}


__all__ = [
    "ACTIVATIONS",
    "OBJECTIVES",
    "RECONSTRUCTION",
    "Activation",
    "BatchTopK",
    "Dictionary",
    "Gated",
    "JumpReLU",
    "Latents",
    "Objective",
    "ReLU",
    "TopK",
    "recorded",
    "relative_squared_error",
    "restore_activation",
    "squared_error",
]
