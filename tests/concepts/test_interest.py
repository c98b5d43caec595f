"""What is shown first: concepts that lie in the cell, are no place in the picture, and are not everywhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cytosae.concepts import interest_of, interest_scores, middle_share

PLAIN = {"activation_frequency": 0.2, "mean_activation": 1.0, "label_entropy": 0.5, "position_share": 0.1}


def scores(middle: float = 0.9, n_cells: int = 400, n_labels: int = 8, **changed: float) -> np.ndarray:
    """Interest of a plain concept, and of one that is changed."""
    var = pd.DataFrame([PLAIN, {**PLAIN, **changed}])
    return interest_scores(var, np.array([0.9, middle]), n_cells, n_labels)


def test_middle_share_by_hand() -> None:
    maps = np.random.default_rng(0).random((5, 3, 10, 14)).astype(np.float16)
    for share, one in zip(middle_share(maps), maps.astype(float), strict=True):
        inner, outer = [], []
        for row in range(10):
            for column in range(14):
                distance = (((row + 0.5) / 10 - 0.5) ** 2 + ((column + 0.5) / 14 - 0.5) ** 2) ** 0.5
                (inner if distance < 0.3 else outer).extend(one[:, row, column])
        assert share == pytest.approx(np.mean(inner) / (np.mean(inner) + np.mean(outer)), rel=1e-5)
    assert np.isnan(middle_share(np.zeros((1, 2, 8, 8)))).all()
    assert middle_share(np.ones((1, 2, 1, 1))).tolist() == [1.0]  # one patch is all there is


@pytest.mark.parametrize(
    "less",
    [
        {"middle": 0.6},
        {"activation_frequency": 0.9},
        {"activation_frequency": 0.01},  # four cells
        {"mean_activation": 0.5},
        {"label_entropy": 1.5},
        {"position_share": 0.6},
    ],
)
def test_each_part_lowers_it(less: dict[str, float]) -> None:
    plain, changed = scores(**less)
    assert 0 < changed < plain <= 1


@pytest.mark.parametrize("none", [{"middle": 0.5}, {"middle": 0.1}, {"middle": np.nan}, {"activation_frequency": 1.0}])
def test_what_tells_nothing_of_a_cell_has_none(none: dict[str, float]) -> None:
    plain, changed = scores(**none)
    assert plain > 0
    assert changed == 0


def test_what_is_not_known_is_not_held_against_a_concept() -> None:
    _, without = scores(label_entropy=np.nan)
    _, zero = scores(label_entropy=0.0)
    assert without == zero
    assert scores(n_labels=0)[0] == scores(n_labels=8, label_entropy=0.0)[1]
    var = pd.DataFrame([PLAIN, PLAIN]).drop(columns="position_share")
    assert interest_scores(var, np.array([0.9, 0.9]), 400, 8)[0] == scores(position_share=0.0)[1]


def test_of_a_data_set() -> None:
    maps = np.zeros((2, 1, 8, 8))
    maps[0, 0, 3:5, 3:5], maps[1, 0, 0] = 1, 1
    var = pd.DataFrame([PLAIN] * 3)
    found = interest_of(var, np.array([2, 0]), maps, 400, 8)
    assert found[2] > 0
    assert found[:2].tolist() == [0, 0]
