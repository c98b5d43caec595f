"""Encoding of data sets: counts, maps, and what is refused."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from cytosae.concepts import encode, read_concepts, read_datasets, read_maps
from cytosae.concepts.storage import concept_files, read_activations, stream_concepts
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import EncodeConfig
from cytosae.tokens import TokenStore
from support.planted import MakeStore, live
from support.small_concepts import some_sae, some_tokens


@pytest.fixture
def encoded(make_store: MakeStore, tmp_path: Path) -> tuple[TokenStore, SAE, Path]:
    datasets = ["marrow"] * 23 + ["blood / day 2"] * 17
    labels = [("blast", "monocyte", None)[i % 3] for i in range(40)]
    store = make_store(some_tokens(), dataset=datasets, label=labels, ward=["x"] * 40)
    encode(store, sae := some_sae(), tmp_path / "concepts")
    return store, sae, tmp_path / "concepts"


def test_encoded_data_sets_hold_what_the_definitions_say(encoded: tuple[TokenStore, SAE, Path]) -> None:
    store, sae, folder = encoded
    assert list(read_datasets(folder)) == ["marrow", "blood / day 2"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "blood-day-2.h5ad",
        "blood-day-2.maps.safetensors",
        "cytosae-files.json",
        "manifest.json",
        "marrow.h5ad",
        "marrow.maps.safetensors",
    ]
    with torch.no_grad():
        h = sae.encode(some_tokens().flatten(0, 1)).reshape(40, 7, 24).numpy()
    for dataset, rows in (("marrow", np.arange(23)), ("blood / day 2", np.arange(23, 40))):
        data = read_concepts(folder, dataset)
        assert data.obs_names.tolist() == store.cells["cell_id"][rows].tolist()
        assert (data.obs["ward"] == "x").all()
        mine = h[rows]
        np.testing.assert_array_equal(data.X.toarray(), (mine > 0.2).sum(1))
        np.testing.assert_allclose(data.layers["mean_activation"].toarray(), mine.mean(1), rtol=1e-5, atol=1e-6)
        m = data.layers["mean_activation"].toarray()
        np.testing.assert_allclose(data.var["activation_frequency"], (m > 0).mean(0))
        assert data.var["mean_activation"].iloc[-1] == 0
        assert np.isnan(data.var["label_entropy"].iloc[-1])
        patches = mine[:, 1:].astype(np.float64)
        with np.errstate(invalid="ignore"):
            share = patches.mean(0).var(0) / patches.reshape(-1, 24).var(0)
        np.testing.assert_allclose(data.var["position_share"], share, rtol=1e-4)
        assert data.var["n_references"].iloc[-1] == 0
        assert not data.var["is_concept"].iloc[-1]
        cells = data.varm["reference_cells"]
        assert cells.shape == (24, 10)
        np.testing.assert_array_equal(cells[0], np.argsort(-m[:, 0], kind="stable")[:10])
        latents, maps = read_maps(folder, dataset)
        assert latents.tolist() == np.flatnonzero(data.var["is_concept"]).tolist()
        assert maps.shape == (len(latents), 10, 2, 3)
        for row, latent in enumerate(latents):
            for rank, cell in enumerate(cells[latent]):
                expected = mine[cell, 1:, latent].reshape(2, 3) if cell >= 0 else np.zeros((2, 3))
                np.testing.assert_allclose(maps[row, rank], expected, rtol=2e-3, atol=1e-3)
        about = data.uns["cytosae"]
        assert about["parameters"]["threshold"] == 0.2
        assert about["inputs"]["tokens"] == store.fingerprint
        assert about["cytosae"]


def test_activation_by_label_is_that_of_its_cells(encoded: tuple[TokenStore, SAE, Path]) -> None:
    _, _, folder = encoded
    for dataset in read_datasets(folder):
        data = read_concepts(folder, dataset)
        names, cells = (data.uns["groups"]["label"][key] for key in ("names", "cells"))
        means = data.layers["mean_activation"].toarray()
        assert set(names) == set(data.obs["label"].dropna())
        for place, name in enumerate(names):
            mine = (data.obs["label"] == name).to_numpy()
            assert cells[place] == mine.sum()
            np.testing.assert_allclose(data.varm["label_mean"][:, place], means[mine].mean(axis=0), rtol=1e-5)
            np.testing.assert_allclose(
                data.varm["label_frequency"][:, place], (means[mine] > 0).mean(axis=0), rtol=1e-6
            )


def test_file_is_an_anndata_like_any_other(encoded: tuple[TokenStore, SAE, Path], tmp_path: Path) -> None:
    data = ad.read_h5ad(encoded[2] / "marrow.h5ad")
    data.write_h5ad(tmp_path / "again.h5ad")
    assert sp.issparse(data.X)
    assert data.X.format == "csr"
    assert data.obs["label"].isna().sum() == 7
    assert data[data.obs["label"] == "blast"].n_obs == 8


def test_encoding_on_the_fly_gives_the_same_files(encoded: tuple[TokenStore, SAE, Path], tmp_path: Path) -> None:
    store, sae, folder = encoded
    source = live(some_tokens(), tmp_path / "images")
    source.cells = store.cells
    encode(source, sae, tmp_path / "live")  # type: ignore[arg-type]
    for dataset in ("marrow", "blood / day 2"):
        a, b = read_concepts(folder, dataset), read_concepts(tmp_path / "live", dataset)
        assert (a.X != b.X).nnz == 0
        assert (a.layers["mean_activation"] != b.layers["mean_activation"]).nnz == 0
        assert np.array_equal(read_maps(folder, dataset)[1], read_maps(tmp_path / "live", dataset)[1])


def test_thresholds_are_settings(encoded: tuple[TokenStore, SAE, Path], tmp_path: Path) -> None:
    store, sae, folder = encoded
    encode(store, sae, tmp_path / "other", EncodeConfig(threshold=1.0, references=3, concept_threshold=-0.5))
    a, b = read_concepts(folder, "marrow"), read_concepts(tmp_path / "other", "marrow")
    assert b.X.sum() < a.X.sum()
    assert b.varm["reference_cells"].shape == (24, 3)
    assert b.var["is_concept"].sum() == (np.log10(a.var["mean_activation"].clip(1e-9)) > -0.5).sum()
    with pytest.raises(CytosaeError, match="--references"):
        EncodeConfig(references=0)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("fingerprint", "other", "come from backbone"), ("layer", 0, "come from layer 2 of 3.* on layer 1 of 3")],
)
def test_tokens_of_another_backbone_or_layer_are_refused(
    key: str, value: object, words: str, make_store: MakeStore, tmp_path: Path
) -> None:
    store, sae = make_store(some_tokens()), some_sae()
    sae.metadata["backbone"] = {**store.layout.backbone, key: value}
    with pytest.raises(CytosaeError, match=words):
        encode(store, sae, tmp_path / "concepts")
    assert not (tmp_path / "concepts").exists()


def test_tokens_of_another_width_are_refused(make_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match=r"8 wide.*takes 5"):
        encode(make_store(some_tokens()), some_sae(d=5), tmp_path / "concepts")


def test_nan_in_tokens_stops_the_encoding(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(some_tokens())
    store.verify = lambda: None  # type: ignore[method-assign]  # written so, not damaged later
    path = store.folder / "shard-00002.safetensors"
    data = bytearray(path.read_bytes())
    data[-2:] = np.array([np.inf], dtype=np.float16).tobytes()
    path.write_bytes(data)
    with pytest.raises(CytosaeError, match="NaN or infinite"):
        encode(store, some_sae(), tmp_path / "concepts")
    assert not (tmp_path / "concepts" / "manifest.json").exists()


def test_a_column_that_is_not_there_is_refused_before_it_is_used(encoded: tuple[TokenStore, SAE, Path]) -> None:
    _, _, folder = encoded
    dataset = next(iter(read_datasets(folder)))
    path, _ = concept_files(folder, dataset)
    with h5py.File(path, "r+") as file:
        file["layers/mean_activation/indices"][5] = 1 << 30
    for read in (
        lambda: read_concepts(folder, dataset),
        lambda: list(stream_concepts(folder, dataset)),
        lambda: read_activations(folder, dataset, np.arange(10)),
    ):
        with pytest.raises(CytosaeError, match=rf"{path.name}: not a readable AnnData"):
            read()
    assert read_concepts(folder, dataset, matrices=False).n_vars == 24


def test_damaged_maps_and_a_damaged_manifest_are_named(encoded: tuple[TokenStore, SAE, Path]) -> None:
    _, _, folder = encoded
    dataset = next(iter(read_datasets(folder)))
    _, maps = concept_files(folder, dataset)
    maps.write_bytes(maps.read_bytes().replace(b'"maps"', b'"mbps"'))
    with pytest.raises(CytosaeError, match=rf"{maps.name}: not readable"):
        read_maps(folder, dataset)
    manifest, good = folder / "manifest.json", (folder / "manifest.json").read_text()
    for word in ("datasets", "files", "sae"):
        manifest.write_text(good.replace(f'"{word}"', f'"x{word}"'))
        with pytest.raises(CytosaeError, match=r"manifest\.json: damaged"):
            read_concepts(folder, dataset)
        manifest.write_text(good.replace('"digest"', '"of_another_version"').replace(f'"{word}"', f'"x{word}"'))
        with pytest.raises(CytosaeError, match=r"manifest\.json: (damaged|not a manifest)"):
            read_concepts(folder, dataset)


def test_no_concepts_there(tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match="no finished concepts"):
        read_datasets(tmp_path)
