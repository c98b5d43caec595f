"""Nucleated cells of drawn fields are found, clumps are cut, and what is no cell is told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.field_crops import ours as ours_in_crop
from benchmarks.field_crops import with_masks
from benchmarks.fields import counts, ours, overlap
from PIL import Image

from cytosae.segmentation import REASONS, FieldObject, find_field_cells, measure_scale
from cytosae.segmentation.field import _with_neighbours
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
        assert hit / (hit + missed) > 0.92
        assert hit / (hit + wrong) > 0.9


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
    taken = 0
    for seed in range(11, 15):  # without nuclei to compare with
        field = render_field(FieldSpec(cells=0, clumped=0, platelets=25, smudges=0, deposits=8), seed)
        taken += sum(one.reason is None for one in find_field_cells(field.pixels, field.mpp))
    assert taken / (4 * 33) < 0.08


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


@pytest.mark.parametrize(("dataset", "bar"), [("segwbc_tecom", 0.95), ("segwbc_cellavision", 0.75)])
def test_lobes_of_a_real_cell_are_one_cell(dataset: str, bar: float, real_cells: Path) -> None:
    cells = pd.read_csv(real_cells / "cells.csv")
    neutrophils = cells[(cells["dataset"] == dataset) & (cells["label"] == "neutrophil")].iloc[::2]
    found = []
    for crop in with_masks(neutrophils, real_cells):
        inside = [box for box in ours_in_crop(crop) if overlap(box, crop.boxes[0]) > 0.1]
        found.append(len(inside) == 1 and overlap(inside[0], crop.boxes[0]) >= 0.5)
    assert np.mean(found) > bar


def test_a_pale_blast_is_no_smudge_and_a_smudge_is_no_cell() -> None:
    kept: list[bool] = []
    taken: list[bool] = []
    for seed in range(12):
        field = render_field(FieldSpec(cells=14, smudges=4.0), 700 + seed, laboratory=ALL[-1], diagnosis="NPM1")
        found = [one for one in find_field_cells(field.pixels, field.mpp) if one.reason is None]
        for drawn in field.objects:
            if drawn.inside > 0.9 and drawn.kind in ("blast", "smudge_cell"):
                as_cell = any(overlap(one.box, drawn.box) >= 0.5 for one in found)
                (kept if drawn.kind == "blast" else taken).append(as_cell)
    assert len(kept) >= 10
    assert len(taken) >= 20
    assert np.mean(kept) > 0.9
    assert np.mean(taken) < 0.3


def test_a_piece_of_cytoplasm_within_a_cell_is_no_cell_of_its_own() -> None:
    rows, columns = np.mgrid[:100, :100]
    large, small = np.hypot(rows - 50, columns - 45) < 30, np.hypot(rows - 50, columns - 72) < 9
    beside = np.hypot(rows - 50, columns - 88) < 9
    whole = (slice(0, 100), slice(0, 100))

    def thing(mask: np.ndarray, nucleus: float) -> FieldObject:
        place = np.flatnonzero(mask.any(axis=0))
        return FieldObject((int(place[0]), 0, int(place[-1]) + 1, 100), 0.5, None, False, False, nucleus, 0.4, 0.6, 1.5)

    objects = [thing(large, 90.0), thing(small, 20.0), thing(beside, 20.0)]
    marked = _with_neighbours(objects, [(whole, large), (whole, small), (whole, beside)])
    assert [one.reason for one in sorted(marked, key=lambda one: one.box[0])] == [None, "part of a cell", None]
    assert all(one.touching for one in marked)
