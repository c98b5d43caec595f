"""Concepts: statistics against published figures and plain loops, encoding, maps."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cytosae.concepts import (
    LatentSums,
    References,
    activation_frequency,
    cell_activations,
    concept_maps,
    encode,
    is_concept,
    label_entropy,
    mean_activation,
    read_concepts,
    read_datasets,
    read_maps,
    reference_images,
)
from cytosae.concepts.storage import concept_files, read_activations, stream_concepts
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import EncodeConfig
from cytosae.tokens import TokenStore
from support.planted import MakeStore, live
from support.small_concepts import some_sae, some_tokens


def test_published_label_entropy_is_reproduced(golden: dict[str, np.ndarray]) -> None:
    found = label_entropy(golden["reference_values"], golden["reference_labels"])
    assert found.shape == (49152,)
    assert np.abs(found - golden["label_entropy"]).max() < 1e-5


def test_published_count_of_concepts_is_reproduced(golden: dict[str, np.ndarray]) -> None:
    assert is_concept(golden["mean_activation"]).sum() == 3801


def test_label_entropy_by_hand() -> None:
    values = np.array([[3.0, 1.0], [2.0, 2.0], [0.0, 0.0], [5.0, 1.0], [1.0, 7.0]])
    labels = np.array([[0, 1], [4, 4], [0, 1], [2, -1], [-1, -1]])
    expected = [-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), 0, np.nan, 0, np.nan]
    np.testing.assert_allclose(label_entropy(values, labels), expected, atol=1e-8)
    with pytest.raises(ValueError, match="must both be"):
        label_entropy(values, labels[:2])
    with pytest.raises(ValueError, match="negative"):
        label_entropy(-values, labels)


@settings(max_examples=50, deadline=None)
@given(
    values=hnp.arrays(np.float32, (6, 5), elements=st.floats(0, 9, width=32)),
    labels=hnp.arrays(np.int64, (6, 5), elements=st.integers(-1, 3)),
)
def test_label_entropy_equals_a_loop(values: np.ndarray, labels: np.ndarray) -> None:
    expected = []
    for row, codes in zip(values.astype(float), labels, strict=True):
        known = codes >= 0
        total = row[known].sum()
        shares = [row[codes == c].sum() / total for c in set(codes[known])] if total > 0 else []
        expected.append(-sum(p * np.log(p + 1e-9) for p in shares) if shares else np.nan)
    np.testing.assert_allclose(label_entropy(values, labels), expected, atol=1e-9)


sparse = hnp.arrays(np.float32, (13, 6), elements=st.sampled_from([0, 0, 0, 0.5, 1, 2, 3.25]))


@settings(max_examples=50, deadline=None)
@given(dense=sparse)
def test_statistics_equal_loops(dense: np.ndarray) -> None:
    matrix = sp.csr_matrix(dense)
    for s in range(6):
        column = dense[:, s]
        positive = column[column > 0].astype(float)
        assert activation_frequency(matrix)[s] == len(positive) / 13
        assert mean_activation(matrix)[s] == pytest.approx(positive.mean() if len(positive) else 0)
    references = reference_images(matrix, k=4)
    for s in range(6):
        ranked = sorted((i for i in range(13) if dense[i, s] > 0), key=lambda i: (-dense[i, s], i))[:4]
        assert references.cells[s].tolist() == ranked + [-1] * (4 - len(ranked))
        assert references.values[s].tolist() == [dense[i, s] for i in ranked] + [0.0] * (4 - len(ranked))


@settings(max_examples=50, deadline=None)
@given(dense=sparse, cut=st.integers(0, 13), turn=st.booleans())
def test_partial_results_merge_in_any_order(dense: np.ndarray, cut: int, turn: bool) -> None:
    parts = [(0, sp.csr_matrix(dense[:cut])), (cut, sp.csr_matrix(dense[cut:]))]
    if turn:
        parts.reverse()
    sums = LatentSums.of(parts[0][1]) + LatentSums.of(parts[1][1])
    whole = LatentSums.of(sp.csr_matrix(dense))
    assert np.array_equal(sums.active, whole.active)
    np.testing.assert_allclose(sums.total, whole.total)
    merged = References.of(parts[0][1], 4, parts[0][0]).merge(References.of(parts[1][1], 4, parts[1][0]))
    expected = References.of(sp.csr_matrix(dense), 4)
    assert np.array_equal(merged.cells, expected.cells)
    assert np.array_equal(merged.values, expected.values)


@pytest.mark.parametrize("max_elements", [1, 24 * 7 * 3, 1 << 26])
def test_counts_and_means_equal_a_loop(max_elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytosae.concepts.activations.MAX_ELEMENTS", max_elements)
    sae, tokens = some_sae(), some_tokens(10)
    counts, means = cell_activations(sae, tokens, threshold=0.2)
    with torch.no_grad():
        for i in range(10):
            h = sae.encode(tokens[i]).numpy()
            assert counts[i].toarray()[0].tolist() == (h > 0.2).sum(0).tolist()
            np.testing.assert_allclose(
                means[i].toarray()[0], h.sum(0) / 7, rtol=1e-5, atol=1e-6
            )  # all 7 tokens, CLS too
    assert counts.nnz < means.nnz < 240


def test_maps_begin_at_the_first_patch() -> None:
    """CLS is left out once: the map of a patch is where the patch is."""
    sae = SAE(3, 3)
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(3))
    tokens = torch.zeros(1, 7, 3)
    tokens[0, 0, 1] = 9  # CLS
    tokens[0, 1, 1] = 1  # first patch
    tokens[0, 6, 1] = 6  # last patch
    maps = concept_maps(sae, tokens, np.array([1, 2]), (2, 3))
    assert maps[0, 0].tolist() == [[1, 0, 0], [0, 0, 6]]
    assert not maps[0, 1].any()
    with pytest.raises(ValueError, match="7 tokens"):
        concept_maps(sae, tokens, np.array([1]), (2, 2))


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
