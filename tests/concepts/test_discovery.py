"""What a concept is: the paper's number for the paper's loss, and planted latents of every kind for the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cytosae.cohort import make_barcodes
from cytosae.concepts import encode, is_concept, means_by_rule, read_concepts, read_datasets, read_maps
from cytosae.concepts.discovery import concentration, papers_rule, why_no_concept
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.objectives import BatchTopK, ReLU
from cytosae.sae.objectives.base import Activation
from cytosae.sae.taught import WithTaught
from cytosae.settings import EncodeConfig
from support.planted import MakeStore

N_CELLS, N_TOKENS = 120, 9
KINDS = ["a few cells, all patches", "shuffled", "one patch of every cell", "five cells", "faint", "silent"]


def planted_tokens() -> torch.Tensor:
    """Tokens each of whose dimensions is one of `KINDS`."""
    rng = np.random.default_rng(0)
    x = np.zeros((N_CELLS, N_TOKENS, len(KINDS)), np.float32)
    x[:20, 1:, 0] = 1
    x[..., 1].reshape(-1)[rng.permutation(N_CELLS * N_TOKENS)[:160]] = 1  # as many tokens
    x[:, 4, 2] = 1
    x[:5, :, 3] = 1
    x[20:40, 1:, 4] = 0.001
    return torch.from_numpy(x)


def reading(activation: Activation) -> SAE:
    """An autoencoder whose latents are the dimensions."""
    sae = SAE(len(KINDS), len(KINDS), activation=activation).requires_grad_(False)
    sae.W_dec.copy_(torch.eye(len(KINDS)))
    sae.W_enc.copy_(torch.eye(len(KINDS)))
    return sae


def found(store: object, activation: Activation, folder: Path, **settings: object) -> dict[str, str | None]:
    """Why each of the planted latents is no concept."""
    figures = encode(store, reading(activation), folder, EncodeConfig(**settings))  # type: ignore[arg-type]
    data = read_concepts(folder, "blood")
    assert data.var["is_concept"].tolist() == data.var["not_concept"].isna().tolist()
    assert read_maps(folder, "blood")[0].tolist() == np.flatnonzero(data.var["is_concept"]).tolist()
    assert figures["blood"]["concepts"] == data.var["is_concept"].sum()
    assert sum(figures["blood"]["no_concepts"].values()) == (~data.var["is_concept"]).sum()
    assert read_datasets(folder)["blood"] == figures["blood"]
    reasons = data.var["not_concept"].astype(object)
    return dict(zip(KINDS, reasons.where(reasons.notna(), None), strict=True))


def test_the_papers_number_stays_what_it_is(golden: dict[str, np.ndarray]) -> None:
    mean = golden["mean_activation"]
    nothing = np.zeros(len(mean))
    by_mean = why_no_concept(mean, nothing, nothing, EncodeConfig(), mean_alone=True)
    assert by_mean.isna().sum() == 3801
    assert why_no_concept(mean, nothing, nothing, EncodeConfig(), mean_alone=False).isna().sum() == 0
    everything = np.full(len(mean), 1e9)
    assert why_no_concept(mean, everything, everything, EncodeConfig(), mean_alone=False).isna().sum() == 3801


def test_chance_is_that_of_shuffled_tokens() -> None:
    rng = np.random.default_rng(0)
    for active in (0.004, 0.2, 0.9):
        tokens = rng.random((30, 40)) < active * np.linspace(0, 2, 30)[:, None]
        shuffled = np.stack([rng.permuted(tokens.reshape(-1)).reshape(30, 40).sum(axis=1) for _ in range(4000)])
        counts = tokens.sum(axis=1)
        own = concentration([counts.sum()], [(counts**2).sum()], 30, 40)[0]
        assert own == pytest.approx(counts.var() / shuffled.var(axis=1).mean(), rel=0.03)
    assert np.isnan(concentration([0, 1200], [0, 30 * 1600], 30, 40)).all()


def test_one_vector_for_a_cell_is_not_asked_over_how_few_cells_it_lies() -> None:
    """A bag of vectors: the only patch is CLS too, so a count is 0 or 2 and the ratio never above 2."""
    shown = np.array([20, 5])
    ratio = concentration(2 * shown, 4 * shown, 120, 2)
    assert np.isnan(ratio).all()
    reasons = why_no_concept([1, 1], shown, ratio, EncodeConfig(), mean_alone=False)
    assert pd.isna(reasons[0])
    assert reasons[1] == "few cells"


def test_planted_latents_of_every_kind(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(planted_tokens(), dataset=["blood"] * N_CELLS, patient=[f"p{i % 4}" for i in range(N_CELLS)])
    dismissed = {
        "a few cells, all patches": None,
        "shuffled": "scattered",
        "one patch of every cell": "scattered",
        "five cells": "few cells",
        "faint": "weak",
        "silent": "weak",
    }
    assert found(store, BatchTopK(2), tmp_path / "batchtopk") == dismissed
    papers = {kind: why if why == "weak" else None for kind, why in dismissed.items()}
    assert found(store, BatchTopK(2), tmp_path / "paper", concept_rule="paper") == papers
    assert found(store, SAE(1, 1).activation, tmp_path / "relu") == papers
    assert found(store, SAE(1, 1).activation, tmp_path / "all", concept_rule="all") == dismissed
    few = found(store, BatchTopK(2), tmp_path / "few", concept_cells=5, concept_concentration=0.5)
    assert few == {**dismissed, "five cells": None, "shuffled": None}
    with pytest.raises(CytosaeError, match="--concept-cells"):
        EncodeConfig(concept_cells=0)
    for name, expected in (("batchtopk", dismissed), ("relu", papers)):
        path = tmp_path / f"{name}.h5ad"
        assert make_barcodes([tmp_path / name], path)["concepts"] == sum(why is None for why in expected.values())


@pytest.mark.parametrize("rule", ["auto", "paper"])
def test_concepts_at_other_thresholds_follow_the_rule_of_the_encoding(
    make_store: MakeStore, tmp_path: Path, rule: str
) -> None:
    """What a lower threshold finds is what an encoding with that threshold finds."""
    store = make_store(planted_tokens(), dataset=["blood"] * N_CELLS)
    config = EncodeConfig(concept_rule=rule)
    encode(store, reading(BatchTopK(2)), tmp_path / "usual", config)
    var = read_concepts(tmp_path / "usual", "blood", matrices=False).var
    for threshold in (-5.0, -3.0, -1.5):
        lower = replace(config, concept_threshold=threshold, threshold=0.0005)
        encode(store, reading(BatchTopK(2)), tmp_path / f"{threshold}", lower)
        expected = read_concepts(tmp_path / f"{threshold}", "blood", matrices=False).var
        found = means_by_rule(expected, lower, N_CELLS)
        assert is_concept(found, threshold).tolist() == expected["is_concept"].tolist()
    dismissed = [1, 2, 3] if rule == "auto" else []
    assert (
        np.flatnonzero((means_by_rule(var, config, N_CELLS) == 0) & (var["mean_activation"] > 0.01)).tolist()
        == dismissed
    )


def test_a_taught_latent_is_a_concept_however_few_show_it() -> None:
    taught = np.array([False, True, True])
    reasons = why_no_concept([1, 1, 1e-9], [3, 3, 3], [1.0, 1.0, 1.0], EncodeConfig(), mean_alone=taught)
    assert reasons.tolist()[0] == "few cells"
    assert pd.isna(reasons[1])
    assert reasons[2] == "weak"
    # The others keep the rule of their own loss.
    assert papers_rule(WithTaught(ReLU(), 2, 4), EncodeConfig())
    assert not papers_rule(WithTaught(BatchTopK(4, 2), 2, 4), EncodeConfig())
