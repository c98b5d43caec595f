"""Baselines that are trained: autoencoders one of whose matrices stays as it was drawn.

Random directions with a trained encoder, and the reverse. What they reach is no merit of directions that were learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.joint import Member, train_together
from cytosae.sae.objectives import OBJECTIVES
from cytosae.settings import TrainConfig, from_stored
from cytosae.tokens import TokenSource

FROZEN = {"decoder": "frozen decoder", "encoder": "frozen encoder"}
"""Name of the method by the matrix that stays."""


@dataclass(frozen=True)
class Frozen:
    """A baseline, and as many of its latents as there are concepts."""

    sae: SAE
    latents: NDArray[np.int64]


def train_frozen(source: TokenSource, sae: SAE, images: int) -> Mapping[str, SAE]:
    """Train both baselines with the settings of an autoencoder, together, on tokens as it encodes them.

    Parameters
    ----------
    source
        Tokens, centred if those of `sae` are.
    sae
        Says with which settings it was trained.
    images
        Images seen; none is trained for 0.

    Raises
    ------
    CytosaeError
        The autoencoder does not say how it was trained.
    """
    if not images:
        return {}
    stored = sae.metadata.get("training")
    if not stored:
        raise CytosaeError("--baseline-images: the autoencoder does not say how it was trained. Leave the option out.")
    own = TrainConfig(**from_stored(TrainConfig, stored))
    config = replace(
        own,
        objective="topk" if OBJECTIVES[own.objective].dictionary else own.objective,
        images=images,
        centring="none",
        seeds=1,
        directions_init="random",
    )
    with TemporaryDirectory() as folder:
        members = [
            Member(name, Path(folder) / matrix, replace(config, frozen=matrix)) for matrix, name in FROZEN.items()
        ]
        trained = train_together(source, members)
        for name, why in trained.diverged.items():
            say(f"quality: no {name}: {why}")
        return {m.name: SAE.from_pretrained(m.folder) for m in members if m.name not in trained.diverged}


def draw_latents(fired: NDArray[np.bool_], count: int, seed: int) -> NDArray[np.int64]:
    """A seeded draw of `count` of the latents that fire; all, if they are fewer."""
    return np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(fired))[:count])
