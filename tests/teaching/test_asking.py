"""Which cells are worth marking next, on planted ones."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.teaching import Candidates, Figure, Threshold, how_sure, worth_marking
from cytosae.teaching.asking import NARROW


def cells(scores: list[float], vectors: list[list[float]], units: list[int], groups: list[int]) -> Candidates:
    return Candidates(np.array(scores), np.array(vectors, float).reshape(-1, 3), np.array(units), np.array(groups))


NONE = cells([], [], [], [])
X, Y, Z = [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]


def test_uncertain_cells_come_first() -> None:
    found = worth_marking(cells([-3, 0.2, 3, 0.5], [X, Y, Z, [1, 1, 1]], [1, 1, 1, 1], [0] * 4), NONE, 2)
    assert [one.index for one in found] == [1, 3]
    assert found[0].uncertainty == 1
    assert found[1].uncertainty < 1


def test_what_is_like_a_marked_or_a_chosen_cell_waits() -> None:
    alike = cells([0.2, 0.2, 0.2], [X, X, Y], [1, 1, 1], [0] * 3)
    assert [one.index for one in worth_marking(alike, NONE, 3)] == [0, 2, 1]
    marked = cells([0], [X], [1], [0])
    assert worth_marking(alike, marked, 1)[0].index == 2


def test_patients_and_laboratories_that_have_no_mark_come_first() -> None:
    marked = cells([0], [Z], [1], [0])
    found = worth_marking(cells([0.2] * 3, [X, X, X], [1, 2, 3], [0, 0, 1]), marked, 3)
    assert [(one.index, one.new_unit, one.new_group) for one in found] == [
        (2, True, True),
        (1, True, False),
        (0, False, False),
    ]


def test_there_may_be_few_or_no_cells() -> None:
    assert worth_marking(NONE, NONE, 3) == []
    assert len(worth_marking(cells([1e6, -1e6], [[0, 0, 0], X], [1, 1], [0, 0]), NONE, 9)) == 2


def test_when_to_stop() -> None:
    sure, useful = (
        Figure(0.97, 0.97 - NARROW / 2, 0.99, 0.5, 20, 20),
        Threshold(0.0, recall=0.9, random=0.02, shown=0.01),
    )
    enough, sentence = how_sure(sure, useful)
    assert enough
    assert "0.97" in sentence
    enough, sentence = how_sure(sure, Threshold(0.0, recall=0.9, random=0.6, shown=0.5))
    assert not enough
    assert "threshold is useless" in sentence
    for figure in (Figure(0.97, 0.7, 1.0, 0.5, 3, 3), Figure(float("nan"), float("nan"), float("nan"), 0.5, 0, 0)):
        assert not how_sure(figure, useful)[0]


@pytest.mark.parametrize(
    ("found", "random", "useless"), [(0.9, 0.02, False), (1.0, 0.3, False), (1.0, 0.4, True), (0.3, 0.2, True)]
)
def test_a_threshold_that_many_random_patches_pass_is_called_useless(
    found: float, random: float, useless: bool
) -> None:
    threshold = Threshold(0.0, recall=found, random=random, shown=random)
    assert threshold.useless == useless
    assert bool(threshold.warning) == useless
    if useless:
        assert f"{100 * random:.0f} % of random patches pass it" in threshold.warning
