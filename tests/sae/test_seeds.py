"""Trainings from several initial weights: which latents come back, and the dictionary of those that do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cytosae.artefacts import Manifest
from cytosae.concepts import encode, read_concepts
from cytosae.errors import CytosaeError, Interrupted
from cytosae.sae import SAE, evaluate, joint, train, train_seeds
from cytosae.sae.matching import returning
from cytosae.sae.objectives import BatchTopK, Gated, JumpReLU, ReLU
from cytosae.sae.objectives.base import Activation
from cytosae.sae.seeds import pool
from cytosae.sae.trainer import split_rows
from cytosae.tokens import TokenStore
from support.planted import MakeStore
from support.training import SHORT_TRAINING, GivenFlag, StopAt, dictionary_tokens

CONFIG = replace(SHORT_TRAINING, seeds=3, images=6400)


@pytest.fixture
def store(make_store: MakeStore) -> TokenStore:
    return make_store(dictionary_tokens())


def test_latents_of_most_trainings_are_kept_once() -> None:
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((6, 64))

    def training(*numbers: int) -> np.ndarray:
        found = shared[list(numbers)] + 0.05 * rng.standard_normal((len(numbers), 64))
        return np.vstack([rng.standard_normal((4, 64)), found])

    # 0, 1 in all; 2, 3 in two; 4 in one; 5 in one, twice
    trainings = [training(0, 1, 2, 5, 5), training(3, 1, 0), training(4, 2, 0, 3, 1)]
    number, latent, found = returning(trainings)
    assert list(zip(number.tolist(), latent.tolist(), found.tolist(), strict=True)) == [
        (0, 4, 3),
        (0, 5, 3),
        (0, 6, 2),
        (1, 4, 2),
    ]
    assert len(returning(trainings[:1])[0]) == len(trainings[0])  # of one training everything is in most of them
    assert len(returning([shared, -shared])[0]) == 0


@pytest.mark.parametrize("activation", [ReLU(), BatchTopK(3), JumpReLU(0.1), Gated()], ids=lambda a: a.name)
def test_pooled_latents_are_as_active_as_in_their_own_autoencoders(activation: Activation) -> None:
    saes = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        sae = SAE(6, 10, activation=activation).requires_grad_(False)
        for name, values in sae.tensors().items():
            values.copy_(torch.randn(values.shape, generator=generator) * (0.3 if name == "log_threshold" else 1))
        saes.append(sae)
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(9))
    number, latent = np.array([0, 2, 1, 2, 0]), np.array([3, 3, 9, 0, 8])
    pooled = pool(saes, number, latent)
    own = torch.stack([saes[n].encode(x)[:, i] for n, i in zip(number, latent, strict=True)], dim=1)
    torch.testing.assert_close(pooled.encode(x), own, atol=1e-5, rtol=1e-5)
    assert (own > 0).any(dim=0).all()
    torch.testing.assert_close(pooled.W_dec[1], saes[2].W_dec[3])


def test_seeds_are_trained_together_and_pooled(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sae"
    with monkeypatch.context() as patched:
        patched.setattr(joint, "deferred_signals", lambda: GivenFlag(StopAt(30)))
        with pytest.raises(Interrupted):
            train_seeds(store, folder, CONFIG)
    assert not (folder / "model.safetensors").exists()
    with pytest.raises(CytosaeError, match="seeds 3 -> 2"):
        train_seeds(store, folder, replace(CONFIG, seeds=2))
    figures = train_seeds(store, folder, CONFIG)  # goes on
    assert {name: made["n_latents"] for name, made in figures["trainings"].items()} == dict.fromkeys("012", 48)
    assert 2 <= figures["n_latents"] < 48
    alone = train(store, tmp_path / "alone", replace(CONFIG, seeds=1, weights_draw=2))
    assert figures["trainings"]["2"]["explained_variance"] == pytest.approx(alone["explained_variance"], abs=1e-3)

    saes = [SAE.from_pretrained(folder / "seeds" / name) for name in "012"]
    assert not np.allclose(saes[0].W_dec.detach(), saes[1].W_dec.detach(), atol=0.1)
    table = pd.read_parquet(folder / "reproducibility.parquet")
    kept = table[table["pooled"] >= 0].sort_values("pooled")
    assert kept["pooled"].tolist() == list(range(figures["n_latents"]))
    assert (kept["share"] >= 0.5).all()  # one of the other two
    pooled = SAE.from_pretrained(folder)
    for row in kept.itertuples():
        assert torch.equal(pooled.W_dec[row.pooled], saes[row.training].W_dec[row.latent])
    chance = table["share"].mean()
    assert 0.1 < chance == figures["reproducibility"] < 1
    measured = evaluate(pooled, store.stream([split_rows(store, CONFIG)[1]]), "release")
    assert figures["explained_variance"] == pytest.approx(measured["explained_variance"], abs=1e-5)
    found_in = pooled.metadata["pooled"]["found_in"]
    assert (sum(found_in), sum(found_in[:2])) == (figures["n_latents"], 0)

    before = (folder / "model.safetensors").read_bytes()
    assert train_seeds(store, folder, CONFIG) == figures
    assert (folder / "model.safetensors").read_bytes() == before
    encode(store, pooled, tmp_path / "concepts")
    names = list(Manifest.load(tmp_path / "concepts").summary["files"])  # type: ignore[union-attr]
    var = read_concepts(tmp_path / "concepts", names[0], matrices=False).var
    assert len(var) == figures["n_latents"]
    np.testing.assert_allclose(var["reproducibility"], kept["share"], atol=1e-6)


def test_what_is_pooled_is_not_replaced_unasked(store: TokenStore, tmp_path: Path) -> None:
    short = replace(CONFIG, images=1600)
    folder = tmp_path / "sae"
    train_seeds(store, folder, short)
    with pytest.raises(CytosaeError, match="seeds 3 -> 1"):
        train(store, folder, replace(short, seeds=1))
    with pytest.raises(CytosaeError, match="l1"):
        train_seeds(store, folder, replace(short, l1=0.5))
    assert train_seeds(store, folder, replace(short, images=3200))["steps"] == 200  # goes on
    kept = [train_seeds(store, folder, replace(short, images=3200, seeds_cosine=c))["n_latents"] for c in (0.7, 0.4)]
    assert kept[0] < kept[1]
    train_seeds(store, folder, replace(short, seeds=2), restart=True)
    (former,) = (folder / "former").iterdir()
    assert (former / "seeds" / "2" / "model.safetensors").is_file()
    assert not (folder / "seeds" / "2").exists()
    with pytest.raises(CytosaeError, match="--track"):
        train_seeds(store, folder, short, track=("tensorboard",))
    with pytest.raises(CytosaeError, match="--seeds 3"):
        train(store, tmp_path / "other", short)
