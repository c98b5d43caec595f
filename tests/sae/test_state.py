"""The state of a training: dead latents and the learning rate."""

from __future__ import annotations

import pytest
import torch

from cytosae.sae import TrainConfig
from cytosae.sae.state import dead_latents, learning_rate, new_state
from cytosae.sae.step import step


def test_dead_means_silent_on_so_many_tokens_whatever_the_batch() -> None:
    config = TrainConfig(expansion=2, dead_latent_loss="none", learning_rate=1e-9, dead_after_tokens=64 * 256)
    state = new_state(config, 4, torch.device("cpu"))
    with torch.no_grad():
        state.sae.b_enc[5] = -1e6
    done = 0
    for size in (256, 64, 512) * 22:
        step(state, torch.randn(size, 4), config)
        done += size
        assert dead_latents(state, config).tolist() == ([5] if done >= 64 * 256 else [])
    assert done > 64 * 256
    with torch.no_grad():
        state.sae.b_enc[5] = 1e6
    step(state, torch.randn(8, 4), config)
    assert dead_latents(state, config).tolist() == []


def test_learning_rate_warms_up_linearly_then_stays() -> None:
    config = TrainConfig()
    assert learning_rate(0, config) == pytest.approx(4e-4 / 500)
    assert learning_rate(249, config) == pytest.approx(2e-4)
    assert learning_rate(499, config) == learning_rate(10**6, config) == 4e-4
