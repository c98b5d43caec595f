"""Settings of a training: the paper's defaults, and what is out of range."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cytosae.errors import CytosaeError
from cytosae.sae import TrainConfig


def test_defaults_are_the_papers() -> None:
    config = TrainConfig()
    assert (config.expansion, config.l1, config.learning_rate, config.warmup_steps) == (64, 8e-5, 4e-4, 500)
    assert (config.images, config.batch_images, config.dead_after_tokens, config.dead_latent_loss) == (
        1_000_000,
        64,
        1_052_672,
        "ghost",
    )
    assert (config.b_dec_init, config.objective, config.steps) == ("geometric-median", "release", 15625)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("expansion", 0, "at least 1"),
        ("matryoshka_levels", 0, "at least 1"),
        ("objective", "mse", "choose one of release, squared"),
        ("l1", -1.0, "at least 0"),
        ("learning_rate", float("nan"), "finite"),
        ("holdout", 1.0, "below 1"),
    ],
)
def test_settings_out_of_range(field: str, value: object, words: str) -> None:
    with pytest.raises(CytosaeError, match=words):
        replace(TrainConfig(), **{field: value})
