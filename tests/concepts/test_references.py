"""Reference images: strongest, of many patients, at random and around quantiles; parts merge to the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import kstest

from cytosae.concepts import ReferenceImages, References, encode, read_concepts, reference_images
from cytosae.concepts.references import LOW, MIDDLE, SAMPLE
from cytosae.sae import SAE
from cytosae.tokens import TokenStore

dense = hnp.arrays(np.float32, (17, 5), elements=st.sampled_from([0, 0, 0, 0.5, 1, 2, 3.25]))
owners = hnp.arrays(np.int64, 17, elements=st.integers(-1, 3))


def ranked(column: np.ndarray) -> list[int]:
    return sorted((i for i in range(len(column)) if column[i] > 0), key=lambda i: (-column[i], i))


@settings(max_examples=60, deadline=None)
@given(dense=dense, patients=owners, limit=st.integers(0, 3), k=st.integers(1, 6))
def test_lists_equal_a_loop(dense: np.ndarray, patients: np.ndarray, limit: int, k: int) -> None:
    found = References.from_matrix(sp.csr_matrix(dense), k, patients=patients, per_patient=limit)
    for s in range(5):
        expected: list[int] = []
        for i in ranked(dense[:, s]):
            same = sum(patients[j] == patients[i] for j in expected)
            if not limit or patients[i] < 0 or same < limit:
                expected.append(i)
        expected = expected[:k]
        assert found.cells[s].tolist() == expected + [-1] * (k - len(expected))
        assert found.values[s].tolist() == [dense[i, s] for i in expected] + [0.0] * (k - len(expected))


@settings(max_examples=60, deadline=None)
@given(
    dense=dense,
    patients=owners,
    cuts=st.lists(st.integers(0, 17), min_size=2, max_size=2).map(sorted),
    order=st.permutations([0, 1, 2]),
    left=st.booleans(),
)
def test_parts_merge_in_any_order_and_grouping(
    dense: np.ndarray, patients: np.ndarray, cuts: list[int], order: list[int], left: bool
) -> None:
    def gallery(first: int, last: int) -> ReferenceImages:
        matrix = sp.csr_matrix(dense[first:last])
        return ReferenceImages.from_matrix(matrix, 3, first, patients=patients[first:last], per_patient=1, seed=4)

    edges = [0, *cuts, 17]
    a, b, c = (gallery(edges[i], edges[i + 1]) for i in order)
    merged = a.merge(b).merge(c) if left else a.merge(b.merge(c))
    for kind, expected in gallery(0, 17).kinds().items():
        found = merged.kinds()[kind]
        assert np.array_equal(found.cells, expected.cells), kind
        assert np.array_equal(found.values, expected.values), kind


def test_random_and_quantile_references_are_what_they_say() -> None:
    """Over many latents: a draw without preference, and values around the quantile."""
    rng = np.random.default_rng(0)
    values = (1 - rng.random((1000, 300))).astype(np.float32)  # above 0, uniform
    gallery = ReferenceImages.from_matrix(
        sp.csr_matrix(values), 10, 0, patients=np.full(1000, -1), per_patient=0, seed=0
    )
    assert gallery.sample.cells.shape == (300, SAMPLE)
    kinds = gallery.kinds()
    assert set(kinds) == {"reference", "random", "middle", "low"}
    assert (kinds["reference"].values > 0.97).all()
    assert kstest(kinds["random"].values.ravel(), "uniform").pvalue > 0.01
    assert kstest(kinds["random"].cells.ravel() / 1000, "uniform").pvalue > 0.01
    assert abs(kinds["middle"].values.mean() - MIDDLE) < 0.02
    assert abs(kinds["low"].values.mean() - LOW) < 0.02
    for lists in kinds.values():
        assert (np.diff(lists.values, axis=1) <= 0).all()
        for s in (0, 7):
            assert np.array_equal(lists.values[s], values[lists.cells[s], s])
    other = ReferenceImages.from_matrix(
        sp.csr_matrix(values), 10, 0, patients=np.full(1000, -1), per_patient=0, seed=1
    ).kinds()
    assert not np.array_equal(other["random"].cells, kinds["random"].cells)
    assert np.array_equal(other["reference"].cells, kinds["reference"].cells)


def test_few_activating_cells_are_all_shown_once() -> None:
    matrix = sp.csr_matrix(np.array([[3.0, 0], [1, 0], [2, 0]], dtype=np.float32))
    for kind, lists in (
        ReferenceImages.from_matrix(matrix, 4, 0, patients=np.zeros(3), per_patient=1, seed=0).kinds().items()
    ):
        assert lists.cells[0].tolist() == ([0, -1, -1, -1] if kind == "spread" else [0, 2, 1, -1]), kind
        assert lists.cells[1].tolist() == [-1] * 4
        assert lists.values[1].tolist() == [0.0] * 4


def test_lists_of_other_kinds_are_not_merged() -> None:
    matrix = sp.csr_matrix(np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match="same length"):
        reference_images(matrix, 2).merge(reference_images(matrix, 3))


def test_encoded_data_set_keeps_all_kinds(make_store: Callable[..., TokenStore], tmp_path: Path) -> None:
    tokens = torch.randn(40, 7, 8, generator=torch.Generator().manual_seed(0))
    store = make_store(tokens, patient=["a"] * 20 + ["b"] * 15 + [None] * 5)
    sae = SAE(8, 24)
    sae.initialise(torch.Generator().manual_seed(0))
    encode(store, sae, tmp_path / "concepts")
    data = read_concepts(tmp_path / "concepts", store.cells["dataset"].iloc[0])
    means = data.layers["mean_activation"].toarray()
    for kind in ("reference", "spread", "random", "middle", "low"):
        cells, values = data.varm[f"{kind}_cells"], data.varm[f"{kind}_values"]
        for s in range(24):
            known = cells[s] >= 0
            assert np.array_equal(values[s][known], means[cells[s][known], s]), kind
    patients = data.obs["patient"].astype(object)
    for row in data.varm["spread_cells"]:
        whose = patients.iloc[row[row >= 0]].dropna()
        assert whose.is_unique
