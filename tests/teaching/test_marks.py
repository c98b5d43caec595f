"""A table of marks: read, written, and what of it can be learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytosae.errors import CytosaeError
from cytosae.teaching import (
    WHOLE_CELL,
    marks_from_column,
    marks_from_masks,
    marks_table,
    read_marks,
    usable_marks,
    write_marks,
)

CELLS = pd.DataFrame({"cell_id": ["a", "b", "c", "d"], "label": ["blast", "blast", "monocyte", None]})


def test_marks_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    table = marks_table([("Auer  rod", "a", 3, "this"), ("Auer rod", "b", None, "not")], rater="A. M.")
    write_marks(tmp_path / "marks.csv", table)
    pd.testing.assert_frame_equal(read_marks(tmp_path / "marks.csv"), table)
    assert table["concept"].tolist() == ["Auer rod", "Auer rod"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cell_id,mark\na,this\n", "no column 'concept'"),
        ("concept,cell_id,mark\nx,a,maybe\n", "row 1 has the mark 'maybe'"),
        ("concept,cell_id,mark\nx,,this\n", "row 1 has no cell_id"),
        ("concept,cell_id,patch,mark\nx,a,3,this\nx,a,1.5,this\n", "row 2 has the patch"),
        (f"concept,cell_id,mark\nx,a,this\n{'y' * 201},a,this\n", r"row 2, .*\(201 characters\). Give 1 to 200"),
    ],
)
def test_a_table_that_is_none_of_marks_is_named(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "marks.csv").write_text(text, encoding="utf-8")
    with pytest.raises(CytosaeError, match=expected):
        read_marks(tmp_path / "marks.csv")


def test_the_last_mark_of_a_rater_counts_and_contradictions_do_not() -> None:
    table = marks_table(
        [
            ("x", "a", 1, "not"),
            ("x", "a", 1, "this"),  # the same rater, later
            ("x", "b", 2, "this"),
            ("x", "c", None, "not"),
            ("x", "c", 5, "this"),
            ("x", "c", 6, "not"),
            ("x", "gone", 0, "this"),
        ]
    )
    other = marks_table([("x", "b", 2, "not")], rater="another")
    (marks,) = usable_marks(pd.concat([table, other], ignore_index=True), CELLS, 16)
    found = list(zip(marks.cells, marks.patches, marks.positive, strict=True))
    assert found == [(0, 1, True), (2, 5, True), (2, 6, False)]  # of the third cell the patch counts, not the whole
    assert marks.problems == (
        "1 marks are on cells that this study does not have (gone)",
        "raters contradict each other, their marks on the same place are left out (b)",
        "a cell is marked 'not' as a whole and a patch of it 'this': the patch counts, the mark of the whole cell is left "
        "out (c)",
    )
    assert marks.counts() == {"this_patches": 2, "this_cells": 0, "not_patches": 1, "not_cells": 0}


def test_names_that_a_spreadsheet_would_take_for_formulas_come_back(tmp_path: Path) -> None:
    table = marks_table([(name, "-a", 1, "this") for name in ("=rod", "+rod", "'rod", "rod")], rater="@Anna")
    write_marks(tmp_path / "marks.csv", table)
    assert "'=rod,'-a,1,this,'@Anna" in (tmp_path / "marks.csv").read_text(encoding="utf-8-sig")
    pd.testing.assert_frame_equal(read_marks(tmp_path / "marks.csv"), table)


def test_time_decides_which_mark_of_a_rater_is_the_last() -> None:
    table = marks_table([("x", "a", 1, "this"), ("x", "a", 1, "not")])
    table["time"] = pd.array(["2026-02-01T10:00", "2026-01-01T10:00"], dtype="string")
    (marks,) = usable_marks(table, CELLS, 16)
    assert marks.positive.tolist() == [True]


def test_marks_of_another_grid_are_refused() -> None:
    with pytest.raises(CytosaeError, match="another grid"):
        usable_marks(marks_table([("x", "a", 16, "this")]), CELLS, 16)


def test_labels_become_marks_of_whole_cells() -> None:
    table = marks_from_column(CELLS, "label", "blast")
    (marks,) = usable_marks(table, CELLS, 16)
    assert marks.concept == "label: blast"
    assert marks.patches.tolist() == [WHOLE_CELL] * 3
    assert marks.positive.tolist() == [True, True, False]
    with pytest.raises(CytosaeError, match="there are blast, monocyte"):
        marks_from_column(CELLS, "label", "neutrophil")


def test_masks_become_marks_of_patches(some_cells: Path) -> None:
    cells = pd.read_csv(some_cells)
    masked = cells[cells["mask"].notna()]
    assert len(masked) > 3
    table = marks_from_masks(cells, (16, 16), "nucleus")
    assert set(table["cell_id"]) <= set(masked["cell_id"])
    inside = table[table["mark"] == "this"]["patch"].to_numpy(int)
    rows, columns = np.divmod(inside, 16)
    assert 4 < rows.mean() < 11  # nuclei lie in the middle of the cropped cells
    assert 4 < columns.mean() < 11
    with pytest.raises(CytosaeError, match="no cell has a mask"):
        marks_from_masks(CELLS, (16, 16))
