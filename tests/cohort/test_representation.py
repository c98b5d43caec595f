"""Log-ratios: what changes all concepts of a patient alike has no part in them, and new patients need no centring."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

from cytosae.cohort import (
    Choice,
    Products,
    Representation,
    candidates,
    chosen_predictions,
    classification_task,
    given_folds,
    only,
    trained,
    transformed,
)
from cytosae.settings import CHOOSE
from support.cohorts import QUICK, cohort

KIND = Representation("counts+share", "log-ratio")


def stained() -> ad.AnnData:
    """Patients of whom each class raises more of the concepts; three laboratories, that multiply all 1 + counts alike."""
    data, rng = cohort(n=90, n_latents=40), np.random.default_rng(4)
    target, laboratory = (data.obs[name].cat.codes.to_numpy() for name in ("diagnosis", "laboratory"))
    logs = rng.normal(3, 0.4, data.shape) + 0.5 * (np.arange(40) < 5 * target[:, None])
    data.X = np.expm1((logs + 1.0 * (laboratory[:, None] - 1)).clip(0)).astype(np.float32)
    return data


def test_a_common_factor_is_gone() -> None:
    values = np.random.default_rng(0).gamma(2, 3, (5, 7)).astype(np.float32)
    ratios = transformed(ad.AnnData(values), "count", "log-ratio")
    np.testing.assert_allclose(ratios.sum(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(transformed(ad.AnnData(3 * (1 + values) - 1), "count", "log-ratio"), ratios, atol=1e-5)
    logs = np.log1p(values)
    np.testing.assert_allclose(ratios, logs - logs.mean(axis=1, keepdims=True), atol=1e-6)


def test_the_mean_is_over_the_latents_that_may_be_used() -> None:
    data = cohort(n_latents=40)
    keep = np.arange(40) % 3 == 0
    some = only(data, keep)
    ratios = transformed(some, "count", "log-ratio")
    np.testing.assert_allclose(ratios[:, keep], transformed(data[:, keep].copy(), "count", "log-ratio"), atol=1e-6)
    assert not ratios[:, ~keep].any()
    fewer = np.ones(40, bool)
    fewer[[0, 3]] = False
    assert only(some, fewer).uns["used_latents"].tolist() == np.flatnonzero(keep & fewer).tolist()


@pytest.mark.parametrize("restrict", [False, True])
def test_a_model_says_the_same_of_values_that_are_not_centred(restrict: bool) -> None:
    """Barcodes of new patients know neither which latents the model may use nor their mean."""
    data = cohort(n_latents=40)
    task = classification_task(only(data, np.arange(40) % 2 == 0) if restrict else data, "diagnosis")
    products = Products.from_barcodes(task.data, [KIND])
    model = trained(task, products, np.ones(len(data), bool), Choice(KIND, 3.0))
    np.testing.assert_allclose(model.weights.sum(axis=2), 0, atol=1e-5)
    own = model.probabilities(KIND.values(task.data))
    np.testing.assert_allclose(model.probabilities(KIND.values(data)), own, atol=1e-5)
    np.testing.assert_allclose(model.probabilities(KIND.fitted_values(task.data)), own, atol=1e-5)
    assert (own.argmax(axis=1) == task.target).mean() > 0.9


def test_log_ratios_hold_in_a_laboratory_that_stains_all_alike_and_are_chosen_for_it() -> None:
    task = classification_task(stained(), "diagnosis")
    folds = given_folds(task.data.obs["laboratory"].astype(str), task.target, task.patients, "laboratory")

    def score(transform: str) -> tuple[float, set[str]]:
        config = replace(QUICK, features="counts", transform=transform)
        found = chosen_predictions(task, folds, Products.from_barcodes(task.data, candidates(config)), config)
        value = found.predictions.f1(20, 0).value
        return value, {choice.representation.transform for division in found.choices for choice in division}

    assert score("log-ratio")[0] > score("log1p")[0] + 0.15
    value, chosen = score(CHOOSE)
    assert chosen == {"log-ratio"}
    assert value == score("log-ratio")[0]
