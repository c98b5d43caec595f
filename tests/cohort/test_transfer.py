"""Transfer to laboratories never seen, on planted patients: what harmonising can do, and that labels leak nowhere."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cytosae.cohort import harmonised, left_out_laboratories, within_laboratories
from cytosae.cohort.transfer import Blocks, Division, Fitter, cells_fitter, forest_fitter, pooled_fitter

N_LABORATORIES, OF_EACH, N_CLASSES, D = 3, 40, 2, 12


def planted(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows with a class and a laboratory that shifts them five times as far, along the class and elsewhere."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(N_LABORATORIES), OF_EACH)
    target = np.tile(np.arange(N_CLASSES), len(codes) // N_CLASSES)
    effect = rng.normal(size=(N_CLASSES, D))
    shift = 5 * rng.normal(size=(N_LABORATORIES, D))
    return effect[target] + shift[codes] + 0.5 * rng.normal(size=(len(codes), D)), target, codes


def weighted_f1(
    method: str, *, alone: bool = False, only: int | None = None, permutations: int = 0, fit: Fitter | None = None
) -> tuple[float, NDArray[np.float64]]:
    rows, target, codes = planted()
    found = left_out_laboratories(
        lambda out: harmonised([rows], codes, method, out, only=only, alone=alone),
        target,
        codes,
        np.arange(len(codes)),
        fit or cells_fitter(N_CLASSES),
        N_CLASSES,
        only=only,
        permutations=permutations,
    )
    return found.predictions.f1(20, 0).value, found.null


@pytest.mark.parametrize("method", ["centre", "standardise", "combat"])
def test_what_a_laboratory_shifts_is_taken_away(method: str) -> None:
    assert weighted_f1("none")[0] < 0.75
    assert weighted_f1(method)[0] > 0.95
    assert weighted_f1(method, only=1)[0] > 0.95


def test_permuted_labels_fall_to_chance_for_every_method() -> None:
    for method in ("none", "centre", "coral"):
        null = weighted_f1(method, permutations=10)[1]
        assert len(null) == 10
        assert abs(null.mean() - 0.5) < 0.1


def test_a_single_row_knows_nothing_of_its_neighbours() -> None:
    rows, _, codes = planted()
    changed = rows.copy()
    changed[codes == 2] += 100
    changed[np.flatnonzero(codes == 2)[0]] = rows[codes == 2][0]
    first, second = (harmonised([x], codes, "centre", 2, alone=True)[0] for x in (rows, changed))
    place = np.flatnonzero(codes == 2)[0]
    np.testing.assert_allclose(first[place], second[place], rtol=1e-9)
    at_hand = [harmonised([x], codes, "centre", 2)[0] for x in (rows, changed)]
    assert np.abs(at_hand[0][place] - at_hand[1][place]).max() > 10


def test_the_reference_does_not_know_the_one_left_out() -> None:
    rows, _, codes = planted()
    first = harmonised([rows], codes, "standardise", 2)[0]
    changed = rows.copy()
    changed[codes == 2] *= 7
    second = harmonised([changed], codes, "standardise", 2)[0]
    np.testing.assert_allclose(first[codes != 2], second[codes != 2])


def test_controls_alone_give_the_maps() -> None:
    rows, target, codes = planted()
    healthy = target == 0
    changed = rows.copy()
    changed[~healthy] += np.random.default_rng(1).normal(size=D)
    first, second = (harmonised([x], codes, "centre", 2, fitted_on=healthy)[0] for x in (rows, changed))
    np.testing.assert_allclose(first[healthy], second[healthy])
    means = [first[healthy & (codes == code)].mean(axis=0) for code in range(3)]
    assert np.ptp(means, axis=0).max() < 1e-9


def test_none_leaves_the_rows_as_they_are() -> None:
    rows, _, codes = planted()
    assert harmonised([rows], codes, "none", 1)[0] is rows


def test_rows_without_a_laboratory_are_neither_trained_on_nor_predicted() -> None:
    rows, target, codes = planted()
    codes = codes.copy()
    codes[5] = -1
    asked: list[NDArray[np.bool_]] = []
    plain = cells_fitter(N_CLASSES)

    def fit(blocks: Blocks, division: Division) -> NDArray[np.float64]:
        asked.append(division.train | division.test)
        return plain(blocks, division)

    found = left_out_laboratories(
        lambda out: harmonised([rows], codes, "centre", out), target, codes, np.arange(len(codes)), fit, N_CLASSES
    )
    assert not any(rows_asked[5] for rows_asked in asked)
    assert 5 not in found.predictions.rows
    assert len(found.predictions.rows) == len(codes) - 1


def test_the_ceiling_knows_every_laboratory() -> None:
    rows, target, codes = planted()
    units = np.arange(len(codes)) // 2
    found = within_laboratories([rows], target, codes, units, cells_fitter(N_CLASSES), N_CLASSES)
    assert found.predictions.f1(20, 0).value > weighted_f1("none")[0]
    assert len(found.predictions.rows) == len(codes)


def test_measurements_and_tokens_together_know_more_than_each() -> None:
    rng = np.random.default_rng(4)
    codes, target = np.repeat([0, 1], 200), np.tile(np.arange(4), 100)
    halves = np.stack([target // 2, target % 2], axis=1) + rng.normal(0, 0.45, (400, 2))
    tokens, measured = halves[:, :1], halves[:, 1:]
    forest = forest_fitter(measured, 4)

    def f1(fit: Fitter) -> tuple[float, NDArray[np.float64]]:
        rows = np.arange(400)
        found = left_out_laboratories(lambda _: [tokens], target, codes, rows, fit, 4, permutations=5)
        return found.predictions.f1(20, 0).value, found.null

    both, null = f1(pooled_fitter(cells_fitter(4), forest))
    assert both > max(f1(cells_fitter(4))[0], f1(forest)[0]) + 0.15
    assert abs(null.mean() - 0.25) < 0.1
