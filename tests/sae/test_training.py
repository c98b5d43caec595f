"""Training of the autoencoder: what it explains, and that it can be stopped anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cytosae.artefacts import LEDGER
from cytosae.errors import CytosaeError, Interrupted
from cytosae.locks import LOCK
from cytosae.sae import SAE, TrainConfig, read_metrics, train
from cytosae.sae import objectives as objectives_module
from cytosae.sae.checkpoint import CHECKPOINT, CHECKPOINT_BEFORE, load_checkpoint
from cytosae.sae.joint import Member, train_together
from cytosae.sae.state import dead_latents, new_state
from cytosae.settings import PRESETS
from cytosae.tokens import TokenStore
from support.planted import MakeStore, live
from support.training import SHORT_TRAINING, GivenFlag, StopAt, dictionary_tokens


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


def test_what_is_left_to_the_rule_is_settled_by_cells_and_batch(make_store: MakeStore, tmp_path: Path) -> None:
    recommended = PRESETS["recommended"]
    assert recommended.learning_rate == recommended.images == 0
    tiny, large = recommended.scaled_to(2_000, 257), recommended.scaled_to(50_000, 257)
    assert (tiny.learning_rate, tiny.images) == (1e-3, 16_000)
    assert (large.learning_rate, large.images) == (1e-3, 100_000)
    wide, batch = replace(recommended, expansion=64), replace(recommended, batch_images=4)
    assert wide.scaled_to(50_000, 257).learning_rate == 1e-3  # wider dictionaries lose latents at lower rates
    assert batch.scaled_to(50_000, 257).learning_rate == 5e-4
    given = replace(recommended, learning_rate=3e-3, images=160).scaled_to(50_000, 257)
    assert (given.learning_rate, given.images) == (3e-3, 160)
    assert TrainConfig().scaled_to(50, 257) == TrainConfig()

    short = replace(SHORT_TRAINING, learning_rate=0)
    train(make_store(dictionary_tokens()), tmp_path / "sae", short)
    recorded = SAE.from_pretrained(tmp_path / "sae").metadata["training"]
    assert recorded["learning_rate"] == short.scaled_to(80, 9).learning_rate == 1.9e-4


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
        SHORT_TRAINING, dead_after_tokens=30 * 16 * 9, l1=1.0, learning_rate=2e-2
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


@pytest.mark.slow
def test_trackers(make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    store = make_store(dictionary_tokens())
    train(store, tmp_path / "sae", replace(SHORT_TRAINING, images=320), track=["tensorboard", "wandb"])
    assert list((tmp_path / "sae" / "tensorboard").glob("events*"))
    assert list((tmp_path / "sae" / "wandb").glob("offline-run-*"))
    with pytest.raises(CytosaeError, match="choose from tensorboard, wandb"):
        train(store, tmp_path / "other", SHORT_TRAINING, track=["excel"])


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


def test_many_deaths_at_once_are_reported_and_the_checkpoint_before_is_kept(
    make_store: MakeStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, calm = make_store(dictionary_tokens()), replace(SHORT_TRAINING, dead_after_tokens=10 * 16 * 9)
    train(store, tmp_path / "calm", replace(calm, l1=1e-5))
    assert "of the latents were dead" not in capsys.readouterr().err
    assert not (tmp_path / "calm" / CHECKPOINT_BEFORE).exists()
    deadly = replace(calm, l1=3.0, learning_rate=2e-2)
    figures = train(store, tmp_path / "deadly", deadly, checkpoint_seconds=0)
    assert figures["dead"] > 0.3
    said = capsys.readouterr().err
    assert said.count("of the latents were dead") == 1
    state = new_state(deadly, 12, torch.device("cpu"))
    load_checkpoint(tmp_path / "deadly" / CHECKPOINT_BEFORE, state)
    assert f"dead at step {state.step:,}, " in said
    assert len(dead_latents(state, deadly)) / state.sae.n_latents < figures["dead"] - 0.1
    kept = (tmp_path / "deadly" / CHECKPOINT_BEFORE).read_bytes()
    train(store, tmp_path / "deadly", replace(deadly, images=2400), checkpoint_seconds=0)  # it goes on, and knows
    assert "of the latents were dead" not in capsys.readouterr().err
    assert (tmp_path / "deadly" / CHECKPOINT_BEFORE).read_bytes() == kept
