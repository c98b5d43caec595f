"""From pre-activations to latents, one file for each activation; `ACTIVATIONS` is the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cytosae.sae.activations.base import Activation, Latents
from cytosae.sae.activations.batchtopk import BatchTopK
from cytosae.sae.activations.gated import Gated
from cytosae.sae.activations.jumprelu import JumpReLU
from cytosae.sae.activations.relu import ReLU
from cytosae.sae.activations.topk import TopK

ACTIVATIONS: dict[str, type[Activation]] = {kind.name: kind for kind in (ReLU, TopK, BatchTopK, JumpReLU, Gated)}
"""By the name that ``config.json`` says."""


def activation_of(described: Mapping[str, Any] | None) -> Activation:
    """The activation that `Activation.described` described; a ReLU where nothing is said, as before there were others.

    Raises
    ------
    KeyError, TypeError
        No such activation, or other fields than its own.
    """
    if described is None:
        return ReLU()
    return ACTIVATIONS[described["kind"]](**{key: value for key, value in described.items() if key != "kind"})


__all__ = ["ACTIVATIONS", "Activation", "BatchTopK", "Gated", "JumpReLU", "Latents", "ReLU", "TopK", "activation_of"]
