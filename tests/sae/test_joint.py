"""Autoencoders trained together are those trained alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cytosae.errors import Interrupted
from cytosae.interrupts import StopFlag
from cytosae.sae import SAE, joint, sparse, train
from cytosae.sae.checkpoint import read_identity
from cytosae.sae.joint import DIVERGED, Member, Trained, streams, train_together
from cytosae.settings import TrainConfig
from cytosae.tokens import TokenStore
from support.training import GivenFlag

D_MODEL, N_TOKENS = 8, 7
BASE = TrainConfig(
    expansion=4,
    images=320,
    batch_images=8,
    l1=1e-3,
    learning_rate=1e-2,
    warmup_steps=5,
    dead_after_tokens=5 * 8 * N_TOKENS,
    evaluate_every=15,
    log_every=4,
)


@pytest.fixture
def store(make_store: Callable[..., TokenStore]) -> TokenStore:
    """Tokens that are sparse combinations of twelve directions."""
    generator = torch.Generator().manual_seed(5)
    directions = torch.nn.functional.normalize(torch.randn(12, D_MODEL, generator=generator), dim=1)
    active = torch.rand(60, N_TOKENS, 12, generator=generator) < 0.2
    return make_store((active * torch.rand(60, N_TOKENS, 12, generator=generator)) @ directions + 0.3)


def various(folder: Path) -> list[Member]:
    """Members of different sizes, lengths, revivals and seeds."""
    configs = {
        "plain": BASE,
        "wide": replace(BASE, expansion=9, dead_latent_loss="none"),
        "sparse": replace(BASE, l1=2e-2, dead_latent_loss="auxk", images=200),
        "tokens": replace(BASE, directions_init="tokens", b_dec_init="mean"),
        "seed": replace(BASE, seed=3),
        "matryoshka": replace(BASE, matryoshka_levels=2, init_images=9),
    }
    return [Member(name, folder / name, config) for name, config in configs.items()]


def assert_equal_weights(one: Path, other: Path) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    for name, values in first.items():
        torch.testing.assert_close(values, second[name], atol=2e-5, rtol=1e-3, msg=lambda m, n=name: f"{one} {n}: {m}")


@pytest.mark.parametrize("threads", [1, 2])
def test_together_as_alone(store: TokenStore, tmp_path: Path, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = train_together(store, various(tmp_path / "together"))
    finally:
        torch.set_num_threads(before)
    assert not found.diverged
    for member in various(tmp_path / "alone"):
        alone = train(store, member.folder, member.config)
        together = tmp_path / "together" / member.name
        assert_equal_weights(together, member.folder)
        assert found.figures[member.name].keys() == alone.keys()
        assert found.figures[member.name]["explained_variance"] == pytest.approx(alone["explained_variance"], abs=1e-3)
        logs = [(folder / "metrics.jsonl").read_text().count("\n") for folder in (together, member.folder)]
        assert logs[0] == logs[1] > 5
        assert SAE.from_pretrained(together).metadata["training"]["seed"] == member.config.seed
    assert torch.get_num_threads() == before


def test_the_sparse_step_in_a_thread_of_its_own(store: TokenStore, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sparse, "DENSE_ABOVE", 1.0)  # every step but the first
    members = [Member(str(n), tmp_path / str(n), replace(BASE, expansion=8, l1=1e-3 * (n + 1))) for n in range(3)]
    train_together(store, members)
    for member in members:
        train(store, tmp_path / "alone" / member.name, member.config)
        assert_equal_weights(member.folder, tmp_path / "alone" / member.name)


class CountingStore:
    """A store that counts the cells that are read."""

    def __init__(self, store: TokenStore) -> None:
        self.store, self.read = store, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def stream(self, batches: Any, **given: Any) -> Any:
        for tokens in self.store.stream(batches, **given):
            self.read += len(tokens)
            yield tokens


def test_tokens_are_read_once_for_all(store: TokenStore, tmp_path: Path) -> None:
    read = []
    for count in (1, 6):
        counting = CountingStore(store)
        members = [Member(str(n), tmp_path / f"{count}-{n}", replace(BASE, l1=1e-3 * (n + 1))) for n in range(count)]
        train_together(counting, members)  # type: ignore[arg-type]
        read.append(counting.read)
    assert read[0] == read[1]


def test_without_members_the_tokens_are_not_even_verified(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "verify", lambda: pytest.fail("all tokens are read"))
    assert train_together(store, []) == Trained()


def test_seeds_have_streams_of_their_own(tmp_path: Path) -> None:
    assert [[m.name for m in stream] for stream in streams(various(tmp_path))] == [
        ["plain", "wide", "sparse", "tokens", "matryoshka"],
        ["seed"],
    ]


def test_goes_on_after_a_stop_in_the_middle(store: TokenStore, tmp_path: Path, monkeypatch: Any) -> None:
    members = [Member(str(n), tmp_path / str(n), replace(BASE, l1=1e-3 * (n + 1))) for n in range(3)]
    # One of them has come further than the others, as after a crash between two checkpoints.
    ahead = StopFlag()
    plain = joint.Trainer.step

    def until(number: int, flag: StopFlag) -> Callable[[joint.Trainer, torch.Tensor], str]:
        def stepped(one: joint.Trainer, x: torch.Tensor) -> str:
            note = plain(one, x)
            if one.state.step == number:
                flag.signum = 15
            return note

        return stepped

    for chosen, number in ((members[1:2], 20), (members, 27)):
        flag = ahead if number == 20 else StopFlag()
        monkeypatch.setattr(joint.Trainer, "step", until(number, flag))
        monkeypatch.setattr(joint, "deferred_signals", lambda flag=flag: GivenFlag(flag))
        with pytest.raises(Interrupted):
            train_together(store, chosen)
    monkeypatch.undo()
    steps = [read_identity(member.folder / "checkpoint.safetensors")[1] for member in members]
    assert steps[1] >= 27
    assert all(0 < step < 40 for step in steps)
    train_together(store, members)
    for member in members:
        train(store, tmp_path / "alone" / member.name, member.config)
        assert_equal_weights(member.folder, tmp_path / "alone" / member.name)


def test_one_that_diverges_harms_no_other(store: TokenStore, tmp_path: Path, monkeypatch: Any) -> None:
    bad = Member("bad", tmp_path / "bad", replace(BASE, learning_rate=1e30, warmup_steps=0))
    good = [Member(str(n), tmp_path / str(n), replace(BASE, l1=1e-3 * (n + 1))) for n in range(2)]
    found = train_together(store, [good[0], bad, good[1]])
    assert list(found.diverged) == ["bad"]
    assert "diverged" in found.diverged["bad"]
    assert not (bad.folder / "model.safetensors").exists()
    for member in good:
        train(store, tmp_path / "alone" / member.name, member.config)
        assert_equal_weights(member.folder, tmp_path / "alone" / member.name)
    # It is remembered, and tried again only with other settings.
    monkeypatch.setattr(joint.Trainer, "step", lambda *_: pytest.fail("trained again"))
    assert train_together(store, [bad]).diverged == found.diverged
    monkeypatch.undo()
    again = train_together(store, [replace(bad, config=BASE)])
    assert not again.diverged
    assert not (bad.folder / DIVERGED).exists()
