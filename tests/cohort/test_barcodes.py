"""Barcodes, folds, classifiers, comparisons and warnings: against loops by hand, scikit-learn, and planted truths."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import mannwhitneyu
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from cytosae.cohort import (
    BarcodeSums,
    Classifier,
    association,
    barcode_correlation,
    cell_scores,
    classification_task,
    cohort_warnings,
    compare,
    disease_barcodes,
    given_folds,
    make_barcodes,
    methods_figure,
    most_different,
    patient_tokens,
    predict_bags,
    read_barcodes,
    read_classifiers,
    read_methods,
    selected,
    strata_of,
    stratified_folds,
    sweep,
    trained,
    unusual,
    variance_between,
    write_classifiers,
)
from cytosae.cohort.cross_validation import cross_validate, figures, linear_predictor, shuffled_within
from cytosae.cohort.duplicates import shared_cells
from cytosae.cohort.linear import fit, penalty, threshold_products
from cytosae.cohort.multiple_instance import Bags
from cytosae.cohort.scores import calibration, class_scores, confusion, weighted_f1
from cytosae.concepts import read_activations, read_concepts, stream_concepts
from cytosae.errors import CytosaeError
from cytosae.report.barcodes import _alike_together
from cytosae.settings import BarcodeConfig
from cytosae.tokens import TokenStore
from support.cohorts import QUICK, cohort, encoded, people

# Barcodes


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
    sums = BarcodeSums.of(counts, means, patients, 3)
    np.testing.assert_allclose(sums.barcodes(), expected, rtol=1e-6)
    for p in range(3):
        mine = (h > tau).sum(axis=1)[patients == p]
        np.testing.assert_allclose(
            sums.standard_errors()[p],
            mine.std(axis=0, ddof=1) / np.sqrt(len(mine)) if len(mine) > 1 else mine[0],
            rtol=1e-5,
            atol=1e-6,
        )
    found = disease_barcodes(expected, diseases, 2)
    np.testing.assert_allclose(found[0], (expected[0] + expected[2]) / 2)
    np.testing.assert_allclose(found[1], expected[1])


def test_twice_the_cells_or_the_latents_leave_a_barcode_as_it_is() -> None:
    counts = sp.csr_matrix(np.array([[3, 0, 5], [1, 2, 0]]))
    once = BarcodeSums.of(counts, counts * 0.1, [0, 0], 1).barcodes()
    twice = BarcodeSums.of(
        sp.vstack([counts, counts], "csr"), sp.vstack([counts, counts], "csr"), [0] * 4, 1
    ).barcodes()
    wide = sp.hstack([counts, counts], "csr")
    np.testing.assert_array_equal(once, twice)
    np.testing.assert_array_equal(once, BarcodeSums.of(wide, wide, [0, 0], 1).barcodes()[:, :3])


@given(st.integers(0, 10**6), st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_sums_of_parts_add_up_in_any_order(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    counts = sp.csr_matrix(rng.poisson(0.5, (30, 5)))
    means = counts * 0.25
    patients = rng.integers(-1, 4, 30)
    whole = BarcodeSums.of(counts, means, patients, 4)
    a = BarcodeSums.of(counts[:cut], means[:cut], patients[:cut], 4)
    b = BarcodeSums.of(counts[cut:], means[cut:], patients[cut:], 4)
    for merged in (a + b, b + a):
        for name in ("n_cells", "counts", "squares", "total", "active"):
            np.testing.assert_allclose(getattr(merged, name), getattr(whole, name))


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


# The classifier


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_fit_is_scikit_learns(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    barcodes = rng.gamma(1, 2, (50, 300))
    target = np.arange(50) % n_classes
    barcodes[:, :5] += target[:, None]
    log_mean = rng.uniform(-7, 1, 300)
    train = np.arange(50) < 38
    targets = np.stack([target[train], rng.permutation(target[train])])
    products, kept = threshold_products(barcodes, log_mean, (-6, -3, 0))
    for t, threshold in enumerate((-6, -3, 0)):
        above = np.where(log_mean > threshold, barcodes, 0)
        assert kept[t] == (log_mean > threshold).sum()
        np.testing.assert_allclose(products[t], above @ above.T, rtol=1e-9)
        found = fit(products[t][np.ix_(train, train)], targets, n_classes, 1e-8)
        said = found.probabilities(products[t][np.ix_(~train, train)])
        for place, labels in enumerate(targets):
            c = penalty(n_classes, int(train.sum()))
            model = LogisticRegression(C=c, solver="newton-cg", tol=1e-9, max_iter=10_000).fit(above[train], labels)
            np.testing.assert_allclose(said[place], model.predict_proba(above[~train]), atol=2e-6)
            weights = found.weights(above[train])[place]
            mine = weights if n_classes > 2 else weights[1:] - weights[:1]
            np.testing.assert_allclose(mine, model.coef_, atol=1e-5)


def test_fit_of_alike_barcodes_and_of_one_class() -> None:
    alike = fit(np.ones((6, 6)), np.array([[0, 0, 0, 1, 1, 2]]), 4).probabilities(np.ones((1, 6)))
    np.testing.assert_allclose(alike[0, 0], [1 / 2, 1 / 3, 1 / 6, 0], atol=1e-12)
    one = fit(np.eye(6), np.array([[1] * 6]), 3).probabilities(np.ones((1, 6)))
    np.testing.assert_allclose(one[0, 0], [0, 1, 0], atol=1e-12)


def test_planted_classes_are_told_and_permuted_ones_are_not() -> None:
    task = classification_task(cohort(), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 2)
    found = sweep(task, folds, QUICK)
    told = figures(found.chosen, folds, task.classes, QUICK)
    assert told["weighted_f1"] > 0.9
    assert told["low"] < told["weighted_f1"] < told["high"] or told["high"] == told["weighted_f1"] == 1
    assert (found.null < 0.65).all()
    assert abs(found.null.mean() - 1 / 3) < 0.1
    wrong = task.target[np.random.default_rng(5).permutation(len(task.target))]
    permuted = sweep(replace(task, target=wrong), stratified_folds(wrong, task.patients, 4, 2), QUICK)
    low, high = np.quantile(permuted.null, (0.0, 1.0))
    assert low <= figures(permuted.chosen, folds, task.classes, QUICK)["weighted_f1"] <= high + 0.1
    # the sweep: what is above 10 has no latent left and tells nothing
    assert found.n_latents[0] == 400
    assert (np.diff(found.n_latents) <= 0).all()


def test_threshold_and_concepts_know_only_the_training_patients() -> None:
    """The images of test patients decide neither which latents are kept nor the threshold."""
    task = classification_task(cohort(signal=1.5), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 1)
    config = replace(QUICK, permutations=0)
    before = sweep(task, folds, config)
    inside = folds.fold_of[0] == 0
    other = task.data.copy()
    other.layers["mean_activation"][inside] *= np.random.default_rng(0).uniform(0, 1000, 400).astype(np.float32)
    other.obs.loc[inside, "n_cells"] = 5
    after = sweep(replace(task, data=other), folds, config)
    np.testing.assert_array_equal(before.chosen.probability[0, inside], after.chosen.probability[0, inside])
    assert before.choice[0, 0] == after.choice[0, 0]
    assert not np.array_equal(before.chosen.probability[0, ~inside], after.chosen.probability[0, ~inside])


def test_every_fold_is_predicted_by_a_model_that_does_not_know_its_labels() -> None:
    task = classification_task(cohort(), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 1)
    config = replace(QUICK, permutations=0)
    before = sweep(task, folds, config).chosen.probability[0]
    inside = np.flatnonzero(folds.fold_of[0] == 2)
    changed = task.target.copy()
    changed[inside] = np.roll(changed[inside], 1)
    after = sweep(replace(task, target=changed), folds, config).chosen.probability[0]
    np.testing.assert_array_equal(before[inside], after[inside])


def test_rows_of_a_patient_stay_together() -> None:
    target = np.repeat(np.arange(20) % 2, 2)
    patients = [f"P{i // 2}" for i in range(40)]
    folds = stratified_folds(target, patients, 5, 3, seed=1)
    for of in folds.fold_of:
        assert (of[::2] == of[1::2]).all()
        assert np.bincount(of).min() >= 6
    assert not np.array_equal(folds.fold_of[0], folds.fold_of[1])
    np.testing.assert_array_equal(folds.fold_of, stratified_folds(target, patients, 5, 3, seed=1).fold_of)


def test_folds_that_cannot_be() -> None:
    target = np.array([0, 0, 0, 1, 1, 1, 1])
    few = stratified_folds(target, list("abcdefg"), 5, 1)
    assert few.fold_of.max() == 2
    assert "3 patients" in few.caveats[0]
    column = pd.Series(["x", "x", "y", "y", "x", "y", None])
    with pytest.raises(CytosaeError, match="'a'"):
        given_folds(column, target, ["a", "b", "a", "d", "e", "f", "g"], "fold")
    with pytest.raises(CytosaeError, match="1 different"):
        given_folds(pd.Series(["x"] * 7), target, list("abcdefg"), "fold")
    given = given_folds(pd.Series(["x", "x", "x", "y", "y", "y", None]), target, list("abcdefg"), "site")
    np.testing.assert_array_equal(given.fold_of[0], [0, 0, 0, 1, 1, 1, -1])
    assert any("occur nowhere else" in caveat for caveat in given.caveats)
    assert any("not predicted" in caveat for caveat in given.caveats)


def test_permutations_keep_the_classes_of_every_fold() -> None:
    target, of = np.arange(30) % 3, np.arange(30) // 10
    drawn = shuffled_within(of, target, 50, 0)
    assert not np.array_equal(drawn[0], target)
    for row in drawn:
        for fold in range(3):
            np.testing.assert_array_equal(np.sort(row[of == fold]), np.sort(target[of == fold]))


def test_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 4, 80), rng.integers(0, 3, 80)  # the last class is never said
    counts = confusion(truth, said, 4)
    np.testing.assert_array_equal(counts, confusion_matrix(truth, said, labels=range(4)))
    assert weighted_f1(counts) == pytest.approx(f1_score(truth, said, average="weighted"))
    p, r, f, n = precision_recall_fscore_support(truth, said, labels=range(4), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), (p, r, f, n), strict=True):
        np.testing.assert_allclose(class_scores(counts)[name], values)
    weights = rng.integers(0, 3, (7, 80))
    for draw, found in zip(weights, confusion(truth, said, 4, weights), strict=True):
        np.testing.assert_array_equal(
            found, confusion_matrix(np.repeat(truth, draw), np.repeat(said, draw), labels=range(4))
        )


def test_calibration_of_honest_and_of_boastful_models() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 4000)
    truth = np.array([rng.choice(3, p=row) for row in p])
    honest = calibration(p, truth)
    assert honest["ece"] < 0.03
    sure = np.where(p == p.max(axis=1, keepdims=True), 0.98, 0.01)
    boastful = calibration(sure, truth)
    assert boastful["ece"] > 0.25
    assert boastful["log_loss"] > honest["log_loss"]
    assert boastful["brier"] > honest["brier"]
    assert sum(b["n"] for b in honest["bins"]) == 4000


def test_other_features_are_predicted_in_the_same_folds() -> None:
    task = classification_task(cohort(), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 2)
    answers = np.eye(3)[task.target] * 10
    assert cross_validate(linear_predictor(answers, task), task, folds).f1(50, 0).value == 1
    noise = np.random.default_rng(0).random((60, 8))
    assert cross_validate(linear_predictor(noise, task), task, folds).f1(50, 0).value < 0.6


# What stands in the way


def test_tasks_that_are_refused() -> None:
    data = cohort()
    with pytest.raises(CytosaeError, match="no column 'stage'"):
        classification_task(data, "stage")
    one = cohort(diagnosis=pd.Categorical(["AML"] * 60))
    with pytest.raises(CytosaeError, match=r"AML \(60\)"):
        classification_task(one, "diagnosis")
    with pytest.raises(CytosaeError, match="too many to be classes"):
        classification_task(cohort(code=pd.Categorical([f"c{i // 2}" for i in range(60)])), "code")
    few = ["AML"] * 25 + ["APL"] * 25 + ["rare"] + [None] * 9
    task = classification_task(cohort(diagnosis=pd.Categorical(few)), "diagnosis")
    assert len(task.target) == 50
    assert task.classes == ("AML", "APL")
    assert any("9 of 60" in text for text in task.caveats)
    assert any("rare" in text for text in task.caveats)
    small = classification_task(cohort(diagnosis=pd.Categorical(["AML"] * 3 + ["APL"] * 57)), "diagnosis")
    assert any("smallest class has 3" in text for text in small.caveats)
    alike = cohort()
    alike.X[:] = 1
    task = classification_task(alike, "diagnosis")
    assert any("alike" in text for text in task.caveats)
    folds = stratified_folds(task.target, task.patients, 4, 1)
    assert figures(sweep(task, folds, QUICK).chosen, folds, task.classes, QUICK)["weighted_f1"] < 0.5


def test_leaking_columns_are_reported_and_innocent_ones_are_not() -> None:
    diagnosis = cohort().obs["diagnosis"]
    assert cohort_warnings(cohort(), "diagnosis") == []
    width = np.where(diagnosis == "healthy", "360", "400")
    warnings = cohort_warnings(cohort(image_width=pd.Categorical(width)), "diagnosis")
    assert [(f.kind, f.figures["column"]) for f in warnings] == [("leak", "image_width")]
    scanner = np.where(diagnosis == "APL", "new", "old")
    warnings = cohort_warnings(
        cohort(scanner=pd.Categorical(scanner), sex=pd.Categorical(["m", "f", "f", "m"] * 15)), "diagnosis"
    )
    assert [(f.kind, f.figures["column"]) for f in warnings] == [("confounder", "scanner")]
    age = np.where(diagnosis == "healthy", 30, 60) + np.arange(60) % 7
    assert [f.figures["column"] for f in cohort_warnings(cohort(age=age), "diagnosis")] == ["age"]
    several = cohort(conflicting_diagnoses=pd.Categorical([*["AML | APL"], *[None] * 59]))
    assert [f.kind for f in cohort_warnings(several, "diagnosis")] == ["conflict"]
    twins = cohort(patient=pd.Categorical(["P0", "P0", *[f"P{i}" for i in range(2, 60)]]))
    assert "different people" in cohort_warnings(twins, "diagnosis")[0].text


def test_what_was_not_looked_for_is_said(make_store: Callable[..., TokenStore], tmp_path: Path, capsys: Any) -> None:
    concepts = encoded(make_store, "a", **people())
    figures = make_barcodes([concepts], tmp_path / "b.h5ad", BarcodeConfig(duplicates=False))
    assert figures["shared_cells"] is None
    assert "not looked for" in capsys.readouterr().err
    (warning,) = [
        one for one in cohort_warnings(read_barcodes(tmp_path / "b.h5ad"), "diagnosis") if one.kind == "not checked"
    ]
    assert "not looked for" in warning.text
    assert make_barcodes([concepts], tmp_path / "c.h5ad")["shared_cells"] is not None
    assert not [
        one for one in cohort_warnings(read_barcodes(tmp_path / "c.h5ad"), "diagnosis") if one.kind == "not checked"
    ]


def test_association_is_large_for_copies_and_nothing_for_noise() -> None:
    rng = np.random.default_rng(0)
    target = np.arange(90) % 3
    assert association(target, target)[0] == pytest.approx(1)
    v, p = association(rng.integers(0, 3, 90), target)
    assert v < 0.2
    assert p > 0.05
    assert association(np.zeros(90), target) == (0.0, 1.0)
    ps = [association(rng.integers(0, 4, 40), rng.integers(0, 3, 40), draws=200, seed=s)[1] for s in range(60)]
    assert 0.3 < np.mean(ps) < 0.7  # under no association p is uniform


def test_cells_of_two_patients_are_found_turned_resized_and_compressed(real_cells: Path, tmp_path: Path) -> None:
    """Among 300 real cells: four are given to a second patient as they are, turned, small, and as a poor JPEG."""
    cells = pd.read_csv(real_cells / "cells.csv")
    paths = [str(real_cells / path) for path in cells[cells["dataset"] == "pbc"]["path"].iloc[:2400:8]]
    copies = []
    for name, change in {
        "same.jpg": lambda image: image,
        "turned.png": lambda image: image.transpose(Image.Transpose.ROTATE_90),
        "small.png": lambda image: image.resize((150, 150)),
        "poor.jpg": lambda image: image,
    }.items():
        source = paths[len(copies) * 50]
        if name == "same.jpg":
            (tmp_path / name).write_bytes(Path(source).read_bytes())
        else:
            with Image.open(source) as image:
                change(image.convert("RGB")).save(tmp_path / name, **({"quality": 30} if name == "poor.jpg" else {}))
        copies.append(str(tmp_path / name))
    everything = [*paths, *copies]
    rng = np.random.default_rng(0)
    patients = [*[f"P{i}" for i in rng.integers(0, 12, len(paths))], *["other"] * 4]
    hashes = [str(Path(p).stat().st_size) + p if i < 300 else p for i, p in enumerate(everything)]
    hashes[300] = hashes[0]
    found = shared_cells(patients, everything, hashes, [f"c{i}" for i in range(304)])
    pairs = {frozenset((a, b)) for a, b in zip(found["cell"], found["other_cell"], strict=True)}
    assert pairs == {frozenset((f"c{50 * i}", f"c{300 + i}")) for i in range(4)}
    assert found["correlation"].min() > 0.98


# Two groups


def test_comparison_by_hand() -> None:
    rng = np.random.default_rng(0)
    barcodes = rng.gamma(1, 2, (30, 50)) * (rng.random(50) < 0.9)  # some latents nobody has
    first = np.arange(30) < 12
    barcodes[:, [7, 9]] = rng.gamma(1, 2, (30, 2))
    barcodes[first, 7] += 6
    barcodes[~first, 9] += 6
    table = compare(barcodes, first, draws=300, permutations=2000)
    a, b = barcodes[first], barcodes[~first]
    np.testing.assert_allclose(table["difference"], a.mean(0) - b.mean(0), atol=1e-5)
    pooled = np.sqrt((11 * a.var(0, ddof=1) + 17 * b.var(0, ddof=1)) / 28)
    varies = pooled > 0
    np.testing.assert_allclose(
        table["effect"][varies], ((a.mean(0) - b.mean(0)) / pooled * (1 - 3 / (4 * 28 - 1)))[varies], rtol=1e-4
    )
    for s in (0, 7, 9, 20):
        assert table["auroc"][s] == pytest.approx(mannwhitneyu(a[:, s], b[:, s]).statistic / (12 * 18))
    top, bottom = most_different(table, 5)
    assert top[0] == 7
    assert bottom[0] == 9
    assert table["fdr"][[7, 9]].max() < 0.05
    assert ((table["low"] <= table["difference"]) & (table["difference"] <= table["high"])).mean() > 0.95
    assert table["low"][7] > 0 > table["high"][9]
    assert table.loc[~varies | (table["prevalence"] < 0.1), "p"].isna().all()


def test_p_is_uniform_and_few_are_discovered_where_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    table = compare(rng.gamma(1, 2, (24, 2000)), np.arange(24) < 12, draws=20, permutations=500)
    assert abs(table["p"].mean() - 0.5) < 0.03
    assert abs((table["p"] < 0.05).mean() - 0.05) < 0.02
    assert (table["fdr"] < 0.1).sum() <= 2


def test_a_difference_between_laboratories_is_not_taken_for_one_between_groups() -> None:
    rng = np.random.default_rng(0)
    laboratory = np.arange(60) % 2
    first = rng.random(60) < np.where(laboratory == 0, 0.8, 0.2)
    barcodes = rng.normal(10, 1, (60, 40))
    barcodes[laboratory == 0, :20] += 3  # told by the laboratory
    barcodes[first, 30] += 3  # told by the group
    plain = compare(barcodes, first, draws=100, permutations=1000)
    adjusted = compare(barcodes, first, strata_of(pd.Series(laboratory), 60), draws=100, permutations=1000)
    assert (plain["fdr"][:20] < 0.05).mean() > 0.9
    assert (adjusted["fdr"][:20] < 0.05).mean() < 0.15
    assert adjusted["fdr"][30] < 0.05
    assert adjusted["auroc"][:20].mean() == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match="no stratum"):
        compare(barcodes, first, first.astype(int))


def test_numbers_are_cut_and_missing_is_a_stratum() -> None:
    ages = strata_of(pd.Series([20, 30, 40, 50, 60, 70, 80, 81, 82]), 9)
    np.testing.assert_array_equal(np.bincount(ages), [3, 3, 3])
    np.testing.assert_array_equal(strata_of(pd.Series(["a", None, "a", None]), 4), [0, 1, 0, 1])


# One patient


def test_unusual_concepts_are_found_and_flukes_are_not() -> None:
    rng = np.random.default_rng(0)
    n_cells, n_latents = 50, 300
    level = rng.gamma(1, 4, n_latents)

    def person(shift: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        own = np.maximum(level + rng.normal(0, 0.3, n_latents) * level + shift, 0)
        counts = rng.poisson(own, (n_cells, n_latents))
        return counts.mean(axis=0), counts.std(axis=0, ddof=1) / np.sqrt(n_cells)

    group, errors = (np.stack(part) for part in zip(*(person() for _ in range(12)), strict=True))
    found = [len(selected(unusual(*person(), group, errors), 300)) > 0 for _ in range(40)]
    assert np.mean(found) <= 0.2  # FDR 0.1
    shift = np.zeros(n_latents)
    shift[[3, 100, 250]] = 12 + 3 * level[[3, 100, 250]]
    table = unusual(*person(shift), group, errors)
    assert set(selected(table)) >= {3, 100, 250}
    assert (table["above"][[3, 100, 250]] == 0).all()
    # a concept that nobody in the group has, strong in one cell of the patient
    group[:, 5] = errors[:, 5] = 0
    counts = rng.poisson(level, (n_cells, n_latents))
    counts[:, 5] = 0
    counts[0, 5] = 80
    table = unusual(counts.mean(axis=0), counts.std(axis=0, ddof=1) / np.sqrt(n_cells), group, errors)
    assert table["patient"][5] > 1
    assert 5 not in selected(table)
    with pytest.raises(ValueError, match="2 patients"):
        unusual(table["patient"], table["scale"], group[:2], errors[:2])


def test_scores_of_cells_average_to_t() -> None:
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(2, (30, 20)))
    group = rng.gamma(2, 1, (8, 20))
    table = unusual(np.asarray(counts.mean(axis=0))[0], np.full(20, 0.3), group, np.full((8, 20), 0.3))
    parts = cell_scores(counts, table, [4, 11])
    np.testing.assert_allclose(parts.mean(axis=0), table["t"][[4, 11]])


def test_contributions_add_up_from_patches_to_the_logit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    task = classification_task(cohort(), "diagnosis")
    rows = np.arange(60) % 4 != 0
    model = trained(task, rows, -3.0)
    write_classifiers(tmp_path / "models.safetensors", [model, model])
    (_, model) = read_classifiers(tmp_path / "models.safetensors", task.classes)
    assert (model.weights[:, ~(task.log_mean(rows) > -3)] == 0).all()
    above = np.where(task.log_mean(rows) > -3, task.barcodes, 0)
    reference = LogisticRegression(C=penalty(3, 45), max_iter=10_000, tol=1e-7).fit(above[rows], task.target[rows])
    np.testing.assert_allclose(
        model.probabilities(task.barcodes[~rows]), reference.predict_proba(above[~rows]), atol=1e-2
    )
    active = rng.random((20, 17, 400)) < 0.2  # cells x tokens x latents
    counts = sp.csr_matrix(active.sum(axis=1))
    barcode = np.asarray(counts.mean(axis=0))[0]
    logits, middle = model.logits(barcode)[0], model.logits(model.centre)[0]
    for name in task.classes:
        c = model.classes.index(name)
        concepts = model.concept_contributions(barcode, name)
        expected = (logits[c] - logits.mean()) - (middle[c] - middle.mean())
        assert concepts.sum() == pytest.approx(expected, abs=1e-3)
        cells = model.cell_contributions(counts, name)
        assert cells.sum() == pytest.approx(expected, abs=1e-3)
        patches = model.patch_contributions(active[3], name)
        own = (patches.sum() - float(model.centre @ model.direction(name))) / 20
        assert own == pytest.approx(cells[3], abs=1e-4)
    with pytest.raises(CytosaeError, match="not readable"):
        read_classifiers(tmp_path / "none.safetensors", task.classes)
    assert isinstance(model, Classifier)


# The deep baseline


def test_attention_finds_the_one_cell_that_tells() -> None:
    rng = np.random.default_rng(0)
    target = np.arange(40) % 2
    bags, start = [], 0
    cells = []
    for label in target:
        own = rng.normal(0, 1, (30, 16)).astype(np.float32)
        if label:
            own[rng.choice(30, 2, replace=False), 3] += 6
        cells.append(own)
        bags.append(np.arange(start, start + 30))
        start += 30
    everything = Bags(np.concatenate(cells), bags)
    train = np.arange(40) < 28
    said = predict_bags(everything, target, train, ~train, 2)
    assert (said.argmax(axis=1) == target[~train]).mean() >= 0.9
    np.testing.assert_allclose(said.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(said, predict_bags(everything, target, train, ~train, 2))
    shuffled = rng.permutation(target)
    blind = predict_bags(everything, shuffled, train, ~train, 2)
    assert (blind.argmax(axis=1) == target[~train]).mean() < 0.9


def test_tokens_of_patients(make_store: Callable[..., TokenStore], tmp_path: Path) -> None:
    columns = people(dataset=["blood"] * 40)
    folder = encoded(make_store, "a", **columns)
    make_barcodes([folder], tmp_path / "b.h5ad")
    data = read_barcodes(tmp_path / "b.h5ad")
    store = TokenStore(folder.parent / "tokens")
    found = patient_tokens(store, data)
    tokens = store.read(np.arange(40)).float().numpy()
    for row, name in enumerate(data.obs_names):
        mine = store.cells["patient"].eq(name).to_numpy(bool)
        np.testing.assert_allclose(found.cls[row], tokens[mine, 0].mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.patches[row], tokens[mine, 1:].mean(axis=(0, 1)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.bags.cells[found.bags.rows[row]], tokens[mine, 0], rtol=1e-5)
    store.cells.loc[0, "patient"] = "somebody"
    with pytest.raises(CytosaeError, match="4 cells of P0, the barcode 5"):
        patient_tokens(store, data)


# What else divides the patients, and groups that are very small


def test_variance_between_groups_is_that_of_a_table_by_hand() -> None:
    barcodes = np.array([[0.0, 1], [2, 1], [10, 1], [12, 1], [50, 50]])
    between = variance_between(barcodes, np.array([0, 0, 1, 1, -1]))
    assert between == pytest.approx(100 / 104)  # within: 1 + 1 + 1 + 1, between: 4 x 5^2; unknown is left out
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(60, 500))
    assert variance_between(noise, np.arange(60) % 4) == pytest.approx(3 / 59, abs=0.01)
    assert np.isnan(variance_between(np.ones((4, 3)), np.array([0, 0, 1, 1])))


def test_alike_patients_of_a_group_stand_beside_each_other() -> None:
    rng = np.random.default_rng(0)
    stains = rng.normal(size=(2, 200))
    stain = np.array([0, 1, 0, 1, 0, 1, 1, 0, 1, 0])
    correlation = barcode_correlation(stains[stain] + 0.2 * rng.normal(size=(10, 200)))
    order = _alike_together(correlation, np.array([0, 1] * 5))
    assert sorted(order) == list(range(10))
    assert (order[:5] % 2 == 0).all()  # groups first
    for part in (stain[order[:5]], stain[order[5:]]):
        assert (np.diff(part) != 0).sum() == 1  # then one block for each stain


@pytest.mark.parametrize("labels", [["A"] * 2 + ["B"] * 40, ["A"] * 2 + ["B"] * 2 + ["C"] * 2, ["A"] * 3 + ["B"] * 2])
def test_two_patients_of_a_class_are_enough_for_a_figure_with_its_caveat(labels: list[str]) -> None:
    task = classification_task(cohort(n=len(labels), diagnosis=pd.Categorical(labels)), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 5, 2)
    assert folds.fold_of.max() == 1
    assert "smallest class has 2 patients: 2 folds" in folds.caveats[0]
    told = figures(sweep(task, folds, QUICK).chosen, folds, task.classes, QUICK)
    assert 0 <= told["weighted_f1"] <= 1


def test_a_threshold_for_unseen_laboratories_is_chosen_by_leaving_laboratories_out() -> None:
    """Weak latents are a shortcut that holds inside each laboratory and turns round in the next."""
    data = cohort(n=90, n_latents=60, signal=1.0)
    target = data.obs["diagnosis"].cat.codes.to_numpy()
    laboratory = (np.arange(90) // 3) % 3
    rng = np.random.default_rng(0)
    data.X[:] = rng.gamma(2, 1, data.X.shape)
    data.X[:, :6] += 30 * ((target + laboratory) % 3 == np.arange(6)[:, None] % 3).T
    data.X[:, 6:12] += 3 * (target == np.arange(6)[:, None] % 3).T
    data.layers["active_cells"][:] = 50
    data.layers["mean_activation"][:] = 10.0 ** np.where(np.arange(60) < 6, -3.5, 0.5)
    task = classification_task(data, "diagnosis")
    left_out = given_folds(task.data.obs["laboratory"].astype(str), task.target, task.patients, "laboratory")
    found = sweep(task, left_out, replace(QUICK, permutations=0))
    assert (found.choice > -3.5).all()
    assert figures(found.chosen, left_out, task.classes, QUICK)["weighted_f1"] > 0.7
    assert found.at[0].f1(0, 0).value < 0.3  # with the shortcut


def test_patients_of_two_data_sets_have_names_of_their_own() -> None:
    """Patient ``1`` of data set ``b@c`` is not patient ``1@b`` of data set ``c``."""
    from cytosae.cohort.aggregation import _with_dataset

    plain = pd.DataFrame({"patient": ["1", "1", "2"], "dataset": ["a", "b", "a"]})
    assert _with_dataset(plain).tolist() == ["1@a", "1@b", "2@a"]
    alike = pd.DataFrame({"patient": ["1", "1@b", "1\\"], "dataset": ["b@c", "c", "b@c"]})
    assert len(set(_with_dataset(alike))) == 3


def test_a_classification_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    rows = [{"contender": "barcodes", "value": 0.5}]
    (tmp_path / "classification.json").write_text(json.dumps({"contenders": rows}))
    (tmp_path / "contenders.png").touch()
    assert read_methods(tmp_path) == {"barcodes": rows[0]}
    assert methods_figure(tmp_path).name == "contenders.png"
    (tmp_path / "classification.json").write_text(json.dumps({"methods": [{"method": "barcodes", "value": 0.6}]}))
    (tmp_path / "methods.png").touch()
    assert read_methods(tmp_path)["barcodes"]["value"] == 0.6
    assert methods_figure(tmp_path).name == "methods.png"
