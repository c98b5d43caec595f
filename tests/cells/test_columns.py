"""Columns of a table: names of every kind, and which is a known one."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import pyarrow.parquet as pq
import pytest
from anndata.io import write_elem
from typer.testing import CliRunner

from cytosae.cells import RESERVED, chosen_columns, held_out, list_cells, read_cells
from cytosae.cells.columns import FILE_COLUMNS, READING_COLUMNS
from cytosae.cli.commands import app
from cytosae.concepts.storage import _obs
from cytosae.errors import CytosaeError
from support.sources import columns_of, refusal, table


@pytest.mark.parametrize("name", [*sorted(RESERVED), "a/b", "/", ".", "..", "x\x01y"])
def test_taken_and_unstorable_names_get_another(folder: Path, name: str) -> None:
    listing = list_cells(table(folder, f"path,label,{name}\na.png,x,one\nb.png,y,two\n"))
    (kept,) = [column for column in listing.cells.columns if columns_of(listing.cells, column) == [["one", "two"]]]
    assert kept not in RESERVED
    assert any(repr(name) in remark and repr(kept) in remark for remark in listing.remarks)
    obs = _obs(listing.cells)
    import h5py

    with h5py.File(folder / "x.h5", "w") as file:
        write_elem(file, "obs", obs)
        assert ad.io.read_elem(file["obs"])[kept].tolist() == ["one", "two"]


def test_names_that_are_empty_or_meet_after_renaming(folder: Path) -> None:
    cells = list_cells(table(folder, ",path,a/b,a_b,given_width,width\n0,a.png,1,2,3,4\n1,b.png,5,6,7,8\n")).cells
    new = [name for name in cells.columns[8:] if name not in {*FILE_COLUMNS, *READING_COLUMNS}]
    assert new == ["column_1", "a_b_2", "a_b", "given_width", "given_width_2"]
    assert cells["width"].tolist() == [9, 9]
    assert cells.iloc[0][new].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ("path,cell_type", "label"),
        ("path,Cell Type", "label"),
        ("path,class", "label"),
        ("path,lable", "label"),
        ("path,labels", "label"),
        ("path,patient_id", "patient"),
        ("path,Patients", "patient"),
        ("path,subject", "patient"),
        ("path,Diagnose", "diagnosis"),
        ("path,data_set", "dataset"),
        ("path,cell-id", "cell_id"),
        ("filename,label", "path"),
        ("Image,label", "path"),
    ],
)
def test_a_column_that_may_be_a_known_one_is_asked_about(folder: Path, header: str, known: str) -> None:
    path = table(folder, f"{header}\na.png,1\nb.png,2\n")
    theirs = next(name for name in header.split(",") if name not in {"path", "label"})
    message = refusal(path)
    assert repr(theirs) in message
    assert f"{known}={theirs}" in message
    listing = list_cells(path, columns={known: theirs})
    expected = ["a.png", "b.png"] if known == "path" else ["1", "2"]
    assert [Path(value).name for value in listing.cells[known]] == expected
    assert theirs not in listing.cells
    if known != "path":
        kept = list_cells(path, columns={known: ""}).cells
        assert theirs in kept or f"given_{theirs}" in kept


def test_nobody_is_asked_where_the_known_column_is_there(folder: Path) -> None:
    cells = list_cells(table(folder, "path,label,cell_type,patient,patient_id\na.png,x,y,1,01\n")).cells
    assert columns_of(cells, "label", "given_cell_type", "patient", "patient_id") == [["x"], ["y"], ["1"], ["01"]]
    other = list_cells(folder / "t.csv", columns={"label": "cell_type", "cell_id": "path"}).cells
    assert columns_of(other, "label", "given_label", "cell_id") == [["y"], ["x"], ["a.png"]]


@pytest.mark.parametrize("word", ["label", "colour=x", "=x", ""])
def test_bad_choices_of_columns(word: str) -> None:
    with pytest.raises(CytosaeError, match="label=cell_type"):
        chosen_columns([word])


def test_columns_on_the_command_line(folder: Path) -> None:
    path = table(folder, "path,cell_type,age\na.png,x,1\nb.png,y,2\n")
    command = ["cells", str(path), "-o", str(folder / "out")]
    of_folder = ["cells", str(folder), "-o", str(folder / "out"), "--column", "label=x"]
    for wrong, words in (
        (command, "--column label="),
        ([*command, "--column", "label=ages"], "no such columns"),
        (of_folder, "is a folder"),
    ):
        with pytest.raises(CytosaeError, match=words):
            CliRunner().invoke(app, wrong, catch_exceptions=False)
    assert not (folder / "out" / "cells.parquet").exists()
    done = CliRunner().invoke(app, [*command, "--column", "label = cell_type", "--json"])
    assert done.exit_code == 0, done.output
    assert read_cells(folder / "out" / "cells.parquet")["label"].tolist() == ["x", "y"]
    stored = pq.read_schema(folder / "out" / "cells.parquet").metadata[b"cytosae"]
    assert json.loads(stored)["parameters"]["columns"] == {"label": "cell_type"}


def test_splits_of_a_table_by_any_known_name(folder: Path) -> None:
    listing = list_cells(table(folder, "path,split\na.png,Training\nb.png,dev\nc.png,HoldOut\n"))
    assert held_out(listing.cells, 0.25, 0).tolist() == [False, True, True]
    assert not listing.remarks
    (said,) = list_cells(table(folder, "path,split\na.png,train\nb.png,tset\n")).remarks
    assert "tset is no known split" in said
