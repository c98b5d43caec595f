"""Every objective: its gradients, what it finds of a planted dictionary, what is saved of it, and a whole study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from torch import Tensor
from typer.testing import CliRunner

from cytosae.cli.options import with_settings
from cytosae.concepts import cell_activations, concept_maps
from cytosae.errors import CytosaeError
from cytosae.sae import SAE, TrainConfig, backends, backward, evaluate, recorded, sparse
from cytosae.sae.active_latents import active
from cytosae.sae.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from cytosae.sae.loss import Loss
from cytosae.sae.objectives import ACTIVATIONS, OBJECTIVES, restore_activation
from cytosae.sae.start import initialise
from cytosae.sae.state import TrainState, new_state
from cytosae.sae.step import step
from cytosae.settings import PRESETS, BackboneConfig
from cytosae.study import RunConfig, Study

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small arrays are quicker without others to wait for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


NEW = tuple(name for name, objective in OBJECTIVES.items() if not objective.kind.is_relu)
KINDS = tuple(name for name in NEW if OBJECTIVES[name].kind.name == name)


def drawn(objective: str, d: int = 7, expansion: int = 3, seed: int = 0, **settings: object) -> SAE:
    """An autoencoder of random weights in float64, with thresholds that some pre-activations pass."""
    config = TrainConfig(objective=objective, expansion=expansion, k=4, bandwidth=0.5, **settings)  # type: ignore[arg-type]
    sae = new_state(config, d, CPU).sae.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sae.tensors().items():
            parameter.normal_(0, 0.3 if name == "b_mag" else 0.5, generator=generator)
    sae.normalise_decoder()
    return sae


def planted_loss(sae: SAE, x: Tensor, objective: str, lam: float, sizes: list[int]) -> tuple[Tensor, Tensor | None]:
    """The loss written token by token, and the derivative by ``log_threshold`` where it has none of its own."""
    n, pre = len(x), [sae.W_enc.T @ (token - sae.b_dec) + sae.b_enc for token in x]
    every = torch.stack(pre).detach()
    total, by_threshold = torch.zeros((), dtype=x.dtype), None
    kept = torch.relu(every).flatten().sort(descending=True).values[4 * n - 1]
    theta = sae.activation.log_threshold.detach().exp() if objective == "jumprelu" else None
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
        elif objective == "gated":
            gate = torch.where(p > 0, p, 0)
            magnitude = sae.activation.r_mag.exp() * (sae.W_enc.T @ (token - sae.b_dec)) + sae.activation.b_mag
            h = torch.where((p > 0) & (magnitude > 0), magnitude, 0)
            frozen = sae.W_dec.detach().T @ gate + sae.b_dec.detach()
            aux = lam * gate.sum() + ((token - frozen) ** 2).sum()
        else:
            raise NotImplementedError(f"write the formula of {objective} here")
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


@pytest.mark.parametrize("matryoshka_levels", [1, 3])
@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("objective", KINDS)
def test_gradients_equal_the_formulas(objective: str, pieces: int, matryoshka_levels: int) -> None:
    for seed in range(4):
        x = torch.randn(12, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 50)) * 2
        ours, theirs = drawn(objective, seed=seed), drawn(objective, seed=seed)
        elements = ours.n_latents * -(-12 // pieces)
        figures = backward(
            ours, x, Loss(objective=objective, l1=0.3, matryoshka_levels=matryoshka_levels), max_elements=elements
        )
        sizes = [21 >> level for level in reversed(range(matryoshka_levels))]
        loss, by_threshold = planted_loss(theirs, x, objective, 0.3, sizes)
        loss.backward()
        assert figures.loss == pytest.approx(loss.item(), rel=1e-9)
        for name, parameter in theirs.tensors().items():
            expected = by_threshold if name == "log_threshold" else parameter.grad
            found = ours.tensors()[name].grad
            if expected is None or (objective == "batchtopk" and name == "log_threshold"):
                assert found is None
                continue
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9, msg=f"{name}, seed {seed}")
            assert expected.abs().sum() > 0, name


def test_threshold_gradient_is_that_of_the_mean_over_many_tokens() -> None:
    """What the straight-through estimate stands for: the loss over many tokens, differentiated by finite differences."""
    sae = drawn("jumprelu", d=4, expansion=1)
    with torch.no_grad():
        sae.activation.log_threshold.fill_(np.log(0.8))
    x = torch.randn(200_000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    backward(sae, x, Loss(objective="jumprelu", l1=2.0))
    found = sae.activation.log_threshold.grad
    assert found is not None

    def loss(shift: Tensor) -> float:
        with torch.no_grad():
            pre = sae.pre_activations(x)
            h = pre * (pre > (sae.activation.log_threshold + shift).exp())
            return float(((sae.decode(h) - x) ** 2).sum(1).mean() + 2.0 * (h != 0).sum(1).double().mean())

    for s in range(4):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[s] = 0.15
        slope = (loss(shift) - loss(-shift)) / 0.3
        assert found[s].item() == pytest.approx(slope, rel=0.15, abs=0.02)


def test_archetypal_gradient_reaches_what_the_directions_are_made_of() -> None:
    config = TrainConfig(objective="archetypal", expansion=3, k=4, archetypes=9, relaxation=0.5)
    state = new_state(config, 6, CPU)
    state.sae.double()
    made = state.dictionary
    assert made is not None
    made.double()
    with torch.no_grad():
        made.shift.normal_(0, 0.05)  # type: ignore[union-attr]
    made.give_directions(state.sae.W_dec)
    x = torch.randn(10, 6, dtype=torch.float64)
    backward(state.sae, x, Loss(objective="archetypal", l1=0.0))
    made.take_gradient(state.sae.W_dec)
    found = [parameter.grad.clone() for parameter in made.parameters()]  # type: ignore[union-attr]

    made.zero_grad()
    weights = made.logits.exp() / made.logits.exp().sum(1, keepdim=True)
    rows = weights @ made.archetypes + made.shift
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
        config = replace(PLANTED["archetypal"], relaxation=relaxation, archetypes=40)
        state = started(config, x)
        made = state.dictionary
        assert made is not None
        for number in range(30):
            step(state, dictionary(number)[0], config)
        archetypes, w = made.archetypes.numpy(), torch.softmax(made.logits, 1).detach()
        assert all((np.abs(x.numpy() - point).max(1) < 1e-6).any() for point in archetypes)  # b_dec started at zero
        assert float(w.min()) >= 0
        torch.testing.assert_close(w.sum(1), torch.ones(len(w)))
        mixed = w @ made.archetypes
        if relaxation:
            assert made.shift is not None
            assert made.shift.norm(dim=1).max() <= 0.2 * made.archetypes.norm(dim=1).mean() * 1.001
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
    expansion=3, learning_rate=5e-3, warmup_steps=20, b_dec_init="zeros", directions_init="random", dead_latent_loss="auxk",
    dead_after_tokens=20 * 512, k=3, archetypes=256, batch_images=64,
)  # fmt: skip
PLANTED = {
    "release": replace(_COMMON, objective="release", l1=1e-2),
    "squared": replace(_COMMON, objective="squared", l1=0.4),
    "topk": replace(_COMMON, objective="topk"),
    # From random directions it finds 70 to 85 %: half of its latents die early and are not revived.
    "batchtopk": replace(_COMMON, objective="batchtopk", expansion=5, directions_init="tokens"),
    "jumprelu": replace(_COMMON, objective="jumprelu", l1=0.15, bandwidth=0.2),
    "gated": replace(_COMMON, objective="gated", l1=1.5),
    "archetypal": replace(_COMMON, objective="archetypal", dead_latent_loss="none", expansion=5, learning_rate=3e-2),
}


def started(config: TrainConfig, x: Tensor) -> TrainState:
    state = new_state(config, D, CPU)
    initialise(state, x, config)
    return state


def recovered(sae: SAE, directions: Tensor, x: Tensor) -> float:
    """Share of the known directions that a latent which fires has, above cosine 0.9."""
    with torch.no_grad():
        alive = (sae.encode(x) > 0).any(0)
        cosines = torch.nn.functional.normalize(sae.W_dec, dim=1)[alive] @ directions.T
    return float((cosines.amax(0) > 0.9).float().mean())


def mostly_slow(quick: set[str], names: Iterable[str]) -> list[object]:
    """The named cases; what the others say beyond the quick ones is left to the slow tests."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("objective", mostly_slow({"release", "jumprelu", "archetypal"}, OBJECTIVES))
def test_planted_dictionary_is_recovered(objective: str) -> None:
    config = PLANTED[objective]
    test, directions = dictionary(10_000)
    state = started(config, dictionary(10_001)[0])
    # Where directions are those of tokens, tokens with a single concept give half of the answer away.
    assert recovered(state.sae, directions, test) <= (0.7 if objective in ("batchtopk", "archetypal") else 0)
    for number in range(800):
        step(state, dictionary(number, 512)[0], config)
    assert recovered(state.sae, directions, test) >= 0.9
    figures = evaluate(state.sae, [test], objective)
    assert figures["explained_variance"] > 0.8
    assert figures["l0"] < 8


def test_after_training_batchtopk_is_as_active_as_in_it() -> None:
    config = PLANTED["batchtopk"]
    state = started(config, dictionary(10_001)[0])
    for number in range(150):
        step(state, dictionary(number, 256)[0], config)
    test = dictionary(10_000)[0]
    with torch.no_grad():
        per_token = (state.sae.encode(test) > 0).sum(1).double()
    assert float(per_token.mean()) == pytest.approx(config.k, rel=0.15)
    assert float(per_token.std()) > 0.5  # not the same number on every token


@pytest.mark.parametrize("objective", KINDS)
def test_the_active_latents_are_those_of_the_readable_model(objective: str) -> None:
    sae = drawn(objective, d=9, expansion=40).float()
    x = torch.randn(300, 9, generator=torch.Generator().manual_seed(3))
    chosen = np.arange(5, 360, 7)
    with torch.no_grad():
        h = sae.encode(x)
    for dtype in ("float32", "bfloat16"):
        for latents in (None, chosen):
            found = active(sae, x, dtype, latents)
            dense = np.zeros((300, 360), np.float32)
            dense[found.tokens, found.latents()] = found.values
            expected = h.numpy().copy()
            if latents is not None:
                expected[:, np.setdiff1d(np.arange(360), latents)] = 0
            near = np.abs(dense - expected) > 1e-4  # on a threshold, rounding decides
            assert near.sum() <= 2
            assert np.count_nonzero(dense) == len(found) > 100
    torch.testing.assert_close(sae.encode_some(x, torch.from_numpy(chosen)), h[:, chosen], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("matryoshka_levels", [1, 3])
@pytest.mark.parametrize("objective", ["topk", "batchtopk"])
def test_the_fast_step_trains_the_same(objective: str, matryoshka_levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Directions that start from tokens can be drawn twice, and which of two equal latents comes first is left open.
    config = replace(
        PLANTED[objective],
        matryoshka_levels=matryoshka_levels,
        dead_after_tokens=1000,
        directions_init="random",
        expansion=3,
    )
    states = []
    for dense in (-1.0, float("inf")):
        monkeypatch.setattr(sparse, "DENSE_ABOVE", dense)
        state = started(config, dictionary(10_001)[0])
        for number in range(12):
            step(state, dictionary(number, 200)[0], config)
        states.append(state)
    plain, fast = states
    assert torch.equal(plain.since_fired, fast.since_fired)
    for (name, a), b in zip(plain.sae.named_parameters(), fast.sae.parameters(), strict=True):
        assert (a - b).norm().item() < 2e-3 * a.norm().item(), name


@pytest.mark.parametrize(
    ("objective", "backend"),
    [(name, "fused") for name in ("release", "squared", "topk", "batchtopk")]
    + [("archetypal", "active"), ("jumprelu", "plain"), ("gated", "plain")],
)
def test_the_backend_of_a_training(objective: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(objective=objective, expansion=2, archetypes=5)
    state = new_state(config, 4, CPU)
    assert backends.choose(state, config) is getattr(backends, backend)
    monkeypatch.setenv("CYTOSAE_BACKEND", "plain")
    assert backends.choose(state, config) is backends.plain
    monkeypatch.setenv("CYTOSAE_BACKEND", "fastest")
    with pytest.raises(CytosaeError, match="CYTOSAE_BACKEND=fastest: unknown; choose one of auto, plain, kernels"):
        backends.choose(state, config)
    monkeypatch.setenv("CYTOSAE_BACKEND", "kernels")
    if backend != "plain":
        with pytest.raises(CytosaeError, match="needs a GPU and Triton"):
            backends.choose(state, config)


@pytest.mark.parametrize(("chosen", "backend"), [(None, "plain"), ("kernels", "kernels")])
def test_kernels_of_a_gpu_are_used_only_if_chosen(
    chosen: str | None, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    from cytosae.sae import gpu  # imports Triton

    if chosen:
        monkeypatch.setenv("CYTOSAE_BACKEND", chosen)
    monkeypatch.setattr(gpu, "available", lambda: True)
    for objective in ("release", "topk"):
        config = TrainConfig(objective=objective, expansion=2)
        state = new_state(config, 4, CPU)
        monkeypatch.setitem(state.sae._parameters, "b_dec", SimpleNamespace(device=SimpleNamespace(type="cuda")))
        assert backends.choose(state, config) is getattr(backends, backend if objective == "release" else "plain")


def test_objectives_that_need_inactive_latents_are_not_given_to_the_fast_step() -> None:
    for objective in ("jumprelu", "gated"):
        sae = drawn(objective).float()
        with pytest.raises(ValueError, match="not active"):
            sparse.backward(sae, torch.randn(5, 7), Loss(objective=objective, l1=0.1))


class TestSaved:
    @pytest.mark.parametrize("objective", KINDS)
    def test_round_trip_encodes_the_same(self, objective: str, tmp_path: Path) -> None:
        sae = drawn(objective).float()
        sae.save_pretrained(tmp_path)
        x = torch.randn(50, 7)
        again, half = SAE.from_pretrained(tmp_path), SAE.from_pretrained(tmp_path, decoder=False)
        assert again.activation.described() == sae.activation.described()
        assert torch.equal(again.encode(x), sae.encode(x))
        assert torch.equal(half.encode(x), sae.encode(x))
        for a, b in zip(sae.parameters(), again.parameters(), strict=True):
            assert torch.equal(a, b)
        described = json.loads((tmp_path / "config.json").read_text())
        assert described["activation"]["kind"] == objective
        assert described["format"] == "cytosae-sae-2"  # or an earlier version would take it for a ReLU

    def test_a_relu_is_saved_as_ever_and_one_without_an_activation_is_a_relu(self, tmp_path: Path) -> None:
        sae = new_state(TrainConfig(expansion=2), 4, CPU).sae
        sae.save_pretrained(tmp_path)
        described = json.loads((tmp_path / "config.json").read_text())
        assert described["format"] == "cytosae-sae"
        assert "activation" not in described
        x = torch.randn(9, 4)
        assert torch.equal(SAE.from_pretrained(tmp_path).encode(x), torch.relu((x - sae.b_dec) @ sae.W_enc + sae.b_enc))

    def test_what_is_not_known_is_refused(self, tmp_path: Path) -> None:
        drawn("topk").float().save_pretrained(tmp_path)
        path = tmp_path / "config.json"
        described = json.loads(path.read_text())
        for activation in ({"kind": "softmax"}, {"kind": "topk"}, {"kind": "gated"}):
            path.write_text(json.dumps({**described, "activation": activation}))
            with pytest.raises(CytosaeError, match="does not fit"):
                SAE.from_pretrained(tmp_path)


@pytest.mark.parametrize("objective", NEW)
def test_a_checkpoint_goes_on_to_the_same_weights(objective: str, tmp_path: Path) -> None:
    config = replace(PLANTED[objective], dead_after_tokens=600)
    whole = started(config, dictionary(10_001)[0])
    for number in range(12):
        if number == 6:
            save_checkpoint(tmp_path / CHECKPOINT, whole, {})
        step(whole, dictionary(number, 200)[0], config)
    again = new_state(replace(config, seed=5), D, CPU)
    load_checkpoint(tmp_path / CHECKPOINT, again)
    for number in range(6, 12):
        step(again, dictionary(number, 200)[0], config)
    for (name, a), (_, b) in zip(whole.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_settings_that_the_objective_does_not_use_are_not_recorded() -> None:
    """So what was trained before they were there is up to date still."""
    new = {"k", "bandwidth", "points", "relaxation"}
    assert not new & set(recorded(TrainConfig()))
    assert new & set(recorded(TrainConfig(objective="batchtopk"))) == {"k"}
    assert new & set(recorded(TrainConfig(objective="jumprelu"))) == {"bandwidth"}
    assert new & set(recorded(TrainConfig(objective="archetypal"))) == {"k", "points", "relaxation"}
    assert recorded(TrainConfig(k=7)) == recorded(TrainConfig())


def test_every_objective_can_be_chosen() -> None:
    (choices,) = [spec.metadata["choices"] for spec in fields(TrainConfig) if spec.name == "objective"]
    assert set(choices) == set(OBJECTIVES)
    for name in choices:
        activation = OBJECTIVES[name].activation(TrainConfig(objective=name))
        assert restore_activation(activation.described()).described() == activation.described()
        assert type(activation) in ACTIVATIONS.values()


def test_maps_and_counts_follow_the_activation() -> None:
    for objective in KINDS:
        sae = drawn(objective).float()
        tokens = torch.randn(5, 7, 7, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            h = sae.encode(tokens.flatten(0, 1)).unflatten(0, (5, 7))
        counts, means = cell_activations(sae, tokens, 0.2)
        np.testing.assert_array_equal(counts.toarray(), (h > 0.2).sum(1).numpy())
        np.testing.assert_allclose(means.toarray(), h.mean(1).numpy(), atol=1e-5)
        maps = concept_maps(sae, tokens, np.array([3, 11]), (2, 3))
        torch.testing.assert_close(maps.flatten(2), h[:, 1:, [3, 11]].transpose(1, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", mostly_slow({"batchtopk"}, NEW))
def test_a_whole_study(objective: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = replace(
        PLANTED[objective],
        expansion=1,
        images=32,
        batch_images=4,
        k=8,
        archetypes=50,
        init_images=2,
        evaluate_every=4,
        l1=1e-4,
        bandwidth=0.01,
        learning_rate=1e-4,
    )
    config = RunConfig(backbone=BackboneConfig("tiny"), train=training)
    stages = Study(tmp_path / "study", config).run(pictures)
    assert stages["concepts"]["datasets"]
    sae = SAE.from_pretrained(tmp_path / "study" / "sae")
    assert sae.activation.described() == OBJECTIVES[objective].activation(training).described()
    assert stages["sae"]["l0"] > 0
    assert (tmp_path / "study" / "report" / "index.html").is_file()
    again = Study(tmp_path / "study", config).run(pictures)
    assert again["sae"]["skipped"]


def test_a_preset_fills_in_what_is_left_out_and_no_more() -> None:
    app = typer.Typer()

    @app.command()
    @with_settings
    def show(training: TrainConfig) -> None:
        print(json.dumps(asdict(training)))

    def given(*arguments: str) -> TrainConfig:
        found = CliRunner().invoke(app, arguments, catch_exceptions=False)
        return TrainConfig(**json.loads(found.stdout))

    recommended = PRESETS["recommended"]
    assert given() == given("--preset", "paper") == TrainConfig() == PRESETS["paper"]
    assert given("--preset", "recommended") == recommended != TrainConfig()
    # Also what is given as it is in the paper stays as it is given.
    assert given("--preset", "recommended", "--dead-latent-loss", "ghost", "--l1", "0.5") == replace(
        recommended, dead_latent_loss="ghost", l1=0.5
    )
    with pytest.raises(CytosaeError, match="--preset best: unknown"):
        given("--preset", "best")
