"""The state of a training: dead latents and the learning rate."""

from __future__ import annotations

from dataclasses import replace

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


def test_learning_rate_falls_at_the_end_where_it_shall() -> None:
    config = TrainConfig(images=6400, decay=0.25, warmup_steps=10)  # 100 steps
    assert learning_rate(75, config) == 4e-4
    assert learning_rate(90, config) == pytest.approx(4e-4 * 10 / 25)
    assert learning_rate(99, config) == pytest.approx(4e-4 / 25)
    assert learning_rate(5, replace(config, decay=1.0)) == pytest.approx(4e-4 * 0.6)  # the lower of both


@pytest.mark.parametrize("matrix", ["decoder", "encoder"])
@pytest.mark.parametrize("objective", ["batchtopk", "gated"])  # along the active latents, and as the equations read
def test_a_frozen_matrix_stays_and_all_else_learns(matrix: str, objective: str) -> None:
    config = TrainConfig(expansion=4, frozen=matrix, objective=objective, k=2, dead_latent_loss="auxk", warmup_steps=0)
    state = new_state(config, 8, torch.device("cpu"))
    before = {name: value.detach().clone() for name, value in state.sae.tensors().items()}
    for _ in range(3):
        state.l0 = 0.0  # the sparse step from the first on
        step(state, torch.randn(300, 8), config)
    kept = "W_dec" if matrix == "decoder" else "W_enc"
    for name, value in state.sae.tensors().items():
        if name not in ("r_mag", "b_mag", "log_threshold"):
            assert torch.equal(value, before[name]) == (name == kept), name
