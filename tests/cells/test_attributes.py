"""Attributes of cells from tables beside them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cytosae.cells import list_cells, read_attributes
from cytosae.errors import CytosaeError
from support.sources import columns_of, table


def test_attributes_of_real_cells_are_joined_by_the_end_of_their_path(real_cells: Path) -> None:
    cells = pd.read_csv(real_cells / "cells.csv").sample(500, random_state=0)
    expected = pd.read_csv(real_cells / "pbc_attributes.csv", keep_default_na=False).set_index("path")
    cells = cells.assign(cell_id=[f"c{i}" for i in range(500)], key=cells["path"], path="/somewhere/" + cells["path"])
    found = read_attributes(real_cells / "pbc_attributes.csv", cells)
    assert found.shape == (500, 11)
    assert found.index.equals(cells.index)
    assert 150 < found["granularity"].notna().sum() < 400
    for key, row in zip(cells["key"], found.itertuples(), strict=True):
        if key in expected.index:
            assert row.nucleus_shape == expected.loc[key, "nucleus_shape"]
        else:
            assert pd.isna(row.nucleus_shape)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,granules\na,yes\nb,no\n", "no column 'cell_id' or 'path'"),
        ("cell_id,granules\nx,yes\ny,no\n", "none of its 2 rows"),
        ("cell_id,label\na,yes\nb,no\n", "has no attribute"),
        ("cell_id,always\na,yes\nb,yes\n", "has no attribute"),
    ],
)
def test_tables_that_are_no_attributes_of_these_cells(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    cells = pd.DataFrame({"cell_id": ["a", "b"], "path": ["/p/a.png", "/p/b.png"]})
    with pytest.raises(CytosaeError, match=words):
        read_attributes(tmp_path / "t.csv", cells)


def test_attributes_by_cell_id_keep_the_order_of_the_cells(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("cell_id,granules\nb,no\na,yes\n")
    cells = pd.DataFrame({"cell_id": ["a", "c", "b"], "path": [""] * 3}, index=[5, 6, 7])
    found = read_attributes(tmp_path / "t.csv", cells)
    assert found["granules"].tolist() == ["yes", pd.NA, "no"]
    assert found.index.tolist() == [5, 6, 7]


def test_attributes_with_spaces_and_capitals(folder: Path) -> None:
    cells = list_cells(folder).cells
    found = read_attributes(table(folder, "Cell_ID; granules\na.png; yes\nb.png; no\n"), cells)
    assert columns_of(found, "granules") == [["yes", "no", None]]
