"""The cell in the middle is found on real and drawn cells, and what cannot be found is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from cytosae.segmentation import DOUBTS, find_cell, read_tissues
from cytosae.synthetic import has_concept, random_cells, segmentation

Masks = NDArray[np.bool_]


def dice(found: Masks, true: Masks) -> float:
    """Twice the common area over the sum of both."""
    return float(2 * (found & true).sum() / max(1, found.sum() + true.sum()))


@pytest.mark.parametrize(
    ("laboratory", "every", "bars"), [("segwbc_tecom", 12, (0.92, 0.95)), ("segwbc_cellavision", 5, (0.9, 0.88))]
)
def test_masks_of_people_are_found_again(
    real_cells: Path, laboratory: str, every: int, bars: tuple[float, float]
) -> None:
    table = pd.read_csv(real_cells / "cells.csv")
    scores = []
    for row in table[table["dataset"] == laboratory].iloc[::every].itertuples():
        pixels = np.asarray(Image.open(real_cells / str(row.path)).convert("RGB"))
        true = read_tissues(Image.open(real_cells / str(row.mask)), pixels.shape[:2])
        found = find_cell(pixels)
        assert found.nucleus.shape == pixels.shape[:2]
        assert not (found.nucleus & ~found.cell).any()
        scores.append((dice(found.nucleus, true > 192), dice(found.cell, true > 64)))
    mean = np.mean(scores, axis=0)
    assert mean[0] > bars[0]
    assert mean[1] > bars[1]


def test_drawn_cells_are_found_and_platelets_are_flagged() -> None:
    images, masks = random_cells(44, seed=21)
    nuclei, cells, flagged = [], [], []
    for image, mask in zip(images, masks, strict=True):
        found = find_cell(image)
        if not has_concept(mask, "nucleus").any():
            flagged.append(bool(found.flags))
            continue
        true = np.asarray(segmentation(mask))
        nuclei.append(dice(found.nucleus, true > 192))
        cells.append(dice(found.cell, true > 64))
    assert np.mean(flagged) > 0.5
    assert np.mean(nuclei) > 0.88
    assert np.median(nuclei) > 0.95
    assert np.mean(cells) > 0.94


def test_the_scale_does_not_depend_on_the_size_of_the_image() -> None:
    images, _ = random_cells(5, seed=3)
    for image in images[:4]:
        large = np.asarray(Image.fromarray(image).resize((448, 448), Image.Resampling.BICUBIC))
        one, two = find_cell(image), find_cell(large)
        assert two.cell.sum() == pytest.approx(4 * one.cell.sum(), rel=0.06)
        if one.red_cells.count and one.red_cells.count == two.red_cells.count:
            assert two.red_cells.diameter == pytest.approx(2 * one.red_cells.diameter, rel=0.05)
            assert one.red_cells.low < one.red_cells.diameter < one.red_cells.high


@pytest.mark.parametrize("kind", ["empty", "noise", "red cells"])
def test_an_image_without_a_nucleus_says_so(kind: str) -> None:
    rng = np.random.default_rng(0)
    image = np.full((120, 120, 3), 235, np.uint8)
    if kind == "noise":
        image = rng.integers(0, 255, (120, 120, 3), dtype=np.uint8)
    if kind == "red cells":
        y, x = np.mgrid[:120, :120]
        for row, column in ((30, 30), (60, 62), (90, 30)):
            image[np.hypot(y - row, x - column) < 13] = (205, 150, 150)
    found = find_cell(image)
    assert found.flags
    assert {*found.flags} <= {*DOUBTS}
    if kind == "empty":
        assert found.flags == ("no nucleus",)
        assert found.box is None
        assert not found.cell.any()


def test_a_cell_at_the_border_is_flagged() -> None:
    image = random_cells(3, seed=0)[0][2]
    whole = find_cell(image)
    assert whole.box is not None
    left, top, right, bottom = whole.box
    assert "cut by the border" not in whole.flags
    cut = image[: (top + bottom) // 2 + 10]
    assert "cut by the border" in find_cell(cut, centre=((top + bottom) / 2, (left + right) / 2)).flags


def test_a_segmentation_that_is_given_is_taken() -> None:
    images, masks = random_cells(3, seed=0)
    true = np.asarray(segmentation(masks[2]))
    found = find_cell(images[2], tissues=true)
    np.testing.assert_array_equal(found.tissues, true)
    nothing = find_cell(images[2], tissues=np.zeros((224, 224), np.uint8))
    assert nothing.flags == ("no nucleus",)
    with pytest.raises(ValueError, match="a segmentation of"):
        find_cell(images[2], tissues=true[:100])
    with pytest.raises(ValueError, match="expected"):
        find_cell(images[2][..., 0])
