"""Intervals of numbers cover as often as they say; thirds by risk and their survival by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.cohort import OutcomeCalibration, third_of
from cytosae.cohort.outcome_calibration import survival


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        truth, said = rng.normal(size=(2, 45))
        values = said + truth
        calibration = OutcomeCalibration(values[:40], None, said[:40], np.zeros((40, 1), np.int64))
        ends = calibration.intervals(said[None, 40:], 0.8)
        inside += ((ends[:, 0] <= values[40:]) & (values[40:] <= ends[:, 1])).tolist()
        assert np.isinf(calibration.intervals(said[None, 40:], 0.99)).all()
    assert np.mean(inside) == pytest.approx(0.8, abs=0.03)


def test_thirds_by_risk_and_their_survival_by_hand() -> None:
    times, events = np.arange(9, 0, -1.0), np.arange(9) != 4
    calibration = OutcomeCalibration(times, events, np.arange(9.0), np.zeros((9, 1), np.int64))
    low, middle, high = calibration.thirds()
    assert [one["third"] for one in (low, middle, high)] == ["low", "middle", "high"]
    assert (low["median"], high["median"]) == (8, 2)
    assert middle["events"] == 2
    again = OutcomeCalibration.from_records(calibration.records([f"P{i}" for i in range(9)]))
    assert again.thirds() == calibration.thirds()
    risk = calibration.riskier_than(np.array([[-1.0, 4.0, 4.5, 9.0]]))
    assert risk == pytest.approx([0, 4.5 / 9, 5 / 9, 1])
    assert [third_of(share) for share in risk] == ["low", "middle", "middle", "high"]
    # Two of four die, at 1 and 3; one is followed until 2.
    found = survival(np.array([1.0, 2, 3, 4]), np.array([True, False, True, False]), [1, 3])
    assert [one["share"] for one in found["without_event"]] == pytest.approx([3 / 4, 3 / 4 * 1 / 2])
    assert found["median"] == 3
    for one in found["without_event"]:
        assert one["low"] < one["share"] < one["high"]
    nobody = survival(np.array([1.0, 2]), np.array([False, False]), [1])
    assert (nobody["median"], nobody["without_event"][0]["low"]) == (None, None)
