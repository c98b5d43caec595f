"""Every objective: its gradients, what it finds of a planted dictionary, what is saved of it, and a whole study."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cytosae.concepts import cell_activations, concept_maps
from cytosae.errors import CytosaeError
from cytosae.sae import SAE, TrainConfig, backward, evaluate, sparse, train
from cytosae.sae.activations import ACTIVATIONS, activation_of
from cytosae.sae.checkpoint import CHECKPOINT, TrainState, load_checkpoint, save_checkpoint
from cytosae.sae.foreign import write_saelens
from cytosae.sae.objectives import OBJECTIVES
from cytosae.sae.training import _start, new_state, step
from cytosae.settings import BackboneConfig
from cytosae.study import RunConfig, Study
from cytosae.tokens import TokenStore
from conftest import live

CPU = torch.device("cpu")
NEW = ("topk", "batchtopk", "jumprelu", "gated", "archetypal")
KINDS = ("topk", "batchtopk", "jumprelu", "gated")


def drawn(objective: str, d: int = 7, expansion: int = 3, seed: int = 0, **settings: object) -> SAE:
    """An autoencoder of random weights in float64, with thresholds that some pre-activations pass."""
    config = TrainConfig(objective=objective, expansion=expansion, k=4, bandwidth=0.5, **settings)  # type: ignore[arg-type]
    sae = new_state(config, d, CPU).sae.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.normal_(0, 0.3 if name == "b_mag" else 0.5, generator=generator)
    sae.normalise_decoder()
    return sae


def planted_loss(sae: SAE, x: Tensor, objective: str, lam: float, sizes: list[int]) -> tuple[Tensor, Tensor | None]:
    """The loss written token by token, and the derivative by ``log_threshold`` where it has none of its own."""
    n, pre = len(x), [sae.W_enc.T @ (token - sae.b_dec) + sae.b_enc for token in x]
    every = torch.stack(pre).detach()
    total, by_threshold = torch.zeros((), dtype=x.dtype), None
    kept = torch.relu(every).flatten().sort(descending=True).values[4 * n - 1]
    theta = sae.log_threshold.detach().exp() if objective == "jumprelu" else None
    if theta is not None:
        by_threshold = torch.zeros_like(theta)
    for token, p in zip(x, pre, strict=True):
        aux = torch.zeros((), dtype=x.dtype)
        if objective == "topk":
            fourth = p.detach().sort(descending=True).values[3]
            h = torch.where((p >= fourth) & (p > 0), p, 0)
        elif objective == "batchtopk":
            h = torch.where((p >= kept) & (p > 0), p, 0)
        elif objective == "jumprelu":
            h = torch.where(p > theta, p, 0)
            aux = lam * (p > theta).double().sum()
        else:
            gate = torch.where(p > 0, p, 0)
            magnitude = sae.r_mag.exp() * (sae.W_enc.T @ (token - sae.b_dec)) + sae.b_mag
            h = torch.where((p > 0) & (magnitude > 0), magnitude, 0)
            frozen = sae.W_dec.detach().T @ gate + sae.b_dec.detach()
            aux = lam * gate.sum() + ((token - frozen) ** 2).sum()
        if theta is not None:
            h = h.detach().requires_grad_()
        outputs = [sae.W_dec[:size].T @ h[:size] + sae.b_dec for size in sizes]
        error = sum(((token - output) ** 2).sum() for output in outputs) / len(outputs)
        if theta is not None and by_threshold is not None:
            (pull,) = torch.autograd.grad(error, h, retain_graph=True)
            window = ((p.detach() - theta).abs() < 0.25).to(x.dtype) / 0.5
            by_threshold -= (theta * pull + lam) * window * theta / n  # by the logarithm: once more times theta
            error = error + (pull * torch.where(p > theta, p, 0)).sum() - (pull * h).sum().detach()
        total = total + (error + aux) / n
    return total, by_threshold


@pytest.mark.parametrize("nested", [1, 3])
@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("objective", KINDS)
def test_gradients_equal_the_formulas(objective: str, pieces: int, nested: int) -> None:
    for seed in range(4):
        x = torch.randn(12, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 50)) * 2
        ours, theirs = drawn(objective, seed=seed), drawn(objective, seed=seed)
        elements = ours.n_latents * -(-12 // pieces)
        figures = backward(ours, x, objective=objective, l1=0.3, nested=nested, max_elements=elements)
        sizes = [21 >> level for level in reversed(range(nested))]
        loss, by_threshold = planted_loss(theirs, x, objective, 0.3, sizes)
        loss.backward()
        assert figures.loss == pytest.approx(loss.item(), rel=1e-9)
        for name, parameter in theirs.named_parameters():
            expected = by_threshold if name == "log_threshold" else parameter.grad
            found = getattr(ours, name).grad
            if expected is None or objective == "batchtopk" and name == "log_threshold":
                assert found is None
                continue
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9, msg=f"{name}, seed {seed}")
            assert expected.abs().sum() > 0, name


def test_threshold_gradient_is_that_of_the_mean_over_many_tokens() -> None:
    """What the straight-through estimate stands for: the loss over many tokens, differentiated by finite differences."""
    sae = drawn("jumprelu", d=4, expansion=1)
    with torch.no_grad():
        sae.log_threshold.fill_(np.log(0.8))
    x = torch.randn(200_000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    backward(sae, x, objective="jumprelu", l1=2.0)
    found = sae.log_threshold.grad
    assert found is not None

    def loss(shift: Tensor) -> float:
        with torch.no_grad():
            pre = sae.pre_activations(x)
            h = pre * (pre > (sae.log_threshold + shift).exp())
            return float(((sae.decode(h) - x) ** 2).sum(1).mean() + 2.0 * (h != 0).sum(1).double().mean())

    for s in range(4):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[s] = 0.15
        slope = (loss(shift) - loss(-shift)) / 0.3
        assert found[s].item() == pytest.approx(slope, rel=0.15, abs=0.02)


def test_archetypal_gradient_reaches_what_the_directions_are_made_of() -> None:
    config = TrainConfig(objective="archetypal", expansion=3, k=4, points=9, relaxation=0.5)
    state = new_state(config, 6, CPU)
    state.sae.double()
    made = state.archetypes
    assert made is not None
    made.double()
    with torch.no_grad():
        made.shift.normal_(0, 0.05)  # type: ignore[union-attr]
    made.give_directions(state.sae.W_dec)
    x = torch.randn(10, 6, dtype=torch.float64)
    backward(state.sae, x, objective="archetypal", l1=0.0)
    made.take_gradient(state.sae.W_dec)
    found = [parameter.grad.clone() for parameter in made.parameters()]  # type: ignore[union-attr]

    made.zero_grad()
    weights = made.logits.exp() / made.logits.exp().sum(1, keepdim=True)
    rows = weights @ made.points + made.shift
    directions = rows / rows.norm(dim=1, keepdim=True)
    with torch.no_grad():
        h = state.sae.encode(x)
    (((h @ directions + state.sae.b_dec.detach() - x) ** 2).sum(1).mean()).backward()
    for ours, parameter in zip(found, made.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad)
    assert state.sae.W_dec.grad is None


def test_archetypal_directions_stay_mixtures_of_tokens() -> None:
    x = dictionary(0)[0]
    for relaxation in (0.0, 0.2):
        config = replace(PLANTED["archetypal"], relaxation=relaxation, points=40)
        state = started(config, x)
        made = state.archetypes
        assert made is not None
        for number in range(30):
            step(state, dictionary(number)[0], config)
        points, w = made.points.numpy(), torch.softmax(made.logits, 1).detach()
        tokens = (x - 0.0).numpy()
        assert all((np.abs(tokens - (point + state_centre(state, x))).max(1) < 1e-5).any() for point in points)
        assert float(w.min()) >= 0
        torch.testing.assert_close(w.sum(1), torch.ones(len(w)))
        mixed = w @ made.points
        if relaxation:
            assert made.shift is not None
            assert made.shift.norm(dim=1).max() <= 0.2 * made.points.norm(dim=1).mean() * 1.001
            assert made.shift.norm(dim=1).max() > 0
            mixed = mixed + made.shift.detach()
        torch.testing.assert_close(state.sae.W_dec.detach(), mixed / mixed.norm(dim=1, keepdim=True))


D, CONCEPTS = 24, 32


def dictionary(seed: int, n: int = 1024) -> tuple[Tensor, Tensor]:
    """Tokens that are sparse combinations of known directions, and these."""
    directions = torch.nn.functional.normalize(
        torch.randn(CONCEPTS, D, generator=torch.Generator().manual_seed(99)), dim=1
    )
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(n, CONCEPTS, generator=generator) < 2 / CONCEPTS
    amounts = present * (1 + torch.rand(n, CONCEPTS, generator=generator))
    return amounts @ directions + 0.01 * torch.randn(n, D, generator=generator), directions


_COMMON = TrainConfig(
    expansion=2, learning_rate=5e-3, warmup_steps=20, b_dec_init="zeros", directions_init="tokens", revival="auxk",
    dead_after=20, k=3, points=512, batch_images=64,
)  # fmt: skip
PLANTED = {
    "release": replace(_COMMON, objective="release", l1=1e-2),
    "squared": replace(_COMMON, objective="squared", l1=0.2),
    "topk": replace(_COMMON, objective="topk"),
    "batchtopk": replace(_COMMON, objective="batchtopk"),
    "jumprelu": replace(_COMMON, objective="jumprelu", l1=0.1, bandwidth=0.2),
    "gated": replace(_COMMON, objective="gated", l1=0.2),
    "archetypal": replace(_COMMON, objective="archetypal"),
}


class _Given:
    """A source of the given tokens, for `_start`."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def stream(self, batches: object) -> list[Tensor]:
        return [self.x[:, None]]


def started(config: TrainConfig, x: Tensor) -> TrainState:
    state = new_state(config, D, CPU)
    _start(state, _Given(x), np.arange(len(x)), config)  # type: ignore[arg-type]
    return state


def recovered(sae: SAE, directions: Tensor, x: Tensor) -> float:
    """Share of the known directions that a latent which fires has, above cosine 0.9."""
    with torch.no_grad():
        alive = (sae.encode(x) > 0).any(0)
        cosines = torch.nn.functional.normalize(sae.W_dec, dim=1)[alive] @ directions.T
    return float((cosines.amax(0) > 0.9).float().mean())


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_planted_dictionary_is_recovered(objective: str) -> None:
    config = PLANTED[objective]
    test, directions = dictionary(10_000)
    state = started(config, dictionary(10_001)[0])
    fresh = new_state(replace(config, objective="release"), D, CPU)
    for number in range(500):
        step(state, dictionary(number)[0], config)
    assert recovered(state.sae, directions, test) >= 0.9
    assert recovered(fresh.sae, directions, test) < 0.2
    figures = evaluate(state.sae, [test], objective)
    print(objective, recovered(state.sae, directions, test), figures)
    assert figures["explained_variance"] > 0.85
    assert figures["l0"] < 8
