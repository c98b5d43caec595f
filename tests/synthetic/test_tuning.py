"""Turning a knob changes its own part of a cell and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.synthetic import BASE, KNOBS, turned_cell


def changed(knob: str, level: float, seed: int = 3) -> np.ndarray:
    """Where a turned cell differs from the same cell as it is, beyond the camera's rounding, ``(224, 224)``."""
    return np.abs(turned_cell(seed, knob, level).astype(int) - turned_cell(seed)).max(axis=2) > 2


@pytest.mark.parametrize("knob", ["vacuoles", "nucleoli", "azurophilic granules", "Auer rods", "lobes", "chromatin"])
def test_only_the_cell_changes_and_it_does(knob: str) -> None:
    assert (turned_cell(3, knob, BASE[knob]) == turned_cell(3)).all()
    where = changed(knob, KNOBS[knob].levels[-1])
    y, x = np.mgrid[:224, :224] - 111.5
    assert 0.002 < where.mean() < 0.45
    assert not where[np.hypot(x, y) > 100].any()  # the cell has a radius of 60 pixels, its middle lies within some


def test_more_of_a_knob_keeps_what_was_there() -> None:
    few, many = (changed("vacuoles", level) for level in (2, 8))
    assert (few & ~many).sum() < 0.05 * few.sum()
    assert many.sum() > 1.8 * few.sum()


def test_the_stain_changes_everything_and_cells_differ() -> None:
    assert changed("stain", 1).mean() > 0.8
    assert (turned_cell(0) != turned_cell(1)).any()
    with pytest.raises(ValueError, match="unknown knob"):
        turned_cell(0, "colour", 1)
