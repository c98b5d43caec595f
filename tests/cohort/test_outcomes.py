"""Numbers and times: the models are those of the libraries, planted ones are predicted, permuted ones are not."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from cytosae.cohort import Outcome, Products, candidates, outcome_kind, outcome_task, validated
from cytosae.cohort.outcome_models import cox, ridge
from cytosae.cohort.outcome_scores import absolute_error, concordance, r_squared, rank_correlation
from cytosae.errors import CytosaeError
from support.cohorts import QUICK, cohort

COUNTS = replace(QUICK, features="counts", inner=2, permutations=0)


def with_outcome(seed: int = 0, strength: float = 1.0, n: int = 60) -> ad.AnnData:
    """Patients whose ten first latents follow a number, and whose time falls with it."""
    rng = np.random.default_rng(seed)
    data = cohort(seed, n=n)
    hidden = rng.normal(size=n)
    data.X[:, :10] = 8 + 3 * (strength * hidden[:, None] + 0.3 * rng.normal(size=(n, 10)))
    data.obs["blasts"] = 40 + 10 * hidden
    data.obs["months"] = rng.exponential(np.exp(-1.5 * hidden)) * 20 + 0.1
    data.obs["died"] = rng.random(n) < 0.7
    return data


def test_ridge_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x, y, new = rng.normal(2, 1, (30, 80)), rng.normal(size=(3, 30)), rng.normal(2, 1, (7, 80))
    models = ridge(x @ x.T, y, (0.1, 10))
    for place, strength in enumerate((0.1, 10)):
        for target in range(3):
            expected = Ridge(alpha=1 / strength).fit(x, y[target]).predict(new)
            np.testing.assert_allclose(models.predictions(new @ x.T)[place, target], expected, atol=1e-8)


def test_cox_is_at_the_maximum_of_the_penalised_likelihood_of_statsmodels() -> None:
    phreg = pytest.importorskip("statsmodels.duration.hazard_regression")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 5))
    times = np.ceil(rng.exponential(np.exp(-x[:, 0])) * 10)  # with ties
    events = rng.random(50) < 0.7
    models = cox(x @ x.T, np.stack([times, times[::-1]]), np.stack([events, events[::-1]]), (0.05, 1.0))
    for place, strength in enumerate((0.05, 1.0)):
        for target, way in enumerate((1, -1)):
            weights = models.dual[place, target] @ x
            model = phreg.PHReg(times[::way], x, status=events[::way].astype(int), ties="breslow")
            np.testing.assert_allclose(model.score(weights), weights / strength, atol=1e-4)
    hazard = models.predictions(x @ x.T)[1, 0]
    assert np.corrcoef(hazard, x[:, 0])[0, 1] > 0.8


def test_scores_by_the_libraries_and_by_hand() -> None:
    rng = np.random.default_rng(2)
    y, said = rng.normal(size=40), rng.normal(size=40)
    said += y
    drawn = rng.integers(0, 40, 40)
    weights = np.stack([np.ones(40), np.bincount(drawn, minlength=40)])
    assert r_squared(said, y, weights) == pytest.approx([r2_score(y, said), r2_score(y[drawn], said[drawn])])
    assert rank_correlation(said, y, weights)[0] == pytest.approx(spearmanr(said, y).statistic)
    assert absolute_error(said, y, weights)[1] == pytest.approx(np.abs(y - said)[drawn].mean())
    times, events = np.array([1.0, 2, 3, 3, 5]), np.array([1, 0, 1, 0, 1], bool)
    once = np.ones((1, 5))
    assert concordance([5, 4, 3, 2, 1], times, events, once)[0] == 1
    assert concordance([1, 2, 3, 4, 5], times, events, once)[0] == 0
    assert concordance(np.ones(5), times, events, once)[0] == 0.5
    # Pairs: 1 with all others, the first 3 with the censored 3 and with 5.
    assert concordance([5, 1, 0, 2, 1], times, events, once)[0] == pytest.approx(4 / 6)
    assert concordance([5, 1, 0, 2, 1], times, events, np.array([[1, 1, 2, 1, 1]]))[0] == pytest.approx(5 / 9)


@pytest.mark.parametrize(("target", "event"), [("blasts", None), ("months", "died")])
def test_planted_outcomes_are_predicted_and_permuted_ones_are_not(target: str, event: str | None) -> None:
    outcome = outcome_task(with_outcome(), target, event)
    folds = outcome.folds(COUNTS)
    products = Products.from_barcodes(outcome.data, candidates(COUNTS))
    found = validated(outcome, folds, products, COUNTS, permutations=9)
    first, *_ = found.scores(200, 0).values()
    chance, good = (0.0, 0.6) if event is None else (0.5, 0.65)
    assert first.low > chance
    assert first.value > good
    assert found.null.max() < first.value
    assert found.null.mean() == pytest.approx(chance, abs=0.25 if event is None else 0.1)
    assert len(found.choices) == 8
    silent = outcome_task(with_outcome(strength=0.0), target, event)
    nothing = validated(silent, folds, Products.from_barcodes(silent.data, candidates(COUNTS)), COUNTS)
    value = next(iter(nothing.scores(200, 0).values()))
    assert value.value < chance + 0.15


def test_nothing_is_known_of_the_patients_that_are_predicted() -> None:
    outcome = outcome_task(with_outcome(), "blasts")
    folds = outcome.folds(COUNTS)
    products = Products.from_barcodes(outcome.data, candidates(COUNTS))
    inside = folds.row_folds[0] == 1
    others = replace(outcome, values=np.where(inside, 500.0, outcome.values))
    before, after = (validated(one, folds, products, COUNTS).predicted[0, inside] for one in (outcome, others))
    np.testing.assert_array_equal(before, after)


def test_the_kind_is_recognised_or_told() -> None:
    data = with_outcome()
    assert outcome_kind(data, "diagnosis", None) == "classes"
    assert outcome_kind(data, "blasts", None) == "number"
    assert outcome_kind(data, "months", "died") == "survival"
    data.obs["grade"] = np.arange(60) % 4
    assert outcome_kind(data, "grade", None) == "classes"
    assert outcome_kind(data, "grade", None, "number") == "number"
    for stated, event, text in (
        ("survival", None, "needs --event"),
        ("number", "died", "belongs to survival"),
        ("often", None, "unknown"),
    ):
        with pytest.raises(CytosaeError, match=text):
            outcome_kind(data, "months", event, stated)


def test_what_cannot_be_predicted_is_said() -> None:
    data = with_outcome()
    data.obs["blasts"] = data.obs["blasts"].where(np.arange(60) > 20)
    outcome = outcome_task(data, "blasts")
    assert isinstance(outcome, Outcome)
    assert len(outcome.values) == 39
    assert "21 of 60 patients have no blasts" in outcome.caveats[0]
    for column, values, event, text in (
        ("x", ["a few", *range(59)], None, "'a few' of P0 is no number"),
        ("x", [1.0] * 60, None, "the same value"),
        ("x", [1.0, 2.0, *[None] * 58], None, "2 patients have a value; 10 are needed"),
        ("x", [0.0, *range(1, 60)], "died", "the time of P0 is 0"),
        ("months", data.obs["months"], "diagnosis", "neither yes"),
        ("months", data.obs["months"], "never", "0 patients have the event"),
    ):
        data.obs[column] = values
        data.obs["never"] = False
        with pytest.raises(CytosaeError, match=text):
            outcome_task(data, column, event)


def test_a_slip_in_a_column_of_numbers_is_named() -> None:
    data = with_outcome()
    values = data.obs["blasts"].astype(object)
    values.iloc[7] = "n/a?"
    data.obs["blasts"] = values.astype(str)
    with pytest.raises(CytosaeError, match=r"59 of 60 values are numbers; 'n/a\?' of .* is none"):
        outcome_kind(data, "blasts", None)
    assert outcome_kind(data, "blasts", None, "classes") == "classes"
