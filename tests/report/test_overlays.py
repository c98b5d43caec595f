"""Maps of activations laid over images, by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytosae.cells import load_squashed
from cytosae.report import enlarge, multiplied, overlay, reference_grid
from support.report_figures import corners, reference_row


def test_enlarge_repeats_each_patch() -> None:
    expected = [[1, 1, 2, 2, 3, 3]] * 3 + [[4, 4, 5, 5, 6, 6]] * 3
    assert enlarge([[1, 2, 3], [4, 5, 6]], 6).tolist() == expected


def test_smooth_keeps_place_and_range() -> None:
    hot = np.zeros((7, 7))
    hot[2, 4] = 2
    large = enlarge(hot, 98, smooth=True)
    assert large.shape == (98, 98)
    assert large.min() == 0
    assert 1.9 < large.max() <= 2
    rows, columns = np.nonzero(large > 1.0)
    assert (rows.mean(), columns.mean()) == (2.5 * 14 - 0.5, 4.5 * 14 - 0.5)
    step = enlarge([[0.0, 0, 3, 3]], 64, smooth=True)  # bicubic alone would reach beyond 0 and 3
    assert (step.min(), step.max()) == (0, 3)
    assert len(np.unique(step[0])) > 10
    assert (enlarge(np.full((2, 2), 3.0), 9, smooth=True) == 3).all()


IMAGE = np.full((4, 4, 3), 100, dtype=np.uint8)
MAP = np.array([[0.0, 1.0], [2.0, 4.0]])


def test_overlay_by_hand() -> None:
    """Viridis at 1/2 is (0.1276, 0.5669, 0.5506), at 1 it is (0.9932, 0.9062, 0.1439)."""
    half = [80, 113, 112]  # 0.7 * 100 + 0.3 * 255 * colour
    full = [192, 179, 62]  # 0.4 * 100 + 0.6 * 255 * colour
    drawn = overlay(IMAGE, MAP)
    assert drawn.dtype == np.uint8
    assert (corners(drawn)[0], corners(drawn)[2], corners(drawn)[3]) == ([100, 100, 100], half, full)
    assert corners(overlay(IMAGE, MAP, top=2.0))[1:] == [half, full, full]
    assert corners(overlay(IMAGE, MAP, top=8.0))[3] == half
    assert corners(overlay(IMAGE, MAP, opacity=1.0))[3] == [253, 231, 37]
    assert corners(overlay(IMAGE, MAP, opacity=1.0, colours="magma"))[3] == [252, 253, 191]


def test_multiplied_by_hand() -> None:
    assert [c[0] for c in corners(multiplied(IMAGE, MAP))] == [0, 25, 50, 100]
    assert [c[0] for c in corners(multiplied(IMAGE, MAP, top=2.0))] == [0, 50, 100, 100]
    assert len(np.unique(multiplied(IMAGE, MAP, smooth=True))) > 4


def test_without_activation_the_image_stays(real_cells: Path) -> None:
    cell = load_squashed(real_cells / "pbc/basophil/BA_555760.jpg", 224)
    nothing = np.zeros((16, 16), dtype=np.float16)
    for smooth in (False, True):
        assert (overlay(cell, nothing, smooth=smooth) == cell).all()
        assert (overlay(cell, nothing, top=3.0, smooth=smooth) == cell).all()
        assert not multiplied(cell, nothing, smooth=smooth).any()


@pytest.mark.parametrize("patch", [(0, 0), (3, 9), (15, 0), (15, 15)])
def test_a_hot_patch_colours_its_own_pixels(real_cells: Path, patch: tuple[int, int]) -> None:
    cell = load_squashed(real_cells / "pbc/basophil/BA_555760.jpg", 224)
    hot = np.zeros((16, 16), dtype=np.float16)
    hot[patch] = 0.7
    own = np.zeros((224, 224), dtype=bool)
    own[14 * patch[0] : 14 * patch[0] + 14, 14 * patch[1] : 14 * patch[1] + 14] = True
    assert ((overlay(cell, hot) != cell).any(-1) == own).all()
    assert (multiplied(cell, hot) == cell * own[..., None]).all()


@pytest.mark.parametrize("draw", [overlay, multiplied])
@pytest.mark.parametrize(
    ("image", "map_", "words"),
    [
        (IMAGE, [0.0, 1.0], r"\(rows, columns\).*\(2,\)"),
        (IMAGE, np.zeros((0, 2)), r"\(rows, columns\)"),
        (IMAGE, np.zeros((3, 2)), "3 x 2 patches do not fit into 4 x 4"),
        (IMAGE, np.zeros((2, 3)), "2 x 3 patches do not fit into 4 x 4"),
        (IMAGE, [[0.0, np.nan]], "NaN"),
        (IMAGE, [[0.0, np.inf]], "infinity"),
        (IMAGE, [[0.0, -1.0]], "never negative.*-1"),
        (IMAGE[..., 0], MAP, r"\(edge, edge, 3\).*\(4, 4\)"),
        (IMAGE[:2], MAP, r"\(2, 4, 3\)"),
        (IMAGE[..., :2], MAP, r"\(4, 4, 2\)"),
        (IMAGE.astype(float), MAP, "float64"),
    ],
)
def test_what_cannot_be_laid_over(draw: Callable[..., Any], image: np.ndarray, map_: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw(image, map_)


@pytest.mark.parametrize("top", [0.0, -1.0, np.nan])
def test_top_is_above_zero(top: float) -> None:
    with pytest.raises(ValueError, match="top"):
        overlay(IMAGE, MAP, top=top)
    with pytest.raises(ValueError, match="top"):
        reference_grid([reference_row("a", 1)], title="x", top=top)
