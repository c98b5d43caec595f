"""Barcodes: against loops by hand, and streamed from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from cytosae.cohort import BarcodeSums, barcode_correlation, disease_barcodes, make_barcodes, read_barcodes
from cytosae.concepts import read_activations, read_concepts, stream_concepts
from cytosae.errors import CytosaeError
from cytosae.settings import BarcodeConfig
from cytosae.tokens import TokenStore
from support.cohorts import encoded, people


def test_a_barcode_by_hand() -> None:
    """Eq. 2 and 3 written plainly, on activations of single patches."""
    rng = np.random.default_rng(0)
    h = rng.exponential(0.2, (9, 17, 6)) * (rng.random((9, 17, 6)) < 0.4)  # cells x patches x latents
    patients = np.array([2, 0, 0, 1, 2, 2, 0, -1, 2])
    diseases = np.array([0, 1, 0])
    tau = 0.2
    expected = np.zeros((3, 6))
    for p in range(3):
        images = [i for i in range(9) if patients[i] == p]
        for s in range(6):
            total = 0
            for i in images:
                for j in range(17):
                    total += 1 if h[i, j, s] > tau else 0
            expected[p, s] = total / len(images)
    counts, means = sp.csr_matrix((h > tau).sum(axis=1)), sp.csr_matrix(h.mean(axis=1))
    sums = BarcodeSums.from_cells(counts, means, patients, 3)
    np.testing.assert_allclose(sums.counts.barcodes(), expected, rtol=1e-6)
    for p in range(3):
        mine = (h > tau).sum(axis=1)[patients == p]
        np.testing.assert_allclose(
            sums.counts.layers()["standard_error"][p],
            mine.std(axis=0, ddof=1) / np.sqrt(len(mine)) if len(mine) > 1 else mine[0],
            rtol=1e-5,
            atol=1e-6,
        )
    found = disease_barcodes(expected, diseases, 2)
    np.testing.assert_allclose(found[0], (expected[0] + expected[2]) / 2)
    np.testing.assert_allclose(found[1], expected[1])


def test_twice_the_cells_or_the_latents_leave_a_barcode_as_it_is() -> None:
    counts = sp.csr_matrix(np.array([[3, 0, 5], [1, 2, 0]]))
    doubled, wide = sp.vstack([counts, counts], "csr"), sp.hstack([counts, counts], "csr")
    once = BarcodeSums.from_cells(counts, counts * 0.1, [0, 0], 1).counts.barcodes()
    twice = BarcodeSums.from_cells(doubled, doubled, [0] * 4, 1).counts.barcodes()
    np.testing.assert_array_equal(once, twice)
    np.testing.assert_array_equal(once, BarcodeSums.from_cells(wide, wide, [0, 0], 1).counts.barcodes()[:, :3])


@given(st.integers(0, 10**6), st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_sums_of_parts_add_up_in_any_order(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    counts = sp.csr_matrix(rng.poisson(0.5, (30, 5)))
    means = counts * 0.25
    patients = rng.integers(-1, 4, 30)
    whole = BarcodeSums.from_cells(counts, means, patients, 4)
    a = BarcodeSums.from_cells(counts[:cut], means[:cut], patients[:cut], 4)
    b = BarcodeSums.from_cells(counts[cut:], means[cut:], patients[cut:], 4)
    for merged in (a + b, b + a):
        for name in ("n_cells", "total", "active"):
            np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
        for name in ("n_cells", "powers", "shown", "largest"):
            np.testing.assert_array_equal(getattr(merged.counts, name), getattr(whole.counts, name))


def test_correlation_is_numpys_and_nan_where_a_barcode_is_constant() -> None:
    barcodes = np.random.default_rng(0).random((5, 40))
    np.testing.assert_allclose(barcode_correlation(barcodes), np.corrcoef(barcodes), atol=1e-12)
    barcodes[2] = 3
    found = barcode_correlation(barcodes)
    assert np.isnan(found[2]).all()
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(np.delete(np.delete(found, 2, 0), 2, 1)).all()


def test_barcodes_streamed_from_files_are_those_of_the_whole_matrix(
    make_store: Callable[..., TokenStore], tmp_path: Path
) -> None:
    first = encoded(
        make_store, "a", 0, **people(dataset=["blood"] * 25 + ["marrow"] * 15, age=[30 + i % 8 for i in range(40)])
    )
    second = encoded(make_store, "b", 1, **people(dataset=["abroad"] * 40, patient=["P0"] * 20 + ["Q"] * 20))
    result = make_barcodes([first, second], tmp_path / "b.h5ad")
    data = read_barcodes(tmp_path / "b.h5ad")
    assert result["rows"] == data.n_obs == 8 + 8 + 2
    assert result["patients"] == 9
    assert result["cells"] == 80
    for row, name in enumerate(data.obs_names):
        patient, dataset = name.split("@")
        whole = read_concepts(second if dataset == "abroad" else first, dataset)
        mine = (whole.obs["patient"] == patient).to_numpy()
        np.testing.assert_allclose(data[name].X[0], whole.X[mine].toarray().mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(
            data[name].layers["mean_activation"][0],
            whole.layers["mean_activation"][mine].toarray().mean(axis=0),
            rtol=1e-5,
        )
        assert data.obs.loc[name, "n_cells"] == mine.sum()
        labels = whole.obs["label"][mine].value_counts(normalize=True)
        shares = dict(zip(data.uns["cell_types"], data.obsm["cell_types"][row], strict=True))
        assert {k: v for k, v in shares.items() if v} == pytest.approx({k: v for k, v in labels.items() if v})
    diagnoses = data.obs["diagnosis"].cat.categories
    for place, disease in enumerate(diagnoses):
        chosen = (data.obs["diagnosis"] == disease).to_numpy()
        np.testing.assert_allclose(data.varm["disease_barcodes"][:, place], data.X[chosen].mean(axis=0), rtol=1e-5)
    assert data.obs["age"].notna().sum() == 16  # known in one of the folders
    assert {"image_width", "image_format"} <= set(data.obs)
    again = make_barcodes([first, second], tmp_path / "again.h5ad")
    assert (tmp_path / "again.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()
    assert again | {"barcodes": ""} == result | {"barcodes": ""}


def test_pieces_of_concept_files(make_store: Callable[..., TokenStore]) -> None:
    folder = encoded(make_store, "a", **people(dataset=["blood"] * 40))
    whole = read_concepts(folder, "blood")
    parts = list(stream_concepts(folder, "blood", 7))
    assert [start for start, _, _ in parts] == list(range(0, 40, 7))
    assert (sp.vstack([counts for _, counts, _ in parts]) != whole.X).nnz == 0
    rows, latents = np.array([31, 2, 2, 17]), np.array([5, 1])
    counts, means = read_activations(folder, "blood", rows, latents, cells=6)
    np.testing.assert_array_equal(counts.toarray(), whole.X[rows].toarray()[:, latents])
    np.testing.assert_array_equal(means.toarray(), whole.layers["mean_activation"][rows].toarray()[:, latents])
    assert read_activations(folder, "blood", [], latents)[0].shape == (0, 2)


def test_barcodes_of_cell_types(make_store: Callable[..., TokenStore], tmp_path: Path) -> None:
    folder = encoded(make_store, "a", **people(dataset=["blood"] * 40))
    make_barcodes([folder], tmp_path / "b.h5ad", BarcodeConfig(by_cell_type=True))
    data = read_barcodes(tmp_path / "b.h5ad", "blast")
    whole = read_concepts(folder, "blood")
    for name in data.obs_names:
        mine = ((whole.obs["patient"] == name) & (whole.obs["label"] == "blast")).to_numpy()
        np.testing.assert_allclose(data[name].X[0], whole.X[mine].toarray().mean(axis=0), rtol=1e-6)
    with pytest.raises(CytosaeError, match="blast, monocyte"):
        read_barcodes(tmp_path / "b.h5ad")
    make_barcodes([folder], tmp_path / "whole.h5ad")
    with pytest.raises(CytosaeError, match="--by-cell-type"):
        read_barcodes(tmp_path / "whole.h5ad", "blast")


def test_what_is_no_barcode(make_store: Callable[..., TokenStore], tmp_path: Path) -> None:
    nobody = encoded(make_store, "a", dataset=["blood"] * 40)
    with pytest.raises(CytosaeError, match="'patient'"):
        make_barcodes([nobody], tmp_path / "b.h5ad")
    some = encoded(make_store, "b", **people(dataset=["x"] * 40, patient=[None] * 10 + ["P"] * 30))
    assert make_barcodes([some], tmp_path / "b.h5ad")["cells_left_out"] == 10
    with pytest.raises(CytosaeError, match="--dataset nowhere"):
        make_barcodes([some], tmp_path / "b.h5ad", datasets=["nowhere"])
    with pytest.raises(CytosaeError, match="another of the folders"):
        make_barcodes([some, some], tmp_path / "b.h5ad")
    with pytest.raises(CytosaeError, match="no such file"):
        read_barcodes(tmp_path / "none.h5ad")
    (tmp_path / "text.h5ad").write_text("no")
    with pytest.raises(CytosaeError, match="not a readable"):
        read_barcodes(tmp_path / "text.h5ad")
    with pytest.raises(CytosaeError, match="holds no barcodes"):
        read_barcodes(some / "x.h5ad")


def test_patients_of_two_data_sets_have_names_of_their_own() -> None:
    """Patient ``1`` of data set ``b@c`` is not patient ``1@b`` of data set ``c``."""
    from cytosae.cohort.aggregation import _with_dataset

    plain = pd.DataFrame({"patient": ["1", "1", "2"], "dataset": ["a", "b", "a"]})
    assert _with_dataset(plain).tolist() == ["1@a", "1@b", "2@a"]
    alike = pd.DataFrame({"patient": ["1", "1@b", "1\\"], "dataset": ["b@c", "c", "b@c"]})
    assert len(set(_with_dataset(alike))) == 3
