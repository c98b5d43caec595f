"""Drawn fields: what is said to be in them is where it is said to be."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.synthetic import LABORATORIES, NUCLEATED, FieldSpec, render_field

SPEC = FieldSpec(width=400, height=300, cells=12)


def test_a_field_depends_on_its_seed_alone() -> None:
    first, again, other = (render_field(SPEC, seed) for seed in (3, 3, 4))
    assert (first.pixels == again.pixels).all()
    assert first.objects == again.objects
    assert (first.pixels != other.pixels).any()


@pytest.mark.parametrize("laboratory", LABORATORIES[:2])
def test_cells_lie_in_their_boxes(laboratory: object) -> None:
    found = 0
    for seed in range(3):
        field = render_field(SPEC, seed, laboratory=laboratory)  # type: ignore[arg-type]
        for cell in field.cells:
            left, top, right, bottom = cell.box
            assert 0 <= left < right <= SPEC.width
            assert 0 <= top < bottom <= SPEC.height
            if cell.inside == 1:
                width = (right - left) * field.mpp
                assert 6 < width < 24  # micrometres
                dark = field.pixels[top:bottom, left:right].mean(axis=2).min()
                assert dark < 0.6 * np.median(field.pixels.mean(axis=2))
                found += 1
    assert found > 3


def test_density_and_artefacts_are_those_asked_for() -> None:
    def count(spec: FieldSpec, kinds: tuple[str, ...]) -> int:
        return sum(one.kind in kinds for seed in range(4) for one in render_field(spec, seed).objects)

    few, many = (FieldSpec(width=400, height=300, cells=cells, smudges=0, deposits=0, platelets=0) for cells in (4, 24))
    assert count(many, NUCLEATED) > 2 * count(few, NUCLEATED) > 0
    assert count(many, ("smudge_cell", "platelet", "stain deposit")) == 0
    assert count(FieldSpec(width=400, height=300, deposits=20), ("stain deposit",)) > 4
