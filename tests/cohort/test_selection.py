"""Representation and penalty are chosen inside the training patients; the null repeats it and draws people."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold

from cytosae.cohort import (
    ClassificationTask,
    CountSums,
    Folds,
    Products,
    Representation,
    candidates,
    choose,
    chosen_predictions,
    classification_task,
    figures,
    given_folds,
    stratified_folds,
)
from cytosae.cohort.selection import STRENGTHS
from cytosae.errors import CytosaeError
from support.cohorts import QUICK, cohort

NO_NULL = replace(QUICK, permutations=0)
EVERYTHING = Products.from_barcodes


def chosen_of(task: ClassificationTask, folds: Folds, permutations: int = 0):  # type: ignore[no-untyped-def]
    products = EVERYTHING(task.data, candidates(QUICK))
    return chosen_predictions(task, folds, products, QUICK, permutations=permutations)


def test_planted_classes_are_predicted_and_permuted_ones_are_not() -> None:
    task = classification_task(cohort(), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 2)
    found = chosen_of(task, folds, 19)
    scores = figures(found.predictions, folds, task.classes, QUICK)
    assert scores["weighted_f1"] > 0.9
    assert scores["auroc"] > 0.95
    assert scores["low"] < scores["weighted_f1"] < scores["high"] or scores["high"] == 1
    assert (found.null < 0.65).all()
    assert abs(found.null.mean() - 1 / 3) < 0.1
    assert [len(choices) for choices in found.choices] == [4, 4]


def test_nothing_is_known_of_the_patients_that_are_predicted() -> None:
    """Neither labels nor barcodes of test patients change what is chosen, the scales of the blocks or the model."""
    task = classification_task(cohort(signal=1.5), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 1)
    before = chosen_of(task, folds)
    inside = np.flatnonzero(folds.row_folds[0] == 2)
    changed = task.target.copy()
    changed[inside] = np.roll(changed[inside], 1)
    after = chosen_of(replace(task, target=changed), folds)
    np.testing.assert_array_equal(before.predictions.probability[0, inside], after.predictions.probability[0, inside])
    assert before.choices[0][2] == after.choices[0][2]
    other = task.data.copy()
    other.X[inside[1:]] *= 3
    other.layers["top"][inside[1:]] = 0
    blocks = chosen_of(replace(task, data=other), folds).predictions
    np.testing.assert_allclose(
        before.predictions.probability[0, inside[0]], blocks.probability[0, inside[0]], rtol=1e-3, atol=1e-5
    )


def test_the_choice_is_that_of_a_plain_nested_loop_with_scikit_learn() -> None:
    data = cohort(n=40, n_latents=60, signal=1.6)
    noise = np.random.default_rng(0).gamma(1, 1, (3, *data.shape)).astype(np.float32)
    for values, added in zip((data.X, data.layers["share"], data.layers["top"]), noise, strict=True):
        values += added * 3 * values.std()
    task = classification_task(data, "diagnosis")
    kind, train = Representation("all", "log1p"), np.arange(40) % 5 != 0
    products = Products.from_barcodes(task.data, [kind])
    (choice,) = choose(task, products, train, task.target[None], QUICK, 3)
    scales = products.scales(kind, train)
    values = kind.values(task.data).astype(float) * np.array([[scales[block]] for block in kind.blocks])
    features = values.reshape(40, -1)
    own = features[train]
    assert ((own - own.mean(axis=0)) ** 2).sum(axis=1).mean() == pytest.approx(1, rel=1e-5)
    for block in np.split(own, 3, axis=1):
        assert ((block - block.mean(axis=0)) ** 2).sum(axis=1).mean() == pytest.approx(1 / 3, rel=1e-5)
    labels, groups = task.target[train], np.asarray(task.patients)[train]
    inner = list(StratifiedGroupKFold(3, shuffle=True, random_state=3).split(own, labels, groups))
    losses = []
    for strength in STRENGTHS:
        probability = np.zeros((len(own), 3))
        for fitted, test in inner:
            model = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000, solver="newton-cg")
            probability[test] = model.fit(own[fitted], labels[fitted]).predict_proba(own[test])
        losses.append(log_loss(labels, probability))
    assert choice.representation == kind
    assert losses[STRENGTHS.index(choice.strength)] == pytest.approx(min(losses), abs=1e-3)
    assert min(losses[0], losses[-1]) > min(losses) + 0.01  # not whatever


def test_settings_leave_open_what_is_chosen() -> None:
    assert candidates(replace(QUICK, features="top", transform="sqrt")) == [Representation("top", "sqrt")]
    assert [str(kind) for kind in candidates(QUICK)] == ["counts+share, log1p", "top, log1p", "strongest, log1p"]
    assert len(candidates(replace(QUICK, features="all", transform="choose"))) == 4
    with pytest.raises(CytosaeError, match="--features mean: unknown"):
        replace(QUICK, features="mean")


def test_barcodes_of_an_earlier_version_say_what_they_lack() -> None:
    task = classification_task(cohort(), "diagnosis")
    del task.data.layers["share"]
    Products.from_barcodes(task.data, [Representation("counts", "log1p")])
    with pytest.raises(CytosaeError, match="no block 'share'; make them again"):
        Products.from_barcodes(task.data, [Representation("all", "log1p")])


def test_what_serves_unseen_laboratories_is_chosen_by_leaving_laboratories_out() -> None:
    """Counts hold inside each laboratory and turn round in the next; the strongest cells hold everywhere."""
    data = cohort(n=90, n_latents=60)
    target = data.obs["diagnosis"].cat.codes.to_numpy()
    laboratory = (np.arange(90) // 3) % 3
    rng = np.random.default_rng(0)
    data.X[:] = rng.gamma(2, 1, data.X.shape)
    data.X[:, :6] += 30 * ((target + laboratory) % 3 == np.arange(6)[:, None] % 3).T
    data.layers["top"][:] = rng.gamma(2, 1, data.X.shape)
    data.layers["top"][:, :6] += 30 * (target == np.arange(6)[:, None] % 3).T
    data.layers["share"][:] = data.X
    task = classification_task(data, "diagnosis")
    left_out = given_folds(task.data.obs["laboratory"].astype(str), task.target, task.patients, "laboratory")
    found = chosen_of(task, left_out)
    assert {choice.representation.features for choice in found.choices[0]} == {"top"}
    assert found.predictions.f1(50, 0).value > 0.7
    fixed = replace(NO_NULL, features="counts")
    only_counts = chosen_predictions(task, left_out, Products.from_barcodes(task.data, candidates(fixed)), fixed)
    assert only_counts.predictions.f1(50, 0).value < 0.3


def twice(data: ad.AnnData) -> ad.AnnData:
    """Every patient in two data sets."""
    both = ad.concat([data, data], index_unique="-", keys=["a", "b"], uns_merge="first")
    both.obs["dataset"] = ["a"] * data.n_obs + ["b"] * data.n_obs
    return both


def test_a_patient_in_two_data_sets_is_one() -> None:
    """Labels say nothing of the barcodes: at 5 % about 5 % of the tests reject, also with every patient twice."""
    rejected = 0
    config = replace(NO_NULL, features="counts", transform="none", inner=2)
    for seed in range(50):
        data = twice(cohort(seed, n=18, n_latents=6))
        data.X[:] = np.tile(np.random.default_rng(seed).normal(size=(18, 6)), (2, 1))
        task = classification_task(data, "diagnosis")
        folds = stratified_folds(task.target, task.patients, 2, 1, seed)
        products = Products.from_barcodes(task.data, candidates(config))
        found = chosen_predictions(task, folds, products, replace(config, seed=seed), permutations=19)
        observed = found.predictions.f1(20, 0).value
        rejected += (1 + (found.null >= observed - 1e-9).sum()) / 20 <= 0.05
    assert rejected <= 7  # 2.5 are expected; with labels that are shuffled row by row it is about 14


def test_a_block_in_which_the_training_patients_do_not_differ_has_no_part() -> None:
    data, train = cohort(), np.arange(60) < 45
    data.layers["share"][:] = 0.3
    data.layers["share"][~train] = 0.9
    products = Products.from_barcodes(
        classification_task(data, "diagnosis").data, [Representation("counts+share", "none")]
    )
    scales = products.scales(Representation("counts+share", "none"), train)
    assert scales["share"] == 0 < scales["count"]


def test_a_mark_in_one_of_sixty_cells_is_found() -> None:
    """Ten latents of a rare structure, in one cell of half of the patients, among 400 that vary from patient to patient."""
    rng = np.random.default_rng(0)
    data = cohort(n=60, n_latents=400)
    marked = np.arange(60) % 2 == 0
    data.obs["group"] = pd.Categorical(np.where(marked, "marked", "others"))
    cells = rng.poisson(rng.gamma(4, 1, (60, 1, 400)), (60, 60, 400))
    cells[:, :, :10] = rng.binomial(1, 0.05, (60, 60, 10))
    cells[marked, 0, :10] = 20
    sums = CountSums.empty(60, 400)
    sums.add(sp.csr_matrix(cells.reshape(-1, 400)), np.repeat(np.arange(60), 60))
    data.X[:] = sums.barcodes()
    for name in ("share", "top"):
        data.layers[name] = sums.layers()[name]
    task = classification_task(data, "group")
    folds = stratified_folds(task.target, task.patients, 4, 1)
    areas = {}
    for features, transform in (("choose", "log1p"), ("counts", "none")):
        config = replace(NO_NULL, features=features, transform=transform)
        found = chosen_predictions(task, folds, Products.from_barcodes(task.data, candidates(config)), config)
        areas[features] = found.predictions.scores(20, 0)["auroc"].value
    assert areas["choose"] > 0.9
    assert areas["counts"] < 0.7


def test_baselines_choose_their_penalty_too() -> None:
    task = classification_task(cohort(), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 2)
    answers = np.eye(3)[task.target] * 10
    found = chosen_predictions(task, folds, Products.from_features(answers), NO_NULL)
    assert found.predictions.f1(50, 0).value == 1
    noise = np.random.default_rng(0).random((60, 8))
    assert chosen_predictions(task, folds, Products.from_features(noise), NO_NULL).predictions.f1(50, 0).value < 0.6
