"""Guidance before a training: planted tokens, figures by hand, and a training with what was suggested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cytosae.analysis import suggest
from cytosae.analysis.suggestion import _count_concepts
from cytosae.cli.suggest import _page
from cytosae.errors import CytosaeError
from cytosae.sae import SAE, TrainConfig, geometric_median, train
from cytosae.sae.cost import training_bytes
from cytosae.sae.objectives import BatchTopK
from cytosae.sae.probe import Probe, beyond_probes, fit_l0, never_fired, search, steps_until, summed_rate
from cytosae.sae.state import learning_rate
from cytosae.tokens import TokenStore
from cytosae.tokens.inspection import mean_to_spread, oddities
from support.commands import cytosae, figures

PLANNED = TrainConfig(
    expansion=8, images=1600, batch_images=16, learning_rate=4e-3, warmup_steps=30, evaluate_every=10_000, encoder="float32"
)  # fmt: skip


def planted(cells: int = 100, n_tokens: int = 17, d: int = 16, seed: int = 0) -> torch.Tensor:
    """Tokens that are sums of about four of 48 directions, with some noise: ``(cells, n_tokens, d)``."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((48, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    weights = rng.exponential(1.0, (cells * n_tokens, 48)) * (rng.random((cells * n_tokens, 48)) < 4 / 48)
    tokens = weights @ directions + 0.05 * rng.standard_normal((cells * n_tokens, d)) + 0.3
    return torch.from_numpy(tokens.reshape(cells, n_tokens, d)).float()


@pytest.fixture
def store(make_store: Callable[..., TokenStore]) -> TokenStore:
    return make_store(planted())


def test_a_training_with_the_suggested_lambda_has_the_wanted_l0(store: TokenStore, tmp_path: Path) -> None:
    found = suggest(store, PLANNED, 15.0)
    assert [row["expansion"] for row in found["expansions"]] == [2, 4, 8]
    row = found["expansions"][-1]
    assert row["l1_low"] < row["l1"] < row["l1_high"]
    reached = train(store, tmp_path / "sae", replace(PLANNED, expansion=8, l1=row["l1"]), device="cpu")
    assert 15 / 1.5 < reached["l0"] < 15 * 1.5
    assert abs(reached["explained_variance"] - row["explained_variance"]) < 0.1
    assert found["command"].startswith(f"cytosae train {store.folder} ")
    assert f"--expansion {found['suggested']['expansion']}" in found["command"]
    assert "--learning-rate 0.004" in found["command"]
    assert "--holdout" not in found["command"]  # as the default is
    assert found["disk_bytes"] == 100 * 17 * 16 * 2
    assert all(row["train_seconds"] > 0 and row["encode_seconds"] > 0 for row in found["expansions"])


@pytest.mark.slow
def test_the_same_seed_suggests_the_same(make_store: Callable[..., TokenStore]) -> None:
    store = make_store(planted(60))
    short = replace(PLANNED, images=640, expansion=4)
    one, other = (suggest(store, short, 5.0, concepts=10) for _ in range(2))
    timeless = ("train_seconds", "encode_seconds", "seconds")
    for found in (one, other):
        for row in [*found["expansions"], found["suggested"], found]:
            for name in timeless:
                row.pop(name, None)
    assert one == other
    assert one["suggested"]["concepts"] >= 10


def test_where_k_sets_the_number_it_is_k_that_is_suggested(store: TokenStore) -> None:
    found = suggest(store, replace(PLANNED, objective="batchtopk", images=640, expansion=4), 6.0)
    assert [row["k"] for row in found["expansions"]] == [6, 6, 6]
    assert all("l1" not in row for row in found["expansions"])
    assert "--k 6" in found["command"]
    assert "--l1" not in found["command"]
    for one in found["probes"]:
        assert one["l0"] == pytest.approx(one["l1"], rel=0.3)


def test_without_a_wanted_l0_the_planned_k_is_meant(store: TokenStore) -> None:
    found = suggest(store, replace(PLANNED, objective="batchtopk", k=7, images=640, expansion=4))
    assert found["wanted_l0"] == 7
    assert found["suggested"]["k"] == 7


def test_concepts_are_counted_by_the_rule_of_the_encoding() -> None:
    """Half of the latents are scattered: with the paper's loss they count, with another one they do not."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.zeros(32, 40, 8)
    cells[:8, :20, :4] = 1  # concentrated in a quarter of the cells
    cells[..., 4:] = (torch.rand(32, 40, 4, generator=generator) < 0.2).float()
    for activation, expected in ((SAE(1, 1).activation, 8), (BatchTopK(8), 4)):
        sae = SAE(8, 8, activation=activation).requires_grad_(False)
        sae.W_enc.copy_(torch.eye(8))
        assert _count_concepts(sae, cells, 1000) == expected


def test_the_search_finds_a_planted_law() -> None:
    """L0 = 0.002 / lambda x expansion^0.2, with 3 % of noise: known without any training."""
    rng = np.random.default_rng(0)
    tried: list[float] = []

    def run(expansion: int, l1: float) -> Probe:
        tried.append(l1)
        l0 = 0.002 / l1 * expansion**0.2 * float(np.exp(0.03 * rng.standard_normal()))
        return Probe(expansion, l1, l0, 0.9, 100, 0.1)

    fit = fit_l0(search(run, 64, (2, 4), 1e-6), 64)
    assert len(tried) <= 8
    for expansion in (2, 4, 32):
        assert fit.l1(64, expansion) == pytest.approx(0.002 / 64 * expansion**0.2, rel=0.35 if expansion == 32 else 0.1)
    assert fit.error(fit.l1(64, 32), 32) > fit.error(fit.l1(64, 4), 4) > 0.1  # farther away it is less certain


def test_no_wanted_concepts_and_too_large_a_seed_are_refused_at_once(store: TokenStore) -> None:
    with pytest.raises(CytosaeError, match="--concepts 0"):
        suggest(store, PLANNED, 5.0, concepts=0)
    with pytest.raises(CytosaeError, match="--seed 99999999999999999999: must be at most"):
        replace(PLANNED, seed=99999999999999999999)


def test_l0_that_does_not_fall_is_an_error() -> None:
    probes = [Probe(2, l1, l0, 0.5, 10, 0.1) for l1, l0 in [(1e-4, 10.0), (2e-4, 12.0), (4e-4, 14.0)]]
    with pytest.raises(CytosaeError, match="did not fall with lambda"):
        fit_l0(probes, 10)


def test_mean_to_spread_by_hand() -> None:
    x = torch.tensor([[3.0, 3.0], [3.0, 5.0], [3.0, 4.0], [3.0, 4.0]])  # mean (3, 4), variance (0, 0.5)
    assert mean_to_spread(x) == pytest.approx(5 / 0.5**0.5)
    assert mean_to_spread(x, torch.tensor([3.0, 3.0])) == pytest.approx(1 / 0.5**0.5)
    assert mean_to_spread(x, geometric_median(x)) == pytest.approx(0, abs=1e-5)
    assert mean_to_spread(torch.ones(3, 2)) == float("inf")


def test_a_large_mean_kills_latents_unless_they_are_centred() -> None:
    x = planted(40).flatten(0, 1)
    x = x - x.mean(dim=0)
    far = x + 40 * torch.nn.functional.normalize(torch.ones(16), dim=0)
    config = replace(PLANNED, l1=0.0)
    assert mean_to_spread(far) > 10
    assert mean_to_spread(far, geometric_median(far)) < 0.5
    assert never_fired(x, config, False, 5) < 0.02
    assert never_fired(far, config, False, 5) > 0.25  # nearly half of random directions point away from the mean
    assert never_fired(far, config, True, 5) < 0.02


def test_oddities_that_were_planted() -> None:
    tokens = torch.randn(10, 17, 8, generator=torch.Generator().manual_seed(0)) + 2
    tokens[:, :, 3] = 2.0
    plain = oddities(tokens, True)
    assert plain.constant == (3,)
    assert plain.outliers == 0
    assert plain.clipped == 0
    tokens[0, 5] *= 20
    tokens[:, 0] *= 4
    tokens[1, 2, 6] = 65_504
    odd = oddities(tokens, True)
    assert odd.outliers == pytest.approx(2 / 160)
    assert odd.cls_norm == pytest.approx(4, rel=0.3)
    assert odd.clipped == 1
    assert odd.dominant_dimension == 6
    assert odd.dominant_share > 0.9
    assert oddities(tokens, False).cls_norm is None


@pytest.mark.parametrize("warmup", [0, 1, 4, 20, 500])
def test_the_sum_of_learning_rates_is_that_of_the_rates_that_are_taken(warmup: int) -> None:
    config = replace(PLANNED, images=16 * 100, warmup_steps=warmup, learning_rate=0.5)
    rates = [learning_rate(done, config) for done in range(config.steps)]
    for done in range(config.steps + 1):
        assert summed_rate(done, config) == pytest.approx(sum(rates[:done]), rel=1e-12)
        assert steps_until(summed_rate(done, config), config) == done
    assert steps_until(1.0001 * summed_rate(30, config), config) == 31
    assert steps_until(1e9, config) == 100


def test_two_steps_of_a_warm_up_of_four() -> None:
    assert summed_rate(2, replace(PLANNED, warmup_steps=4, learning_rate=0.5)) == 0.375


def test_a_training_far_beyond_its_probes_is_less_certain() -> None:
    assert beyond_probes(PLANNED) == pytest.approx(0, abs=0.02)
    twice = beyond_probes(replace(PLANNED, images=16 * 2000)) - beyond_probes(replace(PLANNED, images=16 * 1000))
    assert twice == pytest.approx(np.log(2), abs=0.02)
    probes = [Probe(2, 0.1 / l0, l0, 0.9, 100, 0.1) for l0 in (10.0, 12.0, 14.0, 16.0)]
    assert fit_l0(probes, 12, 2.0).error(0.01, 2) > 2 * fit_l0(probes, 12).error(0.01, 2)


def test_memory_grows_with_what_is_trained() -> None:
    """Against the peak of a training that was measured at the paper's size: 3.3 GiB (docs/explanation/benchmarks.md)."""
    assert training_bytes(768, 49_152, 64 * 257) / 2**30 == pytest.approx(3.3, rel=0.15)
    assert training_bytes(768, 98_304, 64 * 257) > training_bytes(768, 49_152, 64 * 257) + 1e9


def test_mistakes_are_told(make_store: Callable[..., TokenStore]) -> None:
    few = make_store(planted(6), name="few")
    with pytest.raises(CytosaeError, match=r"6 cells, .*too few"):
        suggest(few, PLANNED, 6)
    with pytest.raises(CytosaeError, match="no token store"):
        TokenStore(few.folder / "nowhere")
    store = make_store(planted(40), name="enough")
    with pytest.raises(CytosaeError, match="--l0 1000"):
        suggest(store, PLANNED, 1000)
    with pytest.raises(CytosaeError, match="alike"):
        suggest(make_store(torch.ones(40, 7, 8), name="alike"), PLANNED, 4)
    shard = store.folder / store.shards[1].file
    with shard.open("r+b") as file:
        file.seek(-2 * 16 * 17, 2)
        file.write(b"\x00\x7e" * 16)  # NaN in float16
    with pytest.raises(CytosaeError, match=r"NaN or infinite tokens for cell"):
        suggest(store, PLANNED, 6)


@pytest.mark.slow
def test_the_command(make_store: Callable[..., TokenStore]) -> None:
    store = make_store(planted(60))
    short = replace(PLANNED, images=640, expansion=4)
    options = ("--expansion", 4, "--images", 640, "--batch-images", 16, "--learning-rate", 4e-3, "--warmup-steps", 30)
    found = figures(cytosae("suggest", store.folder, "--preset", "paper", "--l0", 5, *options, "--json"))
    assert found["tokens"]["constant"] == []
    assert [row["expansion"] for row in found["expansions"]] == [1, 2, 4]
    page = "\n".join(_page(found, short))
    for word in ("lambda for L0 5", "explained variance", "peak memory", "mean to spread", found["command"]):
        assert word in page
