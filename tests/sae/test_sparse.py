"""The sparse step against the readable model: same loss, same gradients, same training."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cytosae.concepts import cell_activations, concept_maps
from cytosae.sae import SAE, TrainConfig, active_latents, backends, backward, sparse
from cytosae.sae.checkpoint import load_checkpoint, save_checkpoint
from cytosae.sae.loss import Loss
from cytosae.sae.sparse import grad_buffer
from cytosae.sae.state import TrainState, dead_latents, new_state
from cytosae.sae.step import step
from support.sparse_saes import clear_choice, far_from_zero, two_saes

BLOCKS = st.sampled_from([4, 7, active_latents.TOKEN_CHUNK])  # tokens that are worked on together
SHAPES = {
    "d": st.integers(1, 40),
    "s": st.integers(1, 600),  # more than one piece of the encoder's product
    "n": st.integers(1, 90),  # less and more than one block of the search for active latents
    "seed": st.integers(0, 10_000),
}


@torch.no_grad()
def sizes_of_terms(exact: SAE, x: Tensor, loss: Loss) -> dict[str, float]:
    """Size of what adds up to each gradient, but for the dead: terms may cancel, their rounding in float32 does not."""
    x = x.double()
    output, h = exact(x)
    with torch.enable_grad():
        (pulls,) = torch.autograd.grad(loss.error(x, output.requires_grad_()).mean(), output)
    pulls, encoder = pulls.abs(), exact.W_enc.abs()
    by_latent = (h > 0) * (pulls @ exact.W_dec.abs().T + loss.l1 / len(x))
    terms = {
        "W_enc": (x - exact.b_dec).abs().T @ by_latent,
        "b_enc": by_latent.sum(0),
        "W_dec": h.T @ pulls,
        "b_dec": pulls.sum(0) + encoder @ by_latent.sum(0),
    }
    return {name: float(term.norm()) for name, term in terms.items()}


@settings(max_examples=60, deadline=None)
@example(
    d=1, s=2, n=13, seed=515, density=0.0, objective="squared", l1=0.0, dead_share=0.0, matryoshka_levels=1,
    dead_latent_loss="ghost", block=4,
)  # fmt: skip
@example(
    d=2, s=34, n=39, seed=322, density=0.0, objective="release", l1=0.0, dead_share=0.0, matryoshka_levels=1,
    dead_latent_loss="ghost", block=4,
)  # fmt: skip
@given(
    **SHAPES,
    density=st.sampled_from([0.0, 0.003, 0.05, 0.5, 1.0]),
    objective=st.sampled_from(["release", "squared"]),
    l1=st.sampled_from([0.0, 8e-5, 0.3]),
    dead_share=st.sampled_from([0.0, 0.4, 1.0]),
    matryoshka_levels=st.integers(1, 3),
    dead_latent_loss=st.sampled_from(["ghost", "auxk"]),
    block=BLOCKS,
)
def test_gradients_equal_float64_autograd_of_the_model(
    d: int, s: int, n: int, seed: int, density: float, objective: str, l1: float, dead_share: float, matryoshka_levels: int,
    dead_latent_loss: str, block: int,
) -> None:  # fmt: skip
    if dead_share or density > 0.01:
        d = max(d, 8)  # on a line many directions cancel, and what is left is what float32 rounds
    sae, exact, generator = two_saes(d, s, seed, density)
    x = far_from_zero(exact, torch.randn(n, d, generator=generator) * 2, 1e-5)
    dead = torch.arange(round(dead_share * s)) * (s // max(1, round(dead_share * s)))
    x = clear_choice(exact, x, dead, 1e-5)
    if not len(x):
        return
    loss = Loss(objective, l1, dead, matryoshka_levels, dead_latent_loss)
    with patch.object(active_latents, "TOKEN_CHUNK", block), patch.object(sparse, "TOKEN_CHUNK", block):
        found = sparse.backward(sae, x, loss)
    truth = backward(exact, x.double(), loss)
    sizes = sizes_of_terms(exact, x, loss)
    for (name, ours), theirs in zip(sae.named_parameters(), exact.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        scale = max(float(theirs.grad.norm()), 1e-3)
        assert float((ours.grad - theirs.grad).norm()) <= 1e-5 * scale + 2**-23 * sizes[name], name
    assert torch.equal(found.fired, truth.fired)
    for name in ("loss", "reconstruction", "l1", "dead_latent_loss", "mse", "l0"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=1e-5, abs=1e-7), name


@settings(max_examples=30, deadline=None)
@given(**SHAPES, density=st.sampled_from([0.0, 0.01, 0.5, 1.0]), block=BLOCKS)
def test_bfloat16_only_tells_which_latents_to_look_at(
    d: int, s: int, n: int, seed: int, density: float, block: int
) -> None:
    sae, exact, generator = two_saes(d, s, seed, density)
    x = torch.randn(n, d, generator=generator)
    with patch.object(active_latents, "TOKEN_CHUNK", block), patch.object(sparse, "TOKEN_CHUNK", block):
        h = active_latents.active(sae, x, "bfloat16")
    found = torch.zeros(s, n, dtype=torch.float64)
    found[np.repeat(np.arange(s), np.diff(h.starts)), h.tokens] = torch.from_numpy(h.values).double()
    with torch.no_grad():
        truth = exact.encode(x.double()).T
    assert (found - truth).abs().max().item() <= 1e-4 * max(1.0, truth.max().item())


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 3000),
    share=st.sampled_from([0.0, 0.02, 0.1, 0.7, 1.0]),
    shift=st.sampled_from([-1e4, -3.0, 0.0, 3.0]),
    step=st.sampled_from([0.0, 0.5]),  # ties
    seed=st.integers(0, 1000),
)
def test_the_largest_are_those_of_torch(n: int, share: float, shift: float, step: float, seed: int) -> None:
    rows = torch.randn(7, n, generator=torch.Generator().manual_seed(seed)) + shift
    rows = (rows / step).round() * step if step else rows
    k = max(1, round(share * n))
    values, places = active_latents.largest(rows, k)
    assert torch.equal(values.sort(descending=True).values, rows.topk(k).values)
    assert torch.equal(rows.gather(1, places), values)
    assert all(len(set(row)) == k for row in places.tolist())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cells_are_counted_as_with_the_whole_array(dtype: str) -> None:
    sae, _, generator = two_saes(24, 900, 1, 0.02)
    cells, n_tokens = 12, 17
    tokens = torch.randn(cells, n_tokens, 24, generator=generator)
    counts, means = cell_activations(sae, tokens, 0.2, dtype)
    with torch.no_grad():
        h = sae.encode(tokens.flatten(0, 1)).unflatten(0, (cells, n_tokens))
    assert (counts.toarray() == (h > 0.2).sum(1).numpy()).all()
    np.testing.assert_allclose(means.toarray(), h.mean(1).numpy(), rtol=1e-4, atol=1e-6)
    assert (counts.data > 0).all()
    assert (means.data > 0).all()
    assert counts.has_sorted_indices
    assert counts.dtype == np.int32
    assert means.dtype == np.float32


def test_entries_are_in_order_of_latent_and_token() -> None:
    sae, _, generator = two_saes(8, 300, 0, 0.3)
    x = torch.randn(5000, 8, generator=generator)  # more than one piece of tokens
    h = active_latents.active(sae, x)
    for low, high in pairwise(h.starts):
        assert (np.diff(h.tokens[low:high]) > 0).all()
    with torch.no_grad():
        assert np.array_equal(h.fired(), (sae.encode(x) > 0).any(0).numpy())
        assert len(h) == pytest.approx(float((sae.encode(x) > 0).sum()), abs=3)


def test_only_the_chosen_latents_are_visited() -> None:
    sae, _, generator = two_saes(8, 700, 0, 0.3)
    x = torch.randn(50, 8, generator=generator)
    chosen = np.arange(3, 700, 7)
    every, some = active_latents.active(sae, x), active_latents.active(sae, x, latents=chosen)
    counts = np.diff(some.starts)
    assert np.array_equal(counts[chosen], np.diff(every.starts)[chosen])
    assert np.delete(counts, chosen).sum() == 0


def test_gradients_do_not_depend_on_the_number_of_threads() -> None:
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        sae, _, generator = two_saes(16, 600, 0, 0.05)
        sparse.backward(sae, torch.randn(200, 16, generator=generator), Loss(objective="release", l1=1e-3))
        results.append([parameter.grad for parameter in sae.parameters()])
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


FRESH_THREADS = """
import torch
from cytosae.sae.threads import each

torch.set_num_threads(4)
x, w = torch.randn(4, 6, 8), torch.randn(24, 8).T[:, torch.arange(24)]
products = each(torch.matmul, [(x, w)] * 8)
torch.set_num_threads(1)
print(all(torch.equal(product, x @ w) for product in products))
"""


def test_a_new_thread_makes_the_bits_of_an_old_one() -> None:
    """In a process of its own: MKL asks the environment for the threads of a thread that torch has not yet told."""
    environment = os.environ | {"OMP_NUM_THREADS": "4"}
    process = subprocess.run(
        [sys.executable, "-c", FRESH_THREADS], env=environment, capture_output=True, text=True, check=True
    )
    assert process.stdout == "True\n"


def test_maps_do_not_depend_on_the_number_of_threads() -> None:
    sae, _, generator = two_saes(8, 24, 0, 0.5)
    tokens = torch.randn(30, 7, 8, generator=generator)
    before = torch.get_num_threads()
    maps = []
    for threads in (1, 2, 3, 4):
        torch.set_num_threads(threads)
        maps.append(concept_maps(sae, tokens, np.arange(24), (2, 3)))
    torch.set_num_threads(before)
    assert all(torch.equal(maps[0], other) for other in maps[1:])


def planted(seed: int, n: int = 600, d: int = 24, concepts: int = 60) -> Tensor:
    directions = torch.nn.functional.normalize(
        torch.randn(concepts, d, generator=torch.Generator().manual_seed(9)), dim=1
    )
    generator = torch.Generator().manual_seed(seed)
    amounts = torch.rand(n, concepts, generator=generator) * (torch.rand(n, concepts, generator=generator) < 0.05)
    return 3 * amounts @ directions + 1


def run(config: TrainConfig, steps: int, dense: float, monkeypatch: pytest.MonkeyPatch) -> TrainState:
    monkeypatch.setattr(sparse, "DENSE_ABOVE", dense)
    state = new_state(config, 24, torch.device("cpu"))
    for number in range(steps):
        step(state, planted(number), config)
    return state


CONFIG = TrainConfig(expansion=16, l1=1e-2, learning_rate=2e-3, warmup_steps=5, dead_after_tokens=8 * 600)


@pytest.mark.parametrize(("matryoshka_levels", "dead_latent_loss"), [(1, "ghost"), (3, "ghost"), (1, "auxk")])
def test_training_takes_the_same_steps_as_the_readable_one(
    matryoshka_levels: int, dead_latent_loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(
        **{**vars(CONFIG), "matryoshka_levels": matryoshka_levels, "dead_latent_loss": dead_latent_loss}
    )
    plain = run(replace(config, encoder="float32"), 25, -1.0, monkeypatch)
    fast = run(config, 25, float("inf"), monkeypatch)
    assert len(dead_latents(fast, config)) > 10  # their term was at work
    assert torch.equal(plain.since_fired, fast.since_fired)
    for a, b in zip(plain.sae.parameters(), fast.sae.parameters(), strict=True):
        assert (a - b).norm().item() < 2e-4 * a.norm().item()
        for moment in ("exp_avg", "exp_avg_sq"):
            m, v = plain.optimiser.state[a][moment], fast.optimiser.state[b][moment]
            assert float((m - v).norm()) < 5e-3 * float(m.norm())
    torch.testing.assert_close(fast.sae.W_dec.norm(dim=1), torch.ones(fast.sae.n_latents))


@pytest.mark.parametrize("encoder", ["float32", "bfloat16"])
def test_gradients_of_the_dense_phase_are_in_the_precision_of_the_encoder(encoder: str) -> None:
    sae, exact, generator = two_saes(24, 384, 0, 0.5)
    config = replace(CONFIG, encoder=encoder)
    state = new_state(config, 24, torch.device("cpu"))
    state.sae.load_state_dict(sae.state_dict())
    x = torch.randn(600, 24, generator=generator)
    truth = backward(exact, x.double(), Loss(config.objective, config.l1))
    gradients: list[Tensor] = []
    hook = state.optimiser.register_step_pre_hook(
        lambda *_: gradients.extend(grad_buffer(p).double() for p in state.sae.parameters())
    )
    figures = step(state, x, config)
    hook.remove()
    for parameter in exact.parameters():
        if parameter is exact.W_dec:  # the step takes away what would only change the norm
            along = (grad_buffer(parameter) * parameter.detach()).sum(1, keepdim=True)
            grad_buffer(parameter).sub_(along * parameter.detach())
    errors = [
        float((ours - grad_buffer(theirs)).norm() / grad_buffer(theirs).norm())
        for ours, theirs in zip(gradients, exact.parameters(), strict=True)
    ]
    assert figures.l0 > 0.3 * 384
    assert figures.l0 == pytest.approx(truth.l0, rel=1e-2)
    assert max(errors) < (1e-5 if encoder == "float32" else 0.05)
    assert max(errors) > (0 if encoder == "float32" else 1e-4)


def test_the_way_is_chosen_by_the_measured_density(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def noted(name: str) -> Callable[..., object]:
        function = getattr(backends, name)

        def call(*arguments: object) -> object:
            taken.append(name)
            return function(*arguments)

        return call

    monkeypatch.setattr(sparse, "DENSE_ABOVE", 0.1)
    for name in ("plain", "fused"):
        monkeypatch.setattr(backends, name, noted(name))
    state = new_state(CONFIG, 24, torch.device("cpu"))
    for number in range(60):
        before = state.l0
        step(state, planted(number), CONFIG)
        assert (taken[-1] == "fused") == (before <= sparse.DENSE_ABOVE * state.sae.n_latents)
    assert {"plain", "fused"} == set(taken)


def test_rarely_visited_dead_latents_rest_between_and_catch_up(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(**{**vars(CONFIG), "dead_every": 4})
    state = run(config, 24, float("inf"), monkeypatch)
    dead = dead_latents(state, config)
    assert len(dead) > 10
    for number in range(24, 32):
        before = state.sae.W_dec.detach().clone()
        dead, visited = dead_latents(state, config), state.step % 4 == 0
        step(state, planted(number), config)
        moved = (state.sae.W_dec - before).norm(dim=1) > 0
        assert moved[dead].all() if visited else not moved[dead].any()
        alive = torch.ones(len(moved), dtype=torch.bool)
        alive[dead] = False
        assert moved[alive].all()


def test_a_latent_catches_up_as_many_steps_as_it_rested_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of a latent that never fires is zero: its moments fall in every step, or at once for several."""
    monkeypatch.setattr(sparse, "DENSE_ABOVE", float("inf"))
    states = []
    for every in (1, 8):
        config = TrainConfig(
            **{**vars(CONFIG), "dead_latent_loss": "none", "dead_every": every, "dead_after_tokens": 600_000}
        )
        state = new_state(config, 24, torch.device("cpu"))
        silent = torch.arange(40)
        with torch.no_grad():
            state.sae.b_enc[silent] = -1000
        for name, tensor in state.tensors().items():
            if name.startswith("adam."):  # as if they had fired before
                tensor.copy_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(len(name))))
        state.since_fired[silent] = 600 * (1000 - silent)  # one after the other they die
        for number in range(41):
            step(state, planted(number), config)
        states.append(state)
    plain, rare = states
    assert torch.equal(plain.since_fired, rare.since_fired)
    assert (plain.since_fired[silent] >= 600_000).all()
    for name, moments in plain.tensors().items():
        if name.startswith("adam."):
            torch.testing.assert_close(rare.tensors()[name], moments, rtol=1e-4, atol=1e-9)


def test_what_died_just_now_takes_an_ordinary_step(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for every in (1, 8):
        config = TrainConfig(**{**vars(CONFIG), "dead_every": every})
        state = new_state(config, 24, torch.device("cpu"))
        monkeypatch.setattr(sparse, "DENSE_ABOVE", float("inf"))
        state.since_fired[:50] = config.dead_after_tokens
        step(state, planted(0), config)
        rows.append([parameter.detach().clone() for parameter in state.sae.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*rows, strict=True))


def test_an_interruption_forgets_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(**{**vars(CONFIG), "dead_every": 8})
    monkeypatch.setattr(sparse, "DENSE_ABOVE", float("inf"))
    whole, first = (new_state(config, 24, torch.device("cpu")) for _ in range(2))
    for number in range(33):
        step(whole, planted(number), config)
    for number in range(29):
        step(first, planted(number), config)
    save_checkpoint(tmp_path / "c", first, {})
    again = new_state(config, 24, torch.device("cpu"))
    load_checkpoint(tmp_path / "c", again)
    assert again.rested is not None
    assert int(again.rested.max()) == 4
    for number in range(29, 33):
        step(again, planted(number), config)
    for a, b in zip(whole.sae.parameters(), again.sae.parameters(), strict=True):
        assert torch.equal(a, b)


def test_four_steps_at_once_are_four_steps_of_the_same_gradient() -> None:
    """On a constant gradient, one visit that counts for four moves the moments as four visits do."""
    sae, _, generator = two_saes(16, 40, 3, 0.2)
    twin = SAE(16, 40)
    twin.load_state_dict(sae.state_dict())
    x = torch.randn(300, 16, generator=generator)
    latents = np.arange(40)
    found = sparse.forward(sae, x, Loss(objective="release", l1=1e-3))
    states = []
    for model, visits, length in ((sae, 4, 1), (twin, 1, 4)):
        state = {p: {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")} for p in model.parameters()}
        for _ in range(visits):
            adam = sparse.Adam(state, 1, 0.0)
            sparse.update(model, found, adam, None, latents, np.full(40, length))
        states.append(state[model.b_enc])
    for moment in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(states[0][moment], states[1][moment], rtol=1e-4, atol=0)


def test_weights_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match="float32"):
        sparse.as_rows(torch.zeros(3, 4, dtype=torch.float64))
