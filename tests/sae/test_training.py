"""The autoencoder: equations, gradients, metrics, and training that can be stopped anywhere."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from cytosae.artefacts import LEDGER
from cytosae.errors import CytosaeError, Interrupted
from cytosae.locks import LOCK
from cytosae.sae import SAE, ExplainedVariance, TrainConfig, backward, evaluate, geometric_median, read_metrics, train
from cytosae.sae import objectives as objectives_module
from cytosae.sae.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from cytosae.sae.former import TrainedWork
from cytosae.sae.joint import Member, train_together
from cytosae.sae.loss import Loss
from cytosae.sae.start import start_from_tokens, start_of_bias
from cytosae.sae.state import dead_latents, learning_rate, new_state
from cytosae.sae.step import step
from cytosae.tokens import TokenStore
from support.planted import MakeStore, live
from support.training import NAMES, SHORT_TRAINING, GivenFlag, StopAt, dictionary_tokens


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
            threshold = min(0.0, pre[nearest[-1]].item())
            said = sum((pre[s] - threshold) * sae.W_dec[s] for s in nearest)
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
    x = torch.randn(20, 6, dtype=torch.float64)
    with_loss, without = random_sae(6, 12, bias=-20.0), random_sae(6, 12, bias=-20.0)  # nothing fires
    backward(with_loss, x, Loss("release", 0.0, torch.tensor([3, 7]), dead_latent_loss=dead_latent_loss))
    backward(without, x, Loss(objective="release", l1=0.0))
    for name, axis in (("W_enc", 0), ("b_enc", None), ("W_dec", 1)):
        gained = (getattr(with_loss, name).grad - getattr(without, name).grad).abs()
        touched = (gained.sum(axis) if axis is not None else gained) > 0
        assert touched.nonzero().squeeze(1).tolist() == [3, 7], name


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


def test_first_reconstruction_has_about_the_norm_of_the_tokens() -> None:
    sae = SAE(64, 4096)
    sae.initialise(torch.Generator().manual_seed(0))
    x = torch.randn(200, 64)
    with torch.no_grad():
        output, h = sae(x)
    assert 0.5 < float(output.norm(dim=1).mean() / x.norm(dim=1).mean()) < 2
    assert 0.45 < float((h > 0).float().mean()) < 0.55


def test_directions_that_start_from_tokens_see_the_tokens_at_once() -> None:
    x = planted_tokens()
    sae = SAE(16, 64)
    with torch.no_grad():
        sae.b_dec.copy_(x.mean(0))
    start_from_tokens(sae, x, 0)
    centred = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    torch.testing.assert_close((sae.W_dec.detach() @ centred.T).amax(1), torch.ones(64))
    encoder = sae.W_enc.detach().T
    torch.testing.assert_close(encoder / encoder.norm(dim=1, keepdim=True), sae.W_dec.detach())
    with torch.no_grad():
        output, _ = sae(x)
    assert (output - x).square().sum() < 0.8 * (x - x.mean(0)).square().sum()
    other, again = SAE(16, 64), SAE(16, 64)
    for model, seed in ((other, 1), (again, 0)):
        with torch.no_grad():
            model.b_dec.copy_(x.mean(0))
        start_from_tokens(model, x, seed)
    assert torch.equal(again.W_dec, sae.W_dec)
    assert not torch.equal(other.W_dec, sae.W_dec)


def test_tokens_that_are_all_equal_leave_the_directions_as_they_were() -> None:
    sae = SAE(4, 8)
    sae.initialise(torch.Generator().manual_seed(0))
    before = sae.W_dec.detach().clone()
    start_from_tokens(sae, torch.zeros(5, 4), 0)
    assert torch.equal(sae.W_dec, before)


def planted_tokens() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(16, 8, generator=generator))[0].T
    amounts = torch.rand(500, 8, generator=generator) * (torch.rand(500, 8, generator=generator) < 0.3)
    return 5 + 3 * amounts @ axes + 0.01 * torch.randn(500, 16, generator=generator)


def test_dead_means_silent_for_64_batches() -> None:
    config = TrainConfig(expansion=2, dead_latent_loss="none", learning_rate=1e-9, dead_after=64)
    state = new_state(config, 4, torch.device("cpu"))
    with torch.no_grad():
        state.sae.b_enc[5] = -1e6
    for done in range(1, 66):
        step(state, torch.randn(256, 4), config)
        assert dead_latents(state, config).tolist() == ([5] if done >= 64 else [])
    with torch.no_grad():
        state.sae.b_enc[5] = 1e6
    step(state, torch.randn(8, 4), config)
    assert dead_latents(state, config).tolist() == []


def test_learning_rate_warms_up_linearly_then_stays() -> None:
    config = TrainConfig()
    assert learning_rate(0, config) == pytest.approx(4e-4 / 500)
    assert learning_rate(249, config) == pytest.approx(2e-4)
    assert learning_rate(499, config) == learning_rate(10**6, config) == 4e-4


def test_defaults_are_the_papers() -> None:
    config = TrainConfig()
    assert (config.expansion, config.l1, config.learning_rate, config.warmup_steps) == (64, 8e-5, 4e-4, 500)
    assert (config.images, config.batch_images, config.dead_after, config.dead_latent_loss) == (
        1_000_000,
        64,
        64,
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


def test_geometric_median_against_known_points() -> None:
    triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
    assert torch.allclose(geometric_median(triangle), triangle.mean(0), atol=1e-5)
    line = torch.tensor([[0.0], [1.0], [2.0], [50.0], [2.5]])
    assert geometric_median(line).item() == pytest.approx(2.0, abs=1e-3)  # the median; the mean is 11
    x = torch.randn(500, 7) ** 3
    median = geometric_median(x).double()

    def distance(p: Tensor) -> float:
        return float((x.double() - p).norm(dim=1).sum())

    for direction in torch.randn(20, 7, dtype=torch.float64):
        assert distance(median) <= distance(median + 0.01 * direction)
    assert torch.allclose(start_of_bias(x, "mean"), x.mean(0), atol=1e-5)
    assert not start_of_bias(x, "zeros").any()


class TestExplainedVariance:
    def test_mean_predictor_scores_zero_and_identity_one(self) -> None:
        x = torch.randn(1000, 8) * torch.arange(1, 9) + 30
        mean, same = ExplainedVariance(8), ExplainedVariance(8)
        for part in x.split(70):
            mean.update(part, x.mean(0).expand_as(part))
            same.update(part, part)
        assert mean.value() == pytest.approx(0, abs=1e-6)
        assert same.value() == 1

    def test_of_a_model_that_always_answers_the_mean(self) -> None:
        x = torch.randn(4, 50, 6) + 5
        sae = SAE(6, 12)
        with torch.no_grad():
            sae.b_dec.copy_(x.flatten(0, 1).mean(0))
        assert evaluate(sae, [x], "release")["explained_variance"] == pytest.approx(0, abs=1e-5)

    def test_pooled_over_tokens_not_averaged_over_batches(self) -> None:
        x = torch.cat([torch.randn(100, 3) * 10, torch.randn(100, 3) * 0.1 + 50])
        output = x + 0.05 * torch.randn(200, 3)
        pooled = ExplainedVariance(3)
        for a, b in zip(x.split(100), output.split(100), strict=True):
            pooled.update(a, b)
        expected = 1 - ((x - output) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
        assert pooled.value() == pytest.approx(float(expected), abs=1e-6)

    @pytest.mark.parametrize("shift", [1.0, 1e3])
    def test_constant_added_to_all_tokens_changes_only_the_bias(self, shift: float) -> None:
        """Trained on shifted tokens, the autoencoder of Eq. 1 is the same but for b_dec."""
        tokens = torch.randn(300, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        config = TrainConfig(expansion=4, objective="squared", l1=1e-3, warmup_steps=0, learning_rate=1e-2)
        trained = []
        for x in (tokens, tokens + shift):
            state = new_state(config, 6, torch.device("cpu"))
            state.sae.double()
            with torch.no_grad():
                state.sae.b_dec.copy_(geometric_median(x))
            state.optimiser = torch.optim.Adam(state.sae.parameters(), lr=1e-2)
            for _ in range(30):
                step(state, x, config)
            variance = ExplainedVariance(6)
            with torch.no_grad():
                variance.update(x, state.sae(x)[0])
            trained.append((state.sae, variance.value()))
        (a, ev_a), (b, ev_b) = trained
        assert ev_a == pytest.approx(ev_b, abs=1e-6)
        for name in ("W_enc", "b_enc", "W_dec"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(a.b_dec + shift, b.b_dec, rtol=1e-6, atol=1e-6)

    def test_no_spread_is_not_a_number(self) -> None:
        variance = ExplainedVariance(2)
        variance.update(torch.ones(5, 2), torch.ones(5, 2))
        assert math.isnan(variance.value())


def test_training_explains_planted_tokens(make_store: MakeStore, tmp_path: Path) -> None:
    config = replace(SHORT_TRAINING, images=16 * 600)
    figures = train(make_store(dictionary_tokens()), tmp_path / "sae", config)
    assert figures["explained_variance"] > 0.95
    assert figures["l0"] < 24  # of 48
    sae = SAE.from_pretrained(tmp_path / "sae")
    assert sae.metadata["held_out"] == json.loads(json.dumps(figures))
    assert sae.metadata["backbone"]["layer"] == 1
    lines = read_metrics(tmp_path / "sae")
    for name in ("mse", "l1", "l0", "explained_variance", "dead", "revival", "loss"):
        assert any(name in line for line in lines), name
    assert [line["step"] for line in lines if "held_out/explained_variance" in line] == list(range(40, 601, 40))


def contents(folder: Path) -> tuple[bytes, dict[str, Tensor]]:
    from safetensors.torch import load_file

    return (folder / "model.safetensors").read_bytes(), load_file(folder / CHECKPOINT)


def interrupted_train(store: object, folder: Path, config: TrainConfig, stops: list[int]) -> None:
    """Train with interruptions after the given numbers of steps."""
    import cytosae.sae.training as module

    for steps in stops:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "deferred_signals", lambda steps=steps: GivenFlag(StopAt(steps)))
            with pytest.raises(Interrupted, match="checkpoint"):
                train(store, folder, config)  # type: ignore[arg-type]
    train(store, folder, config)  # type: ignore[arg-type]


def test_interrupted_training_ends_in_the_same_bytes(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(dictionary_tokens())
    train(store, tmp_path / "whole", SHORT_TRAINING)
    interrupted_train(store, tmp_path / "parts", SHORT_TRAINING, [0, 1, 37, 40, 5])
    weights, state = contents(tmp_path / "whole")
    weights_parts, state_parts = contents(tmp_path / "parts")
    assert weights == weights_parts
    assert state.keys() == state_parts.keys()
    for name in state:  # weights, both moments of Adam, batches since firing, random state
        assert torch.equal(state[name], state_parts[name]), name
    steps = [line["step"] for line in read_metrics(tmp_path / "parts") if "loss" in line]
    assert steps == list(range(10, 101, 10))


@pytest.mark.parametrize("forget", ["sae.", "adam.", "since_fired"])
def test_the_resume_test_would_notice_a_part_that_is_not_restored(
    forget: str, make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cytosae.sae.trainer as module

    def forgetful(path: Path, state: object) -> None:
        fresh = new_state(SHORT_TRAINING, 12, torch.device("cpu"))
        load_checkpoint(path, state)  # type: ignore[arg-type]
        if forget == "sae.":
            state.sae.load_state_dict(fresh.sae.state_dict())  # type: ignore[attr-defined]
        elif forget == "adam.":
            state.optimiser.state.clear()  # type: ignore[attr-defined]
        else:
            state.since_fired.zero_()  # type: ignore[attr-defined]

    monkeypatch.setattr(module, "load_checkpoint", forgetful)
    config = replace(
        SHORT_TRAINING, dead_after=30, l1=1.0, learning_rate=2e-2
    )  # some latents die, so that their bookkeeping matters
    store = make_store(dictionary_tokens())
    train(store, tmp_path / "whole", config)
    interrupted_train(store, tmp_path / "parts", config, [37])
    assert contents(tmp_path / "whole")[0] != contents(tmp_path / "parts")[0]


def test_random_state_is_restored(make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An objective that draws random numbers goes on with the same ones, with and without a store."""

    def noisy(target: Tensor, output: Tensor) -> Tensor:
        return (output - target).square().mean(-1) * (0.5 + torch.rand(len(target)))

    monkeypatch.setitem(objectives_module.RECONSTRUCTION, "release", noisy)
    tokens = dictionary_tokens().half().float()
    for kind, source in (("store", make_store(tokens)), ("live", live(tokens, tmp_path / "images"))):
        train(source, tmp_path / kind, SHORT_TRAINING)  # type: ignore[arg-type]
        torch.manual_seed(123)  # whatever happened in between
        interrupted_train(source, tmp_path / f"{kind}-parts", SHORT_TRAINING, [37])
        assert contents(tmp_path / kind)[0] == contents(tmp_path / f"{kind}-parts")[0]
    assert contents(tmp_path / "store")[0] == contents(tmp_path / "live")[0]


def test_a_training_leaves_the_random_numbers_of_its_caller_alone(make_store: MakeStore, tmp_path: Path) -> None:
    store, found = make_store(dictionary_tokens()), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        new_state(SHORT_TRAINING, 12, torch.device("cpu"))
        train(store, tmp_path / str(seed), SHORT_TRAINING)
        members = [Member("one", tmp_path / f"{seed}-together", SHORT_TRAINING)]
        train_together(store, members, device="cpu")
        assert torch.equal(torch.get_rng_state(), before)
        found += [contents(tmp_path / f"{seed}{kind}")[0] for kind in ("", "-together")]
    assert all(one == found[0] for one in found)


def test_more_images_continue_a_finished_training(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(dictionary_tokens())
    train(store, tmp_path / "whole", SHORT_TRAINING)
    train(store, tmp_path / "longer", replace(SHORT_TRAINING, images=800))
    train(store, tmp_path / "longer", SHORT_TRAINING)
    assert contents(tmp_path / "whole")[0] == contents(tmp_path / "longer")[0]


@pytest.mark.parametrize("change", [{"seed": 1}, {"l1": 0.1}, {"images": 320}])
def test_other_settings_start_anew_and_say_so(
    change: dict[str, object], make_store: MakeStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(dictionary_tokens())
    train(store, tmp_path / "sae", replace(SHORT_TRAINING, images=800))
    other = replace(SHORT_TRAINING, **{"images": 800, **change})
    with pytest.raises(CytosaeError, match="--restart"):
        train(store, tmp_path / "sae", other)
    train(store, tmp_path / "sae", other, restart=True)
    assert "training starts anew" in capsys.readouterr().err
    train(store, tmp_path / "fresh", other)
    assert contents(tmp_path / "sae")[0] == contents(tmp_path / "fresh")[0]


def test_any_number_of_readers_trains_the_same(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(dictionary_tokens())
    for readers in (1, 3):
        train(store, tmp_path / str(readers), SHORT_TRAINING, readers=readers)
    assert contents(tmp_path / "1")[0] == contents(tmp_path / "3")[0]


def test_damaged_shard_and_nan_stop_before_harm(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(dictionary_tokens())
    path = store.folder / "shard-00001.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(CytosaeError, match=r"shard-00001\.safetensors: shard is damaged"):
        train(store, tmp_path / "sae", SHORT_TRAINING)
    assert {path.name for path in (tmp_path / "sae").iterdir()} <= {LEDGER, LOCK}


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_damaged_checkpoint_is_not_continued(make_store: MakeStore, tmp_path: Path) -> None:
    train(make_store(dictionary_tokens()), tmp_path / "sae", SHORT_TRAINING)
    path = tmp_path / "sae" / "checkpoint.safetensors"
    good = path.read_bytes()
    state = new_state(SHORT_TRAINING, 12, torch.device("cpu"))
    for place in (
        len(good) - 1,
        len(good) // 2,
        good.index(b"random_state"),
        good.index(b"W_enc"),
        good.index(b'step\\"') + 8,
    ):
        path.write_bytes(flipped(good, place))
        with pytest.raises(CytosaeError, match=r"checkpoint\.safetensors: not a checkpoint, or damaged"):
            load_checkpoint(path, state)
    path.write_bytes(good.replace(b"parameters", b"pasameters"))
    with pytest.raises(CytosaeError, match=r"checkpoint\.safetensors: does not say of which training"):
        TrainedWork.load(tmp_path / "sae")
    path.write_bytes(good)
    load_checkpoint(path, state)


def test_a_checkpoint_without_a_checksum_is_read(tmp_path: Path) -> None:
    state = new_state(SHORT_TRAINING, 12, torch.device("cpu"))
    save_checkpoint(tmp_path / "c", state, {})
    with safe_open(tmp_path / "c", "pt") as file:
        about = json.loads(file.metadata()["cytosae"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del about["sha256"]
    save_file(tensors, tmp_path / "c", metadata={"cytosae": json.dumps(about)})
    load_checkpoint(tmp_path / "c", state)


def test_divergence_is_said(make_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match="diverged"):
        train(
            make_store(dictionary_tokens()),
            tmp_path / "sae",
            replace(SHORT_TRAINING, learning_rate=1e30, warmup_steps=0),
        )


def test_nothing_left_to_train_on(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(dictionary_tokens(8), split=["test"] * 8)
    with pytest.raises(CytosaeError, match="No cell is left"):
        train(store, tmp_path / "sae", SHORT_TRAINING)


def test_a_single_cell(make_store: MakeStore, tmp_path: Path) -> None:
    figures = train(make_store(dictionary_tokens(1)), tmp_path / "sae", replace(SHORT_TRAINING, images=64))
    assert figures["steps"] == 4


def test_trackers(make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    store = make_store(dictionary_tokens())
    train(store, tmp_path / "sae", replace(SHORT_TRAINING, images=320), track=["tensorboard", "wandb"])
    assert list((tmp_path / "sae" / "tensorboard").glob("events*"))
    assert list((tmp_path / "sae" / "wandb").glob("offline-run-*"))
    with pytest.raises(CytosaeError, match="choose from tensorboard, wandb"):
        train(store, tmp_path / "other", SHORT_TRAINING, track=["excel"])


class TestPretrained:
    def test_round_trip_is_exact(self, tmp_path: Path) -> None:
        sae = SAE(5, 20, {"note": "x"})
        sae.initialise(torch.Generator().manual_seed(0))
        sae.save_pretrained(tmp_path)
        again = SAE.from_pretrained(tmp_path)
        assert again.metadata == {"note": "x"}
        for name in NAMES:
            assert torch.equal(getattr(sae, name), getattr(again, name))

    def test_from_the_hub_by_its_two_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        SAE(3, 6).save_pretrained(tmp_path)
        asked: list[object] = []
        monkeypatch.setattr(
            "huggingface_hub.snapshot_download", lambda name, **kw: asked.append((name, kw)) or str(tmp_path)
        )
        assert SAE.from_pretrained("owner/name", revision="v1").n_latents == 6
        assert asked == [("owner/name", {"revision": "v1", "allow_patterns": ["model.safetensors", "config.json"]})]

    def test_errors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(CytosaeError, match="hub did not give it"):
            SAE.from_pretrained("owner/name")
        with pytest.raises(CytosaeError, match="no such folder"):
            SAE.from_pretrained(tmp_path / "absent")
        with pytest.raises(CytosaeError, match="missing"):
            SAE.from_pretrained(tmp_path)
        SAE(3, 6).save_pretrained(tmp_path)
        data = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(data[:100])
        with pytest.raises(CytosaeError, match="damaged"):
            SAE.from_pretrained(tmp_path)
        SAE(3, 6).save_pretrained(tmp_path)
        config = (tmp_path / "config.json").read_text()
        (tmp_path / "config.json").write_text(config.replace('"n_latents": 6', '"n_latents": 7'))
        with pytest.raises(CytosaeError, match="does not fit"):
            SAE.from_pretrained(tmp_path)
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(CytosaeError, match="not the configuration"):
            SAE.from_pretrained(tmp_path)
        broken = SAE(3, 6)
        with torch.no_grad():
            broken.b_dec[0] = float("nan")
        broken.save_pretrained(tmp_path)
        with pytest.raises(CytosaeError, match="b_dec holds NaN"):
            SAE.from_pretrained(tmp_path)


def test_same_seed_same_bytes_another_seed_other_bytes(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(dictionary_tokens())
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(store, tmp_path / name, replace(SHORT_TRAINING, seed=seed, images=320))
    a, b, c = (contents(tmp_path / name)[0] for name in "abc")
    assert a == b
    assert a != c


def test_split_column_is_respected(make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = ["val" if index % 4 == 0 else "train" for index in range(80)]
    store = make_store(dictionary_tokens(), split=split)
    seen: set[int] = set()
    original = TokenStore._read_checked

    def spy(self: TokenStore, cells: np.ndarray) -> Tensor:
        seen.update(cells.tolist())
        return original(self, cells)

    monkeypatch.setattr(TokenStore, "_read_checked", spy)
    train(store, tmp_path / "sae", replace(SHORT_TRAINING, evaluate_every=10**6))
    held = {index for index in range(80) if index % 4 == 0}
    assert seen >= set(range(80)) - held
    figures = json.loads((tmp_path / "sae" / "config.json").read_text())["metadata"]["held_out"]
    assert figures["tokens"] == 20 * 9


def test_a_checkpoint_on_a_full_disk_is_told(tmp_path: Path) -> None:
    import resource
    import signal

    sae = SAE(8, 64)
    sae.initialise(torch.Generator().manual_seed(0))
    sae.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(CytosaeError, match=r"model\.safetensors: the disk is full or a size limit was reached"):
            sae.save_pretrained(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
