"""Parquet tables of every type, and listings as sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cytosae.cells import difference, list_cells, read_cells, write_cells
from cytosae.cells.columns import FILE_COLUMNS, READING_COLUMNS
from cytosae.errors import CytosaeError
from support.sources import columns_of, refusal, table

DAYS = ["1970-01-01", None, "1970-01-02"]


def parquet(folder: Path, **columns: Any) -> Path:
    """A Parquet table of these columns."""
    pq.write_table(pa.table({"path": ["a.png", "b.png", "c.png"], **columns}), folder / "t.parquet")
    return folder / "t.parquet"


@pytest.mark.parametrize(
    ("values", "text", "extra"),
    [
        (pa.array([7, None, 8]), ["7", None, "8"], [7, None, 8]),
        (pa.array([7.0, np.nan, 8.0], from_pandas=False), ["7", None, "8"], [7, None, 8]),
        (pa.array([7.5, 1.0, None]), ["7.5", "1.0", None], [7.5, 1.0, None]),
        (pa.array([2**63, 1, 2], pa.uint64()), [str(2**63), "1", "2"], [2**63, 1, 2]),
        (pa.array([True, None, False]), ["True", None, "False"], ["True", None, "False"]),
        (pa.array(["x", None, "y"]).dictionary_encode(), ["x", None, "y"], ["x", None, "y"]),
        (pa.array(["x", " ", "NA"], pa.large_string()), ["x", None, None], ["x", None, "NA"]),
        (pa.array([None, None, None]), [None] * 3, [None] * 3),
        (pa.array([0, None, 1], pa.date32()), DAYS, DAYS),
        (
            pa.array([0, None, 86_400], pa.timestamp("s")),
            ["1970-01-01", None, "1970-01-02"],
            ["1970-01-01", None, "1970-01-02"],
        ),
        (pa.array([1, 2, None], pa.decimal128(5, 1)), ["1", "2", None], [1, 2, None]),
    ],
)
def test_parquet_of_every_type(folder: Path, values: Any, text: list[Any], extra: list[Any]) -> None:
    cells = list_cells(parquet(folder, patient=values, extra=values)).cells
    assert columns_of(cells, "patient", "extra") == [text, extra]
    write_cells(cells, folder / "out.parquet")
    again = read_cells(folder / "out.parquet")
    assert difference(cells, again) is None
    assert columns_of(again, "patient", "extra") == [text, extra]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1], [2], [3]]),
        pa.array([{"a": 1}] * 3),
        pa.array([b"x", b"y", b"z"]),
        pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2)),
        pa.array(["a\0b", "c", "d"]),
    ],
)
def test_columns_that_no_table_of_cells_can_keep(folder: Path, values: Any) -> None:
    message = refusal(parquet(folder, extra=values))
    assert "t.parquet" in message
    assert "'extra'" in message


def test_the_index_of_a_pandas_table_is_a_column(folder: Path) -> None:
    frame = pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "patient": ["1", "2", "3"]})
    frame.set_index("path").to_parquet(folder / "t.parquet")
    assert len(list_cells(folder / "t.parquet").cells) == 3
    frame[frame["patient"] != "2"].to_parquet(folder / "t.parquet")
    assert list(list_cells(folder / "t.parquet").cells.columns[8:]) == [*FILE_COLUMNS, *READING_COLUMNS]


def test_a_damaged_page_of_a_listing_is_found(folder: Path) -> None:
    write_cells(list_cells(folder).cells, folder / "cells.parquet")
    data = bytearray((folder / "cells.parquet").read_bytes())
    place = data.index(b"c.png")
    data[place] ^= 1
    (folder / "cells.parquet").write_bytes(data)
    with pytest.raises(CytosaeError, match="not a readable"):
        read_cells(folder / "cells.parquet")


def test_a_listing_is_a_source_itself(folder: Path) -> None:
    first = list_cells(table(folder, "path,patient,Width\na.png,007,3\nb.png,8,\n")).cells
    write_cells(first, folder / "cells.parquet")
    again = list_cells(folder / "cells.parquet", previous=first)
    assert difference(first, again.cells) is None
    assert again.inspected == 0
    assert list(again.cells.columns) == list(first.columns)
    assert not [remark for remark in again.remarks if "given_" in remark]
