"""Which cells are worth marking next, on planted ones."""

from __future__ import annotations

import numpy as np

from cytosae.teaching import Candidates, Figure, how_sure, worth_marking
from cytosae.teaching.asking import NARROW


def cells(scores: list[float], vectors: list[list[float]], units: list[int], groups: list[int]) -> Candidates:
    return Candidates(np.array(scores), np.array(vectors, float).reshape(-1, 3), np.array(units), np.array(groups))


NONE = cells([], [], [], [])
X, Y, Z = [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]


def test_uncertain_cells_come_first() -> None:
    found = worth_marking(cells([-3, 0.2, 3, 0.5], [X, Y, Z, [1, 1, 1]], [1, 1, 1, 1], [0] * 4), NONE, 2)
    assert [one.place for one in found] == [1, 3]
    assert found[0].uncertainty == 1
    assert found[1].uncertainty < 1


def test_what_is_like_a_marked_or_a_chosen_cell_waits() -> None:
    alike = cells([0.2, 0.2, 0.2], [X, X, Y], [1, 1, 1], [0] * 3)
    assert [one.place for one in worth_marking(alike, NONE, 3)] == [0, 2, 1]
    marked = cells([0], [X], [1], [0])
    assert worth_marking(alike, marked, 1)[0].place == 2


def test_patients_and_laboratories_that_have_no_mark_come_first() -> None:
    marked = cells([0], [Z], [1], [0])
    found = worth_marking(cells([0.2] * 3, [X, X, X], [1, 2, 3], [0, 0, 1]), marked, 3)
    assert [(one.place, one.new_unit, one.new_group) for one in found] == [
        (2, True, True),
        (1, True, False),
        (0, False, False),
    ]


def test_there_may_be_few_or_no_cells() -> None:
    assert worth_marking(NONE, NONE, 3) == []
    assert len(worth_marking(cells([1e6, -1e6], [[0, 0, 0], X], [1, 1], [0, 0]), NONE, 9)) == 2


def test_when_to_stop() -> None:
    enough, sentence = how_sure(Figure(0.97, 0.97 - NARROW / 2, 0.99, 0.5, 20, 20))
    assert enough
    assert "0.97" in sentence
    for figure in (Figure(0.97, 0.7, 1.0, 0.5, 3, 3), Figure(float("nan"), float("nan"), float("nan"), 0.5, 0, 0)):
        assert not how_sure(figure)[0]
