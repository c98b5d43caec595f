"""Conformal sets hold the true class as often as they say, over all patients and, with enough patients, in each class."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

from cytosae.cohort import (
    Calibration,
    Folds,
    Products,
    Representation,
    chosen_predictions,
    classification_task,
    conformal_figures,
    error_rate,
    given_folds,
    least_patients,
    left_out_p_values,
    nearest_distances,
    patient_column,
    patient_novelty,
    stratified_folds,
)
from cytosae.cohort.conformal import calibrated_p, interpolated_p
from support.cohorts import QUICK, cohort

FOLDS = 5
FEW = replace(QUICK, features="counts", splits=3, inner=2)
COUNTS = [Representation("counts", "log1p")]


def nearest_mean(x: np.ndarray, target: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Probabilities by the distance to the mean of each class: a model that knows nothing of the classes' spread."""
    means = np.stack([x[target == c].mean(axis=0) for c in range(3)])
    logits = -((new[:, None] - means) ** 2).sum(axis=2) / 2
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def simulated(rng: np.random.Generator, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Patients of three classes, the last of which scatters most and is hardest."""
    target = np.repeat(np.arange(3), per_class)
    centres = np.array([[0, 0, 0, 0], [2, 0, 0, 0], [1, 1.5, 0, 0]])
    spread = np.array([0.8, 1.0, 1.8])[target, None]
    return centres[target] + spread * rng.normal(size=(len(target), 4)), target


def coverage(per_class: int, nominal: float, cohorts: int = 200) -> tuple[float, np.ndarray, float]:
    """Coverage over all, by class, and mean size, over many cohorts with 99 new patients each."""
    rng = np.random.default_rng(0)
    covered, sizes = [], []
    for _ in range(cohorts):
        (x, target), (new, truth) = simulated(rng, per_class), simulated(rng, 33)
        folds = Folds(rng.permuted(np.tile(np.arange(len(target)) % FOLDS, (3, 1)), axis=1), tuple("abcde"), "drawn")
        own = np.empty((3, len(target), 3))
        models = []
        for repeat, fold in folds.splits:
            train = folds.row_folds[repeat] != fold
            own[repeat, ~train] = nearest_mean(x[train], target[train], x[~train])
            models.append(nearest_mean(x[train], target[train], new))
        calibration = Calibration.from_predictions(own, folds.row_models, target)
        assert calibration.by_class(3, nominal).all() == (per_class >= least_patients(nominal))
        sets = calibration.fold_p_values(np.stack(models), nominal) > error_rate(nominal)
        covered.append(sets[np.arange(99), truth].reshape(3, 33).mean(axis=1))
        sizes.append(sets.sum(axis=1).mean())
    by_class = np.mean(covered, axis=0)
    return float(by_class.mean()), by_class, float(np.mean(sizes))


def test_coverage_is_nominal_in_every_class_with_enough_patients() -> None:
    overall, by_class, size = coverage(per_class=29, nominal=0.9)
    np.testing.assert_allclose(by_class, 0.9, atol=0.02)
    assert overall == pytest.approx(0.9, abs=0.02)
    assert size < 2.2  # all three classes always cover


def test_coverage_is_nominal_over_all_patients_of_small_classes() -> None:
    overall, by_class, size = coverage(per_class=13, nominal=0.95)
    assert overall == pytest.approx(0.95, abs=0.02)
    assert by_class[2] < by_class[0]  # marginal: the hardest class is covered less
    assert size < 2.7


def test_patients_that_a_class_needs() -> None:
    assert [least_patients(nominal) for nominal in (0.5, 0.8, 0.9, 0.95, 0.99)] == [2, 5, 10, 20, 100]
    assert error_rate(0.9) == 0.1


def test_p_values_that_are_too_large_are_brought_back() -> None:
    """Folds that disagree make p-values that gather in the middle; of left-out patients they are no others."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        p = rng.beta(2.5, 2.5, (29 + 60, 2)) ** 0.8  # at 90 % too few are below 0.1
        target = np.arange(29) % 2
        found = calibrated_p(p[29:], p[np.arange(29), target])
        covered.append((found > 0.1).mean(axis=0))
    assert (p > 0.1).mean() > 0.95
    np.testing.assert_allclose(np.mean(covered, axis=0), 0.9, atol=0.015)


def test_steps_do_not_widen_the_sets_of_small_classes() -> None:
    """With 18 patients p has steps of 1/19: the first above 0.1 is 2/19, and 17/19 + 1/19 would be covered."""
    overall, by_class, _ = coverage(per_class=18, nominal=0.9)
    np.testing.assert_allclose(by_class, 0.9, atol=0.025)
    assert overall == pytest.approx(0.9, abs=0.015)


def test_p_values_as_a_plain_loop_computes_them() -> None:
    rng = np.random.default_rng(1)
    target, models = (
        np.repeat([0, 1, 2], [12, 10, 4]),
        np.stack([np.arange(26) % 3, 3 + rng.integers(0, 3, 26)], axis=1),
    )
    calibration = Calibration(rng.random(26), models, target, rng.random(26))
    new = rng.dirichlet(np.ones(3), (6, 7))
    p = calibration.fold_p_values(new, 0.9)
    for patient in range(7):
        for c in range(3):
            compared = [i for i in range(26) if target[i] == c or c == 2]  # the last class has fewer than ten
            scores = np.array([calibration.scores[i] for i in compared])
            own = np.array([np.mean([1 - new[m, patient, c] for m in models[i]]) for i in compared])
            worse, n = int((scores >= own).sum()), len(compared)
            assert worse / (n + 1) <= p[patient, c] <= (worse + 1) / (n + 1)
            if 0 < worse < n:
                up, down = (scores - own)[scores >= own].min(), (own - scores)[scores < own].min()
                assert p[patient, c] == pytest.approx((worse + up / (up + down)) / (n + 1))
    again, others = calibration.p_values(new, 0.9), calibration.left_out_p
    no_better = (others[:, None, None] <= p).sum(axis=0) / 27
    assert (no_better <= again).all()
    assert (again <= no_better + 1 / 27).all()
    np.testing.assert_array_equal(calibration.sets(new, 0.9), again > 0.1)
    nobody = Calibration(np.empty(0), np.empty((0, 1), np.int64), np.empty(0, np.int64), np.empty(0))
    assert nobody.sets(np.empty((0, 7, 3)), 0.9).all()


def test_interpolated_p_falls_without_steps_from_one_to_zero() -> None:
    scores = np.array([0.2, 0.4, 0.4, 0.9])
    new = np.linspace(0, 1, 501)
    p = interpolated_p(scores, np.broadcast_to(new, (4, 501)))
    assert p[0] == 1
    assert p[-1] == 0
    assert (np.diff(p) <= 1e-12).all()
    for score, at_least in ((0.2, 4), (0.9, 1)):  # p has no step at a score of one patient
        assert interpolated_p(scores, np.full((4, 1), score)) == pytest.approx(at_least / 5)
        assert interpolated_p(scores, np.full((4, 1), score + 1e-9)) == pytest.approx(at_least / 5, abs=1e-6)
    assert interpolated_p(scores, np.full((4, 1), 0.65)) == pytest.approx(1.5 / 5)


def test_figures_of_left_out_p_values() -> None:
    task = classification_task(cohort(signal=1.5), "diagnosis")
    folds = stratified_folds(task.target, task.patients, 3, 2)
    products = Products.from_barcodes(task.data, COUNTS)
    assert folds.n_repeats == 2
    predictions = chosen_predictions(task, folds, products, FEW).predictions
    found = conformal_figures(task, folds, products, predictions, FEW)
    assert found["by_class"] == ["AML", "APL", "healthy"]
    assert found["low"] <= found["coverage"] <= found["high"]
    assert found["coverage"] > 0.75
    assert sum(one["patients"] for one in found["classes"].values()) == 60
    for row, one in zip(range(60), found["calibration"], strict=True):
        assert one["patient"] == task.data.obs_names[row]
        assert one["models"] == [folds.row_folds[0, row], 3 + folds.row_folds[1, row]]
        assert 0 <= one["left_out_p"] <= 1
        assert one["score"] == pytest.approx(1 - predictions.probability[:, row, task.target[row]].mean())


def test_the_sets_of_a_fold_know_nothing_of_its_patients() -> None:
    data = cohort(signal=1.5)
    data.obs["fold"] = [f"F{i % 4}" for i in range(60)]
    task = classification_task(data, "diagnosis")
    given = given_folds(patient_column(task.data, "fold"), task.target, task.patients, "fold")
    test = given.row_folds[0] == 1
    others = replace(task, target=np.where(test, (task.target + 1) % 3, task.target))
    for folds in (given, Folds(np.tile(given.row_folds, (2, 1)), given.names, "drawn")):
        _, p = left_out_p_values(task, folds, Products.from_barcodes(task.data, COUNTS), FEW)
        _, again = left_out_p_values(others, folds, Products.from_barcodes(task.data, COUNTS), FEW)
        np.testing.assert_array_equal(p[test], again[test])


def test_a_class_that_is_calibrated_alone_is_so_without_a_fold_too(monkeypatch: pytest.MonkeyPatch) -> None:
    data = cohort(n=33, signal=1.5)  # 11 patients a class: 10 are enough, and fewer are left without a fold
    task = classification_task(data, "diagnosis")
    folds = stratified_folds(task.target, task.patients, 4, 1)
    counted: list[tuple[int, list[bool]]] = []
    made = Calibration.fold_p_values

    def counting(self: Calibration, probability: np.ndarray, coverage: float, alone: np.ndarray) -> np.ndarray:
        counted.append((int(np.bincount(self.target).min()), alone.tolist()))
        return made(self, probability, coverage, alone)

    monkeypatch.setattr(Calibration, "fold_p_values", counting)
    left_out_p_values(task, folds, Products.from_barcodes(task.data, COUNTS), FEW)
    assert min(least for least, _ in counted) < least_patients(FEW.coverage) <= 11
    assert all(alone == [True] * 3 for _, alone in counted)


def test_distance_to_the_nearest_training_patient() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(23, 6))
    points[20], points[21], points[22] = points[3], 0, 40  # a copy, one in the middle, one far away
    points[1] = points[0]  # one person in two data sets: not each other's nearest
    units = np.array([0, 0, *range(1, 19)])
    found = nearest_distances(points @ points.T, units)
    expected = np.linalg.norm(points[:20, None] - points[:20], axis=2)
    expected[units[:, None] == units] = np.inf
    np.testing.assert_allclose(found.training, expected.min(axis=1), atol=1e-6)
    assert found.new[0] == pytest.approx(0, abs=1e-6)
    assert found.beyond.tolist() == [False, False, True]
    assert found.farther_than[2] == 1
    assert found.p[2] == pytest.approx(1 / 21)


def test_new_patients_of_another_kind_lie_beyond_the_training_patients() -> None:
    data = cohort(n=90)
    training, alike = data[:60].copy(), data[60:].copy()
    other = ad.AnnData(alike.X[:, ::-1].copy(), alike.obs, layers={"share": alike.layers["share"][:, ::-1].copy()})
    kind, units = Representation("counts+share", "log1p"), np.arange(60)
    same, moved = (patient_novelty(training, units, new, kind) for new in (alike, other))
    assert same.overall_p() > 0.05
    assert same.beyond.mean() < 0.2
    assert moved.beyond.all()
    assert moved.overall_p() < 1e-6
