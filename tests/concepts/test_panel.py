"""The expert panel: drawn from published statistics, seeded, stratified; statistics of data sets side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans

from cytosae.concepts import (
    draw_panel,
    encode,
    expert_panel,
    joined_statistics,
    read_concepts,
    read_inputs,
    stratified_panel,
)
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.tokens import TokenStore


def test_published_statistics_give_fifty_latents_five_of_each_cluster(golden: dict[str, np.ndarray]) -> None:
    mean, frequency = golden["mean_activation"], golden["activation_frequency"]
    panel = expert_panel(mean, frequency)
    assert len(panel) == 50
    assert panel["latent"].is_unique
    assert panel.groupby("cluster").size().tolist() == [5] * 10
    assert (np.log10(mean[panel["latent"]]) > -3).all()
    np.testing.assert_array_equal(panel["mean_activation"], mean[panel["latent"]].astype(float))
    pd.testing.assert_frame_equal(panel, expert_panel(mean, frequency))
    assert set(expert_panel(mean, frequency, seed=1)["latent"]) != set(panel["latent"])
    centres = panel.groupby("cluster")["mean_activation"].mean()
    assert centres.iloc[-1] == centres.max()


def test_clusters_are_those_of_k_means(golden: dict[str, np.ndarray]) -> None:
    mean, frequency = golden["mean_activation"], golden["activation_frequency"]
    concepts = np.flatnonzero(mean > 1e-3)
    points = np.column_stack([mean, frequency]).astype(float)
    labels = KMeans(10, n_init=10, random_state=0).fit_predict(points[concepts])
    cluster_of = dict(zip(concepts, labels, strict=True))
    panel = expert_panel(mean, frequency)
    assert panel.groupby("cluster")["latent"].apply(lambda s: len({cluster_of[x] for x in s})).eq(1).all()


def test_too_few_concepts_and_small_clusters() -> None:
    with pytest.raises(ValueError, match="3 concepts do not make 4 clusters"):
        expert_panel([1, 1, 1, 0], [0.5, 0.4, 0.3, 0], clusters=4)
    panel = expert_panel([1, 1.1, 9, 0], [0.5, 0.5, 0.3, 0], clusters=2, per_cluster=5)
    assert panel["latent"].tolist() == [0, 1, 2]
    assert panel["cluster"].tolist() == [0, 0, 1]


def some_statistics(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"mean_activation": rng.random(400), "activation_frequency": rng.random(400)})


def test_every_data_set_has_its_panel_and_no_latent_is_asked_twice() -> None:
    panel = stratified_panel({"blood": some_statistics(0), "marrow": some_statistics(1)}, seed=2)
    assert panel["dataset"].value_counts().to_dict() == {"blood": 50, "marrow": 50}
    assert panel["latent"].is_unique
    assert (
        panel[panel["dataset"] == "blood"]["latent"].tolist()
        == expert_panel(some_statistics(0)["mean_activation"], some_statistics(0)["activation_frequency"], seed=2)[
            "latent"
        ].tolist()
    )


@pytest.fixture
def concepts(make_store: Callable[..., TokenStore], tmp_path: Path) -> Path:
    tokens = torch.randn(40, 7, 8, generator=torch.Generator().manual_seed(0))
    store = make_store(tokens, dataset=["blood"] * 22 + ["marrow"] * 18, label=["a", "b"] * 20)
    sae = SAE(8, 64)
    sae.initialise(torch.Generator().manual_seed(0))
    encode(store, sae, tmp_path / "concepts")
    with torch.no_grad():
        sae.b_enc[3] = 0.5
    encode(store, sae, tmp_path / "other")
    return tmp_path / "concepts"


def test_worklist_names_what_it_is_about_and_hides_the_clusters(concepts: Path, tmp_path: Path) -> None:
    found = draw_panel(concepts, tmp_path / "panel.json", clusters=4, per_cluster=3, seed=5)
    assert found["datasets"] == {"blood": 12, "marrow": 12}
    work = json.loads((tmp_path / "panel.json").read_text())
    assert work["format"] == "cytosae-worklist"
    assert work["inputs"]["sae"] == read_inputs(concepts)["sae"]
    assert work["parameters"]["seed"] == 5
    assert len({item["latent"] for item in work["items"]}) == 24
    order = [(item["dataset"], item["cluster"]) for item in work["items"]]
    assert order != sorted(order)
    before = (tmp_path / "panel.json").read_bytes()
    draw_panel(concepts, tmp_path / "panel.json", clusters=4, per_cluster=3, seed=5)
    assert (tmp_path / "panel.json").read_bytes() == before
    with pytest.raises(CytosaeError, match=r"not in .*blood, marrow"):
        draw_panel(concepts, tmp_path / "panel.json", datasets=["urine"])
    with pytest.raises(CytosaeError, match="--clusters"):
        draw_panel(concepts, tmp_path / "panel.json", clusters=60, per_cluster=3)
    assert (tmp_path / "panel.json").read_bytes() == before


def test_statistics_join_on_the_latent(concepts: Path) -> None:
    table = joined_statistics(concepts)
    assert len(table) == 64
    for name in ("blood", "marrow"):
        var = read_concepts(concepts, name).var
        for column in ("activation_frequency", "mean_activation", "label_entropy", "n_references", "is_concept"):
            np.testing.assert_array_equal(table[name, column], var[column])
    both = table["blood", "is_concept"].astype(int) + table["marrow", "is_concept"].astype(int)
    np.testing.assert_array_equal(table["all", "datasets"], both)


def test_latents_of_other_autoencoders_are_not_joined(concepts: Path) -> None:
    with pytest.raises(CytosaeError, match="another autoencoder"):
        joined_statistics(concepts, concepts.parent / "other")
    with pytest.raises(CytosaeError, match="in another of the folders"):
        joined_statistics(concepts, concepts)
