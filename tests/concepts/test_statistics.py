"""Statistics of latents, against published figures and plain loops."""

from __future__ import annotations

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
    is_concept,
    label_entropy,
    mean_activation,
    reference_images,
)
from cytosae.sae import SAE
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
    sums = LatentSums.from_matrix(parts[0][1]) + LatentSums.from_matrix(parts[1][1])
    whole = LatentSums.from_matrix(sp.csr_matrix(dense))
    assert np.array_equal(sums.active, whole.active)
    np.testing.assert_allclose(sums.total, whole.total)
    merged = References.from_matrix(parts[0][1], 4, parts[0][0]).merge(
        References.from_matrix(parts[1][1], 4, parts[1][0])
    )
    expected = References.from_matrix(sp.csr_matrix(dense), 4)
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
