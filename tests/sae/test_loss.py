"""The autoencoder's loss: equations and gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cytosae.sae import SAE, TrainConfig, backward
from cytosae.sae.loss import Loss
from cytosae.sae.state import new_state
from cytosae.sae.step import step
from support.training import NAMES


def random_sae(d: int, s: int, seed: int = 0, bias: float = 0.0) -> SAE:
    sae = SAE(d, s).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        sae.W_enc.normal_(0, 0.5, generator=generator)
        sae.b_enc.normal_(bias, 0.5, generator=generator)
        sae.W_dec.normal_(generator=generator)
        sae.b_dec.normal_(generator=generator)
    sae.normalise_decoder()
    return sae


def transcription(
    sae: SAE, x: Tensor, objective: str, l1: float, dead: list[int], sizes: list[int], dead_latent_loss: str = "ghost"
) -> Tensor:
    """The loss of SPEC section 3, formula by formula, token by token; the error as mean over dictionaries of `sizes`."""
    total = torch.zeros((), dtype=x.dtype)
    ghosts = torch.zeros((), dtype=x.dtype)
    reconstructions = torch.zeros((), dtype=x.dtype)
    for token in x:
        pre = sae.W_enc.T @ (token - sae.b_dec) + sae.b_enc
        h = torch.where(pre > 0, pre, torch.zeros_like(pre))
        xhat = sae.W_dec.T @ h + sae.b_dec

        def error(target: Tensor, output: Tensor) -> Tensor:
            square = ((target - output) ** 2).sum()
            return square if objective == "squared" else square / target.norm() / len(target)

        parts = [sae.W_dec[:size].T @ h[:size] + sae.b_dec for size in sizes]
        reconstructions = reconstructions + sum(error(token, part) for part in parts) / len(parts)
        total = total + l1 * h.abs().sum()
        if (
            dead and dead_latent_loss == "auxk"
        ):  # Gao et al., 2024: k near half the width, of the dead ones next to firing
            k = min(len(dead), 2 ** round(math.log2(len(token) / 2)))
            nearest = sorted(dead, key=lambda s: -pre[s].item())[:k]
            pre = sae.W_enc.T @ (token - sae.b_dec.detach()) + sae.b_enc  # the bias that all share is left alone
            threshold = min(0.0, pre[nearest[-1]].item())
            said = sum((pre[s] - threshold) * sae.W_dec[s] for s in nearest)
            half = (token - xhat).detach().norm() / 2
            said = said * min(1.0, float(half / said.detach().norm().clamp_min(1e-12)))
            total = total + error(token, xhat.detach() + said) / 32
        elif dead:
            residual = (token - xhat).detach()
            ghost = sum(torch.exp(pre[s]) * sae.W_dec[s] for s in dead)
            ghost = ghost * (residual.norm() / 2 / ghost.norm()).detach()
            ghosts = ghosts + error(residual, ghost)
    n = len(x)
    loss = reconstructions / n + total / n
    if dead and dead_latent_loss == "ghost":
        loss = loss + (reconstructions / ghosts).detach() * ghosts / n
    return loss


@settings(max_examples=40, deadline=None)
@given(
    d=st.integers(2, 9),
    s=st.integers(3, 20),
    n=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    objective=st.sampled_from(["release", "squared"]),
    l1=st.sampled_from([0.0, 8e-5, 0.3]),
    dead_share=st.sampled_from([0.0, 0.3, 1.0]),
    bias=st.sampled_from([-9.0, -0.5, 0.0, 9.0]),  # from no latent active to all
    pieces=st.integers(1, 4),
    matryoshka_levels=st.integers(1, 4),
    dead_latent_loss=st.sampled_from(["ghost", "auxk"]),
)
def test_gradients_equal_the_formulas(
    d: int,
    s: int,
    n: int,
    seed: int,
    objective: str,
    l1: float,
    dead_share: float,
    bias: float,
    pieces: int,
    matryoshka_levels: int,
    dead_latent_loss: str,
) -> None:
    if dead_share:
        d += 4  # in few dimensions directions cancel, and what guards a quotient would weigh
    x = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1)) * 2
    dead = list(range(round(dead_share * s)))
    ours, theirs = random_sae(d, s, seed, bias), random_sae(d, s, seed, bias)
    index = torch.tensor(dead, dtype=torch.long)
    # The piece size divides the batch; the result must not depend on it.
    elements = s * max(1, -(-n // pieces))
    minimised = Loss(objective, l1, index, matryoshka_levels, dead_latent_loss)
    figures = backward(ours, x, minimised, max_elements=elements)
    loss = transcription(
        theirs, x, objective, l1, dead, [max(1, s // 2**level) for level in range(matryoshka_levels)], dead_latent_loss
    )
    loss.backward()
    # 1e-6 guards the formulas' quotients against zero; it is the only difference.
    for name in NAMES:
        a, b = getattr(ours, name).grad, getattr(theirs, name).grad
        assert (a - b).norm() <= 2e-5 * max(b.norm(), 1e-3), name
    assert figures.loss == pytest.approx(loss.item(), rel=1e-4, abs=1e-9)
    if not pieces > 1 and dead:
        assert figures.dead_latent_loss > 0


def test_nested_dictionaries_keep_coarse_structure_whole() -> None:
    """Twelve fine directions in three groups, each with a direction that its whole group shares."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(32, 15, generator=generator))[0].T
    group, fine = torch.randint(3, (2048,), generator=generator), torch.randint(4, (2048,), generator=generator)
    size = 1 + torch.rand(2048, 1, generator=generator)
    x = size * (axes[group] + axes[3 + 4 * group + fine]) + 0.01 * torch.randn(2048, 32, generator=generator)
    whole = {}
    for matryoshka_levels in (1, 6):
        config = TrainConfig(
            expansion=2,
            l1=1e-2,
            learning_rate=1e-2,
            warmup_steps=10,
            matryoshka_levels=matryoshka_levels,
            dead_latent_loss="none",
        )
        state = new_state(config, 32, torch.device("cpu"))
        for _ in range(300):
            step(state, x, config)
        with torch.no_grad():
            fired = state.sae.encode(x) > 0.1
        agreement = [(fired == (group == g)[:, None]).float().mean(0).max().item() for g in range(3)]
        whole[matryoshka_levels] = np.mean(agreement)
    assert whole[6] > whole[1] + 0.08


@pytest.mark.parametrize("dead_latent_loss", ["ghost", "auxk"])
def test_revival_reaches_encoder_and_decoder_of_dead_latents_only(dead_latent_loss: str) -> None:
    x = torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with_loss, without = random_sae(6, 12, bias=-20.0), random_sae(6, 12, bias=-20.0)  # nothing fires
    backward(with_loss, x, Loss("release", 0.0, torch.tensor([3, 7]), dead_latent_loss=dead_latent_loss))
    backward(without, x, Loss(objective="release", l1=0.0))
    for name, axis in (("W_enc", 0), ("b_enc", None), ("W_dec", 1)):
        gained = (getattr(with_loss, name).grad - getattr(without, name).grad).abs()
        touched = (gained.sum(axis) if axis is not None else gained) > 0
        assert touched.nonzero().squeeze(1).tolist() == [3, 7], name
    moved = (with_loss.b_dec.grad - without.b_dec.grad).abs().max()  # type: ignore[operator]
    assert (float(moved) > 1e-3) == (dead_latent_loss == "ghost")


def test_auxk_is_bounded_where_few_dead_latents_lie_far_apart() -> None:
    """Two dead latents far below zero: the upper one stands by its distance from the lower, a hundred times the residual."""
    sae, x = random_sae(6, 12, bias=-20.0), torch.randn(20, 6, dtype=torch.float64)
    with torch.no_grad():
        sae.b_enc[7] = -1000.0
    figures = backward(sae, x, Loss("squared", 0.0, torch.tensor([3, 7]), dead_latent_loss="auxk"))
    assert 0.25 * figures.reconstruction <= figures.dead_latent_loss <= 2.25 * figures.reconstruction


def test_ghost_survives_large_pre_activations() -> None:
    sae = random_sae(4, 8)
    x = torch.randn(5, 4, dtype=torch.float64) * 1e4
    figures = backward(sae, x, Loss(objective="release", l1=1e-3, dead=torch.arange(8)))
    assert math.isfinite(figures.loss)
    assert all(torch.isfinite(p.grad).all() for p in sae.parameters())


def test_reported_figures_are_those_of_the_definitions() -> None:
    sae, x = random_sae(5, 9), torch.randn(40, 5, dtype=torch.float64)
    figures = backward(sae, x, Loss(objective="squared", l1=0.1), max_elements=9 * 7)
    with torch.no_grad():
        xhat, h = sae(x)
    assert figures.l0 == pytest.approx(float((h > 0).sum(1).double().mean()))
    assert figures.l1 == pytest.approx(float(h.sum(1).mean()))
    assert figures.mse == pytest.approx(float(((x - xhat) ** 2).mean()))
    assert figures.loss == pytest.approx(float(((x - xhat) ** 2).sum(1).mean() + 0.1 * h.sum(1).mean()))
    assert torch.equal(figures.fired, (h > 0).any(0))


def test_decoder_stays_on_the_sphere() -> None:
    config = TrainConfig(expansion=4, learning_rate=0.05, warmup_steps=0)
    state = new_state(config, 6, torch.device("cpu"))
    assert torch.allclose(state.sae.W_dec.norm(dim=1), torch.ones(24))
    assert torch.equal(state.sae.b_enc, torch.zeros(24))
    for seed in range(5):
        x = torch.randn(64, 6, generator=torch.Generator().manual_seed(seed))
        step(state, x, config)
        assert torch.allclose(state.sae.W_dec.norm(dim=1), torch.ones(24), atol=1e-6)
    state.sae.W_dec.grad = torch.randn(24, 6)
    state.sae.remove_parallel_gradient()
    assert (state.sae.W_dec.grad * state.sae.W_dec).sum(1).abs().max() < 1e-6


def test_products_in_bfloat16_leave_gradients_close_and_in_float32() -> None:
    x = torch.randn(200, 24, generator=torch.Generator().manual_seed(0))
    exact, rounded = random_sae(24, 96).float(), random_sae(24, 96).float()
    for sae, dtype in ((exact, "float32"), (rounded, "bfloat16")):
        backward(sae, x, Loss("release", 1e-3), dtype=dtype)
    for one, other in zip(exact.parameters(), rounded.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert other.grad.dtype == torch.float32
        assert 1e-6 < float((one.grad - other.grad).norm() / one.grad.norm()) < 0.02
