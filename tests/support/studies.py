"""Studies of drawn patients, and what earlier versions left in one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cytosae.artefacts import SEAL
from cytosae.settings import BackboneConfig, TrainConfig
from cytosae.study import RunConfig

DRAWN = "synthetic:patients=20,cells=9,seed=4"
"""Twenty synthetic patients of five groups, nine cells each."""
SET = "synthetic"
"""Their data set."""


def drawn_config() -> RunConfig:
    """How a study of `DRAWN` is made."""
    training = TrainConfig(
        expansion=2,
        images=960,
        batch_images=16,
        l1=4e-5,
        learning_rate=1e-3,
        directions_init="tokens",
        dead_latent_loss="none",
        centring="position",
    )
    return RunConfig(backbone=BackboneConfig("tiny"), train=training)


def edit_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest as an earlier version might have written it: without the digest of its content."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw.pop(SEAL)
    change(raw)
    path.write_text(json.dumps(raw), encoding="utf-8")
