"""Quality measures: against loops, against scikit-learn, on planted truth; and that nothing rewards a cheat."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from cytosae.concepts import quality as q
from cytosae.sae import SAE, evaluate


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Halves and intervals


def test_halves_keep_patients_whole() -> None:
    groups = np.repeat(np.arange(20), rng().integers(1, 30, 20))
    side = q.halves(len(groups), groups, seed=3)
    assert all(len(set(side[groups == g])) == 1 for g in range(20))
    assert 0.35 < side.mean() < 0.65
    assert np.array_equal(side, q.halves(len(groups), groups, seed=3))
    assert not np.array_equal(side, q.halves(len(groups), groups, seed=4))
    assert q.halves(101).sum() in (50, 51)


def test_cells_of_unknown_patients_stand_alone() -> None:
    codes = q.group_codes(6, [0, 0, 1, -1, -1, 1])
    assert codes[0] == codes[1]
    assert codes[2] == codes[5]
    assert len(set(codes)) == 4


def test_bootstrap_draws_patients_not_cells() -> None:
    codes = np.repeat(np.arange(5), 4)
    weights = q.bootstrap_weights(codes, 50, 0)
    assert weights.shape == (50, 20)
    assert (weights.sum(axis=1) == 20).all()
    assert (weights.reshape(50, 5, 4) == weights.reshape(50, 5, 4)[:, :, :1]).all()


def test_interval_of_a_mean_covers_as_often_as_it_says() -> None:
    hits = 0
    for trial in range(200):
        estimate = q.Estimate.mean(rng(trial).standard_normal(60), 200, trial)
        hits += estimate.low <= 0 <= estimate.high
    assert 0.88 <= hits / 200 <= 0.99


# Area under the ROC curve, and the best score


@settings(max_examples=40, deadline=None)
@given(
    scores=hnp.arrays(np.float32, (40, 3), elements=st.sampled_from([0, 0, 0.5, 1, 2])),
    truth=hnp.arrays(bool, (40, 2)),
    seed=st.integers(0, 99),
)
def test_auroc_equals_scikit_learn_with_ties_and_weights(scores: np.ndarray, truth: np.ndarray, seed: int) -> None:
    areas = q.auroc(scores, truth)
    np.testing.assert_allclose(q.auroc(sp.csr_matrix(scores), truth), areas)
    weights = q.bootstrap_weights(np.arange(40), 3, seed)
    for t in range(2):
        if truth[:, t].all() or not truth[:, t].any():
            assert np.isnan(areas[:, t]).all()
            continue
        for s in range(3):
            assert areas[s, t] == pytest.approx(roc_auc_score(truth[:, t], scores[:, s]))
            for draw, value in zip(weights, q.auroc_draws(scores[:, s], truth[:, t], weights), strict=True):
                kept = truth[:, t][draw > 0]
                if kept.all() or not kept.any():
                    assert np.isnan(value)
                else:
                    expected = roc_auc_score(truth[:, t], scores[:, s], sample_weight=draw)
                    assert value == pytest.approx(expected, abs=1e-6)


def cheats(truth: np.ndarray, choosing: np.ndarray) -> np.ndarray:
    """Scores that no measure may reward: constant ones, and the answers themselves on the choosing cells alone."""
    leaking = np.where(choosing, truth, rng(7).random(len(truth)))
    return np.column_stack([np.ones(len(truth)), np.zeros(len(truth)), leaking]).astype(np.float32)


def test_best_score_is_judged_on_other_cells() -> None:
    truth = rng().random(4000) < 0.3
    choosing = q.halves(4000)
    honest = np.where(truth, rng(1).normal(1, 1, 4000), rng(2).normal(0, 1, 4000))
    found = q.align(honest[:, None], truth[:, None], choosing)
    assert found.best.tolist() == [0]
    assert found.area[0] == pytest.approx(0.76, abs=0.03)  # of normal distributions one deviation apart
    mean = found.mean()
    assert mean.low < found.area[0] < mean.high
    assert 0.01 < mean.high - mean.low < 0.06


def test_constant_and_leaking_scores_are_not_rewarded_by_alignment() -> None:
    truth = rng().random(4000) < 0.3
    choosing = q.halves(4000)
    scores = cheats(truth, choosing)
    found = q.align(scores, truth[:, None], choosing)
    assert found.best.tolist() == [2]  # perfect where it was chosen
    assert found.area[0] == pytest.approx(0.5, abs=0.04)
    assert q.align(scores[:, :2], truth[:, None], choosing).area[0] == 0.5


def test_a_truth_that_one_side_lacks_has_no_figure() -> None:
    truth = np.zeros((20, 1), bool)
    choosing = np.arange(20) % 2 == 0
    truth[0] = truth[2] = True
    found = q.align(rng().random((20, 2)), truth, choosing)
    assert found.best.tolist() == [-1]
    assert np.isnan(found.area[0])
    assert np.isnan(found.mean().value)


# k-sparse probes


def test_probes_need_as_many_features_as_the_label_has() -> None:
    x = rng().standard_normal((3000, 30)).astype(np.float32)
    labels = (x[:, 3] + x[:, 11] + x[:, 20] > 0).astype(int)
    found = q.sparse_probes(x, labels, q.halves(3000), (1, 3, q.ALL))
    assert found[1].value == pytest.approx(0.8, abs=0.05)
    assert found[3].value > 0.99
    assert found[q.ALL].value > 0.98
    assert found[1].low < found[1].value < found[1].high


def test_constant_and_leaking_features_are_not_rewarded_by_probes() -> None:
    labels = rng().integers(0, 2, 3000)
    choosing = q.halves(3000)
    features = cheats(labels == 1, choosing)
    for columns in ([0], [1], [0, 1]):
        assert q.sparse_probes(features[:, columns], labels, choosing, (1,))[1].value == 0.5
    assert q.sparse_probes(features, labels, choosing, (1,))[1].value == pytest.approx(0.5, abs=0.05)


def test_probes_leave_out_unknown_and_rare_labels() -> None:
    x = rng().standard_normal((400, 4)).astype(np.float32)
    labels = np.where(x[:, 0] > 0, 0, 1)
    labels[:3] = 2
    hidden = np.where(np.arange(400) % 3 == 0, -1, labels)
    found = q.sparse_probes(x, hidden, q.halves(400), (1,))[1]
    assert found.value > 0.97
    assert np.isnan(q.sparse_probes(x, np.full(400, -1), q.halves(400), (1,))[1].value)


# Monosemanticity


@settings(max_examples=30, deadline=None)
@given(
    dense=hnp.arrays(np.float32, (9, 4), elements=st.sampled_from([0, 0, 0.5, 1, 3])),
    embeddings=hnp.arrays(np.float64, (9, 3), elements=st.floats(-1, 1)),
)
def test_monosemanticity_equals_a_loop_over_pairs(dense: np.ndarray, embeddings: np.ndarray) -> None:
    found = q.monosemanticity(sp.csr_matrix(dense), embeddings)
    e = embeddings - embeddings.mean(0)
    e /= np.maximum(np.linalg.norm(e, axis=1, keepdims=True), 1e-12)
    for s in range(4):
        m = dense[:, s].astype(float)
        if np.ptp(m) == 0:
            assert np.isnan(found[s])
            continue
        m = (m - m.min()) / np.ptp(m)
        pairs = [(i, j) for i in range(9) for j in range(i)]
        weight = sum(m[i] * m[j] for i, j in pairs)
        if weight == 0:
            assert np.isnan(found[s])
        else:
            assert found[s] == pytest.approx(sum(m[i] * m[j] * (e[i] @ e[j]) for i, j in pairs) / weight, abs=1e-6)


def test_monosemanticity_tells_one_kind_of_image_from_any() -> None:
    kind = np.repeat(np.arange(4), 50)
    embeddings = rng().standard_normal((4, 16))[kind] + 0.3 * rng(1).standard_normal((200, 16))
    one = (kind == 2) * 1.0
    scores = np.column_stack([one, rng(2).random(200) < 0.25, np.full(200, 0.7), np.zeros(200)])
    found = q.monosemanticity(sp.csr_matrix(scores), embeddings)
    assert found[0] > 0.8
    assert abs(found[1]) < 0.1
    assert np.isnan(found[2:]).all()


# Directions


def test_directions_found_again_and_gathered() -> None:
    d = rng().standard_normal((40, 16)).astype(np.float32)
    order = rng(1).permutation(40)
    np.testing.assert_allclose(q.best_cosines(d, 3 * d[order]), 1, atol=1e-5)
    np.testing.assert_allclose(q.matched_cosines(d, d[order]), 1, atol=1e-5)
    gathered = d[[0] * 40] + 1e-3 * rng(2).standard_normal((40, 16)).astype(np.float32)
    assert q.best_cosines(gathered, d).mean() > 0.99
    assert q.matched_cosines(gathered, d).mean() < 0.5  # one to one: gathering gains nothing
    random = rng(3).standard_normal((40, 16))
    assert q.best_cosines(d, random).mean() < 0.75
    expected = [max(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for b in random) for a in d]
    np.testing.assert_allclose(q.best_cosines(d, random), expected, atol=1e-5)


def test_a_latent_comes_back_where_both_are_nearest() -> None:
    d = rng(1).standard_normal((30, 64)).astype(np.float32)
    noisy = d + 0.3 * rng(2).standard_normal(d.shape)  # cosine 0.96
    lost = noisy.copy()
    lost[:10] = rng(3).standard_normal((10, 64))
    gathered = np.repeat(d[:1], 5, axis=0) + 0.1 * rng(4).standard_normal((5, 64))
    cosine, share = q.reproducibility(d, [noisy, lost[::-1]])
    assert share[:10] == pytest.approx(np.full(10, 0.5))
    assert share[10:] == pytest.approx(np.ones(20))
    assert (cosine[10:] > 0.9).all()
    assert (cosine[:10] < 0.85).all()
    _, share = q.reproducibility(gathered, [d])  # five that gather around one: one of them comes back
    assert share.sum() == 1
    assert q.reproducibility(d, [noisy], above=0.99)[1].max() == 0


def test_planted_twins_are_one_group() -> None:
    d = np.eye(12, dtype=np.float32)
    d[5] = d[2] + 0.1 * d[7]
    d[9] = d[2]
    groups = q.redundancy_groups(d, 0.9)
    assert groups[2] == groups[5] == groups[9]
    assert len(set(groups)) == 10
    assert len(set(q.redundancy_groups(np.eye(3)))) == 3


# Maps


def test_coherence_by_a_loop_and_at_its_ends() -> None:
    noise = rng().random((16, 16))
    z = noise - noise.mean()
    pairs = [((r, c), (r + a, c + b)) for r in range(16) for c in range(16) for a, b in ((0, 1), (1, 0))]
    pairs = [(p, o) for p, o in pairs if max(o) < 16]
    expected = 256 / len(pairs) * sum(z[p] * z[o] for p, o in pairs) / (z**2).sum()
    assert q.spatial_coherence(noise) == pytest.approx(expected)
    blob = np.zeros((16, 16))
    blob[4:10, 5:12] = 3
    board = np.indices((16, 16)).sum(0) % 2
    found = q.spatial_coherence(np.stack([blob, board, np.ones((16, 16)), np.zeros((16, 16))]))
    assert found[0] > 0.8
    assert found[1] == pytest.approx(-1)
    assert np.isnan(found[2:]).all()


# Absorption


@pytest.mark.parametrize("absorbing", [False, True])
def test_planted_absorption_is_found(absorbing: bool) -> None:
    """A label's latent is silent on 30 % of its cells, where special ones carry its direction; or it never is."""
    n, d, special = 6000, 24, 12
    directions = np.eye(d, dtype=np.float32)
    directions[1 : 1 + special] = directions[0] * 0.8 + directions[1 : 1 + special] * 0.6  # they contain the label
    positive = rng().random(n) < 0.4
    m = np.abs(rng(2).normal(0, 0.05, (n, d))).astype(np.float32)
    m[:, : 1 + special] = 0
    m[positive, 0] = 1
    if absorbing:  # each speaks for a fortieth of the label's cells, too few to be one of its own
        which = rng(1).integers(0, 40, n)
        for number in range(special):
            cells = positive & (which == number)
            m[cells, 0], m[cells, 1 + number] = 0, 1.3
    found = q.absorption(m, m @ directions, directions, positive, q.halves(n))
    assert found is not None
    assert found.own.tolist() == [0]
    assert found.cells > 600
    if absorbing:
        assert found.rate == pytest.approx(0.3, abs=0.05)
    else:
        assert (found.missed, found.rate) == (0, 0)


def test_absorption_needs_cells() -> None:
    assert (
        q.absorption(np.ones((12, 3)), np.ones((12, 3)), np.eye(3), np.arange(12) < 3, np.arange(12) % 2 == 0) is None
    )


# Consistency


def test_consistent_latents_prefer_the_same_labels() -> None:
    labels = np.array(["a", "b", "c", "d"] * 50, dtype=object)
    level = rng().random((4, 6))
    codes = np.arange(200) % 4
    blood = level[codes] + 0.05 * rng(1).random((200, 6))
    marrow = 2 * level[codes] + 0.05 * rng(2).random((200, 6))
    marrow[:, 5] = 1 - level[codes][:, 5]  # turned round
    marrow[:, 4] = 0  # silent there
    profiles = {
        name: q.label_profiles(sp.csr_matrix(x), labels, ["a", "b", "c", "d"])
        for name, x in (("blood", blood), ("marrow", marrow))
    }
    np.testing.assert_allclose(profiles["blood"][1], blood[labels == "b"].mean(0))
    found = q.consistency(profiles)
    assert (found[:4] > 0.95).all()
    assert np.isnan(found[4])
    assert found[5] < -0.95
    assert np.nanmean(q.consistency(profiles, shift=1)) < 0.7


def test_column_correlation_equals_numpy() -> None:
    a, b = rng().random((30, 4)), rng(1).random((30, 4))
    b[:, 3] = 1
    found = q.column_correlation(a, b)
    np.testing.assert_allclose(found[:3], [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)])
    assert np.isnan(found[3])


# Reconstruction and the backbone's output


def some_sae(d: int = 8, s: int = 24) -> SAE:
    sae = SAE(d, s)
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.b_enc[s // 2 :] = -1.0
    return sae


def test_reconstruction_figures_equal_those_of_training() -> None:
    sae = some_sae()
    tokens = torch.randn(20, 7, 8, generator=torch.Generator().manual_seed(1))
    found = q.reconstruct(sae, tokens.split(6), tokens.mean(dim=(0, 1)))
    expected = evaluate(sae, [tokens], "squared")
    estimates = found.estimates()
    assert estimates["explained variance"].value == pytest.approx(expected["explained_variance"], abs=1e-6)
    assert estimates["L0"].value == pytest.approx(expected["l0"])
    assert estimates["L0"].low < expected["l0"] < estimates["L0"].high
    with torch.no_grad():
        h = sae.encode(tokens.flatten(0, 1))
    np.testing.assert_allclose(found.frequency, (h > 0).double().mean(0))


def test_mean_predictor_explains_nothing_and_shrinkage_is_seen() -> None:
    tokens = torch.randn(20, 7, 4, generator=torch.Generator().manual_seed(1)) + 5
    mean = tokens.mean(dim=(0, 1))
    sae = SAE(4, 8)
    with torch.no_grad():
        sae.b_dec.copy_(mean)
        silent = q.reconstruct(sae, [tokens], mean).estimates()["explained variance"]
        assert silent.value == pytest.approx(0, abs=1e-6)
        eye = torch.cat([torch.eye(4), -torch.eye(4)])
        sae.W_dec.copy_(eye)
        for scale in (1.0, 0.7):
            sae.W_enc.copy_(scale * eye.T)
            estimates = q.reconstruct(sae, [tokens], mean).estimates()
            assert estimates["relative reconstruction bias"].value == pytest.approx(scale, abs=1e-5)
            assert estimates["explained variance"].value == pytest.approx(1 - (1 - scale) ** 2, abs=1e-5)


def test_one_concept_is_changed_and_nothing_else() -> None:
    sae = some_sae()
    tokens = torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output, h = sae(tokens)
        torch.testing.assert_close(q.reconstructed(sae, tokens), output, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(q.changed(sae, tokens, 2, 1.0), tokens)
        removed = q.changed(sae, tokens, 2, 0.0)
        torch.testing.assert_close(tokens - removed, h[..., 2:3] * sae.W_dec[2])
        tripled = q.changed(sae, tokens, 2, 3.0)
        torch.testing.assert_close(tripled - tokens, 2 * h[..., 2:3] * sae.W_dec[2])
    pooled = q.pooled_output(lambda x: 2 * x, tokens)
    np.testing.assert_allclose(pooled[:, :8], 2 * tokens[:, 0])
    np.testing.assert_allclose(pooled[:, 8:], 2 * tokens[:, 1:].mean(1), rtol=1e-5)


def test_probe_on_the_output_counts_labels_alike() -> None:
    labels = np.repeat([0, 1, 2], [300, 60, 40])
    outputs = rng().standard_normal((3, 6))[labels].astype(np.float32) + 0.8 * rng(1).standard_normal((400, 6)).astype(
        np.float32
    )
    probe = q.OutputProbe.fit(outputs[::2], labels[::2])
    found = probe.balanced_accuracy(outputs[1::2], labels[1::2])
    predicted = probe.probabilities(outputs[1::2]).argmax(1)
    assert found.value == pytest.approx(balanced_accuracy_score(labels[1::2], predicted))
    assert found.low < found.value < found.high
    blind = probe.balanced_accuracy(np.zeros((200, 6), np.float32), labels[1::2])
    assert blind.value == pytest.approx(1 / 3)  # always the same answer
