"""Nucleated cells of drawn fields are found, clumps are cut, and what is no cell is told apart."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.fields import counts, ours
from PIL import Image

from cytosae.segmentation import REASONS, find_field_cells, measure_scale
from cytosae.settings import FieldConfig
from cytosae.synthetic import LABORATORIES, REFERENCE, FieldSpec, Laboratory, render_field

ALL = (REFERENCE, *LABORATORIES)


@pytest.mark.parametrize("laboratory", ALL, ids=lambda one: one.name)
def test_cells_are_found_with_and_without_a_known_scale(laboratory: Laboratory) -> None:
    totals, measured = np.zeros(3, int), np.zeros(3, int)
    for seed in range(3):
        field = render_field(FieldSpec(cells=14), 300 + seed, laboratory=laboratory)
        red = measure_scale(field.pixels)
        assert red.count >= 10
        assert abs(red.mpp / field.mpp - 1) < 0.1
        totals += counts(ours(field, field.mpp), field)
        measured += counts(ours(field, red.mpp), field)
    for hit, missed, wrong in (totals, measured):
        assert hit / (hit + missed) > 0.88
        assert hit / (hit + wrong) > 0.85


def test_the_scale_of_the_image_makes_no_difference() -> None:
    field = render_field(FieldSpec(cells=14), 7)
    larger = np.asarray(Image.fromarray(field.pixels).resize((1280, 960)))
    first = [one.box for one in find_field_cells(field.pixels, field.mpp) if one.reason is None]
    second = [one.box for one in find_field_cells(larger, field.mpp / 2) if one.reason is None]
    assert len(first) == len(second) > 3
    assert np.abs(np.array(first) * 2 - np.array(second)).max() < 16
    assert measure_scale(larger).diameter == pytest.approx(2 * measure_scale(field.pixels).diameter, rel=0.05)


def test_what_is_no_cell_has_a_reason() -> None:
    field = render_field(FieldSpec(cells=0, clumped=0, platelets=25, smudges=0, deposits=8), 11)
    cells = render_field(FieldSpec(cells=14, platelets=0, smudges=0, deposits=0), 11)
    for drawn in (field, cells):
        found = find_field_cells(drawn.pixels, drawn.mpp)
        assert {one.reason for one in found if one.reason} <= {*REASONS}
        assert all(0 <= one.score <= 1 for one in found)
    rejected = [one for one in find_field_cells(field.pixels, field.mpp) if one.reason is not None]
    assert len(rejected) > 8
    assert sum(one.reason is None for one in find_field_cells(field.pixels, field.mpp)) <= 1


def test_touching_cells_and_cells_at_the_border_are_marked() -> None:
    field = render_field(FieldSpec(cells=24, clumped=0.9), 3)
    found = [one for one in find_field_cells(field.pixels, field.mpp) if one.reason is None]
    assert sum(one.touching for one in found) >= 2
    height, width = field.pixels.shape[:2]
    for one in found:
        touches = one.box[0] == 0 or one.box[1] == 0 or one.box[2] == width or one.box[3] == height
        assert touches or not one.at_border
    alone = render_field(FieldSpec(cells=4, clumped=0), 3)
    assert not any(one.touching for one in find_field_cells(alone.pixels, alone.mpp) if one.reason is None)


def test_parameters_have_a_physical_meaning() -> None:
    field = render_field(FieldSpec(cells=14), 5)
    usual = sum(one.reason is None for one in find_field_cells(field.pixels, field.mpp))
    for changed in (FieldConfig(smallest_nucleus=60.0), FieldConfig(faintest=0.6)):
        assert sum(one.reason is None for one in find_field_cells(field.pixels, field.mpp, changed)) < usual


def test_an_empty_field_has_no_cells() -> None:
    assert find_field_cells(np.full((200, 300, 3), 240, np.uint8), 0.15) == []
    assert measure_scale(np.full((200, 300, 3), 240, np.uint8)).count == 0
