"""Sources as people have them: tables of every program, folders of every shape, names of every kind."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from anndata.io import write_elem
from PIL import Image
from typer.testing import CliRunner

from cytosae.artefacts import write_csv
from cytosae.cells import (
    RESERVED,
    chosen_columns,
    difference,
    held_out,
    list_cells,
    read_attributes,
    read_cells,
    read_source,
    write_cells,
)
from cytosae.cells.columns import FILE_COLUMNS, READING_COLUMNS
from cytosae.cells.user_tables import read_table
from cytosae.cli.commands import app
from cytosae.concepts.storage import _obs
from cytosae.errors import CytosaeError
from cytosae.study import list_to
from support.sources import columns_of, picture, refusal, table

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three images, a.png, b.png and c.png."""
    for shade, name in enumerate("abc"):
        picture(tmp_path / f"{name}.png", shade)
    return tmp_path


LABELS = [["Stäbchen", "Blast"], ["007", "08"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " , "])
def test_tables_of_every_program_say_the_same(folder: Path, encoding: str, separator: str) -> None:
    rows = [["path", "label", "patient"], ["a.png", "Stäbchen", "007"], ["b.png", "Blast", "08"]]
    for end in ("\n", "\r\n", "\r"):
        text = end.join(separator.join(row) for row in rows) + end
        cells = list_cells(table(folder, text.encode(encoding))).cells
        assert columns_of(cells, "label", "patient") == LABELS


def test_cp1252_is_said(folder: Path) -> None:
    listing = list_cells(table(folder, "path;label\na.png;Stäbchen\n".encode("cp1252")))
    assert any("Windows-1252" in remark and "Stäbchen" in remark for remark in listing.remarks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path, label, patient\na.png, Stäbchen, 007\nb.png,  Blast ,08\n", LABELS),
        ('"path", "label", "patient"\n"a.png", "Stäbchen", "007"\n"b.png", "Blast", "08"\n', LABELS),
        ("Path , LABEL,Patient\na.png,Stäbchen,007\nb.png,Blast,08\n", LABELS),
        ("path,label,patient\na.png,Stäbchen,007,\nb.png,Blast,08,\n", LABELS),
        ("path,label,patient,\na.png,Stäbchen,007,\nb.png,Blast,08,\n", LABELS),
        ("path,label,patient\na.png,Stäbchen,007,,\nb.png,Blast,08\n", LABELS),
        ("sep=;\npath;label;patient\na.png;Stäbchen;007\nb.png;Blast;08\n", LABELS),
        ("\n\npath,label,patient\n\na.png,Stäbchen,007\n,,\nb.png,Blast,08\n\n", LABELS),
        ('path,label,patient\na.png,"x,\ny",007\nb.png,"say ""so""",08\n', [["x,\ny", 'say "so"'], ["007", "08"]]),
        ("path;label;patient\na.png;x,y;007\nb.png;z;08\n", [["x,y", "z"], ["007", "08"]]),
        ('"path" ,"label" , "patient"\n"a.png" , "Stäbchen" ,"007"  \nb.png,"Blast" ,"08" \n', LABELS),
        ('path,label,patient\na.png, "x" ,"a"" ,b" \nb.png,y, "" \n', [["x", "y"], ['a" ,b', None]]),
        ('path,"label; of a kind",label,patient\na.png,k,x,007\nb.png,k,y,08\n', [["x", "y"], ["007", "08"]]),
    ],
)
def test_a_table_is_read_as_a_person_reads_it(folder: Path, text: str, expected: list[list[str]]) -> None:
    cells = list_cells(table(folder, text)).cells
    assert columns_of(cells, "label", "patient") == expected
    assert [Path(path).name for path in cells["path"]] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,label\na.png,x\nb.png,y,z\nc.png\n", ["2 of 3 rows", "line 3 has 3", "line 4 has 1", "comma"]),
        ("path;label\na.png;x;y\n", ["line 2 has 3", "semicolon"]),
        ('path,label\na.png,"x\nb.png,y\n', ["line 2", "quote"]),
        ('path,label\na.png,"x"y\nb.png,y\n', ["line 2", "quote"]),
        ('path,label\na.png,"x" y\nb.png,y\n', ["line 2", "quote"]),
        ("path,label\na.png," + "x" * 140_000 + "\n", ["line 2", "more than 131,072 characters", "shorten"]),
        ("Our cells\npath,label\na.png,x\n", ["line 1 is 'Our cells'", "line 2 does", "Remove"]),
        ("# of May, 2024\n# by us\npath;label\na.png;x\n", ["line 1 is '# of May, 2024'", "line 3 does"]),
        ("# of May\n# by us\n\npath;label\na.png;1,5\n", ["line 1 is '# of May'", "line 4 does"]),
        ("Our cells\nhere,sort\na.png,x\n", ["2 of 2 rows", "line 1 ('Our cells') is a title or a comment"]),
        ("May, 2024\npath,label,k\na.png,x,1\n", ["line 1 is 'May, 2024'", "line 2 does"]),
        ("path,label\na.png,x\n./a.png,y\n", ["'a.png' and './a.png' are the same file", "cell_id"]),
        ("path,dataset\nb.png,A\nx/../b.png,A\n", ["'b.png' and 'x/../b.png' are the same file"]),
        ("path,label\na.png,x\na.png,y\n", ["more than once (a.png)"]),
        ("path,label,label\na.png,x,y\n", ["'label' occurs 2 times", "columns 2, 3"]),
        ("path,Label,LABEL\na.png,x,y\n", ["'Label', 'LABEL'", "capitals"]),
        ("path,label\na.png,x\0\n", ["zero byte in line 2"]),
        (b"\0" * 400, ["zero byte in line 1"]),
        (BOM, ["empty"]),
        ("path,label\n,\n", ["empty"]),
        (b"PK\x03\x04rest", ["Excel", "CSV UTF-8"]),
        (b"\xd0\xcf\x11\xe0rest", ["Excel", "CSV UTF-8"]),
        (BOM + b"\n<html><table><tr>", ["web page", "CSV UTF-8"]),
        ("path,label\na.png,é\nb.png,".encode() + b"\xe9\n", ["two encodings", "line 3"]),
        (b"path,label\na.png,\x81\n", ["0x81 in line 2"]),
        (b"\xff\xfep\0a\0t", ["UTF-16", "damaged"]),
        (gzip.compress(b"path\na.png\n", mtime=0)[:-9], ["not a readable"]),
        ("a.png,x\nb.png,y\n", ["no column 'path'", "a.png, x", "first line"]),
        ("path,label\n\na.png,x\n,y\n", ["line 4", "row 2 has no path"]),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(folder: Path, content: str | bytes, words: list[str]) -> None:
    message = refusal(table(folder, content))
    assert "t.csv" in message
    for word in words:
        assert word in message


def test_packed_tables_and_parquet_under_any_name(folder: Path) -> None:
    packed = table(folder, gzip.compress(b"path,patient\na.png,007\n", mtime=0), "t.csv.gz")
    assert list_cells(packed).cells["patient"].tolist() == ["007"]
    pd.DataFrame({"path": ["a.png"], "patient": ["007"]}).to_parquet(folder / "t.table")
    assert list_cells(folder / "t.table").cells["patient"].tolist() == ["007"]


def test_missing_values_are_the_same_wherever_they_stand(folder: Path) -> None:
    words = ["NA", "N/A", "nan", "NULL", "None", "-", "#N/A", "", "Nora", "none"]
    rows = "".join(f"a.png,{i},{word},{word},{word}\n" for i, word in enumerate(words))
    listing = list_cells(table(folder, "path,cell_id,label,patient,note\n" + rows))
    expected = [None] * 8 + ["Nora", "none"]
    assert columns_of(listing.cells, "label", "patient", "note") == [
        expected,
        expected,
        [word or None for word in words],
    ]
    assert any("label: 7 values count as missing" in remark for remark in listing.remarks)


@pytest.mark.filterwarnings("error")
def test_na_far_below_numbers_changes_no_number(tmp_path: Path) -> None:
    rows = "".join(f"{i}.png,{i},{i % 7}\n" for i in range(80_000))
    cells = read_source(table(tmp_path, f"path,patient,ward\n{rows}x.png,NA,NA\n"))
    assert cells["patient"].iloc[[0, -2]].tolist() == ["0", "79999"]
    assert pd.isna(cells["patient"].iloc[-1])
    assert str(cells["ward"].dtype) == "Int64"
    assert pd.isna(cells["ward"].iloc[-1])


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["1", "2", "3"], [1, 2, 3]),
        (["1", "", "3"], [1, None, 3]),
        (["1.5", "NA", "-2e3"], [1.5, None, -2000.0]),
        (["01", "2", "3"], ["01", "2", "3"]),
        (["+1", "-2", "0"], [1, -2, 0]),
        (["True", "False", "True"], ["True", "False", "True"]),
        (["12345678901234567890", "1", "2"], ["12345678901234567890", "1", "2"]),
        (["1_000", "2", "3"], ["1_000", "2", "3"]),
        (["1e5", "inf", "2"], ["1e5", "inf", "2"]),
        (["2024-05-01", "2024-05-02", ""], ["2024-05-01", "2024-05-02", None]),
    ],
)
def test_further_columns_are_numbers_only_where_all_are(folder: Path, written: list[str], read: list[Any]) -> None:
    rows = "".join(f"{name}.png,{value}\n" for name, value in zip("abc", written, strict=True))
    assert columns_of(list_cells(table(folder, f"path,extra\n{rows}")).cells, "extra") == [read]


@pytest.mark.parametrize("name", ["scan_id", "Slide ID", "batchId", "code", "barcode"])
def test_identifiers_are_text(folder: Path, name: str) -> None:
    assert list_cells(table(folder, f"path,{name}\na.png,12\nb.png,3\n")).cells[name].tolist() == ["12", "3"]


def test_decimal_commas(folder: Path) -> None:
    listing = list_cells(table(folder, "path;age;size\na.png;12,5;1,5 mm\nb.png;13;2\nc.png;NA;3\n"))
    assert columns_of(listing.cells, "age", "size") == [[12.5, 13.0, None], ["1,5 mm", "2", "3"]]
    assert any("12,5" in remark for remark in listing.remarks)


@pytest.mark.parametrize(
    ("separator", "written", "read", "said"),
    [
        (";", ["1.234,5", "12,25"], [1234.5, 12.25], "1.234,5 is read as a decimal number, 1234.5"),
        (";", ["1.234.567,5", "-12"], [1234567.5, -12.0], "1234567.5"),
        ("\t", ["1.234", "12,25"], [1234.0, 12.25], "12,25 is read"),
        (";", ["1,234.5", "12,25"], ["1,234.5", "12,25"], "stays text: '1,234.5'"),
        (";", ["1.23,5", "12,25"], ["1.23,5", "12,25"], "stays text: '1.23,5'"),
        (";", ["0.5", "12,25"], ["0.5", "12,25"], "stays text: '0.5'"),
        (";", ["01,5", "12,25"], ["01,5", "12,25"], "stays text: '01,5'"),
        (";", ["12,25", "about 5"], ["12,25", "about 5"], "stays text: 'about 5'"),
        (",", ["1.234,5", "12,25"], ["1.234,5", "12,25"], "stays text: '1.234,5'"),
        (";", ["round, dark", "pale"], ["round, dark", "pale"], None),
        (";", ["12.05.2024", "13.05.2024"], ["12.05.2024", "13.05.2024"], None),
    ],
)
def test_thousands_and_decimal_commas(
    folder: Path, separator: str, written: list[str], read: list[Any], said: str | None
) -> None:
    rows = [
        ["path", "area"],
        *(['"' + name + '.png"', f'"{value}"'] for name, value in zip("ab", written, strict=True)),
    ]
    listing = list_cells(table(folder, "".join(separator.join(row) + "\n" for row in rows)))
    assert columns_of(listing.cells, "area") == [read]
    told = [remark for remark in listing.remarks if "'area'" in remark]
    assert (len(told) == 1 and said in told[0]) if said else not told


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


def test_paths_as_other_systems_spell_them(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "Bär.png")  # composed
    picture(tmp_path / "images" / "a\\b.png")
    listing = list_cells(table(tmp_path, "path\nimages\\Bär.png\nimages/a\\b.png\nimages\\none.png\n"))
    assert listing.cells["cell_id"].tolist() == ["images/Bär.png", "images/a\\b.png"]
    assert listing.rejected["cell_id"].tolist() == ["images\\none.png"]
    assert any("another spelling" in remark for remark in listing.remarks)
    assert len(list_cells(table(tmp_path, "path\nimages/Ba\u0308r.png\n")).cells) == 1


ODD = [
    *(
        "a b.png",
        'quote".png',
        "'.png",
        "new\nline.png",
        "#1.png",
        "50%.png",
        "what?.png",
        "c:d.png",
        "-x.png",
        "=1+1.png",
    ),
    "é" * 125 + ".png",
]


def test_names_of_every_kind_pass_through_the_table(tmp_path: Path) -> None:
    for shade, name in enumerate(ODD):
        picture(tmp_path / "s" / name, shade)
    listing = list_cells(tmp_path / "s")
    assert sorted(listing.cells["cell_id"]) == sorted(ODD)
    write_cells(listing.cells, tmp_path / "s" / "cells.parquet")
    again = read_cells(tmp_path / "s" / "cells.parquet")
    assert difference(listing.cells, again) is None
    assert all(Path(path).is_file() for path in again["path"])
    write_csv(tmp_path / "s" / "t.csv", again[["path", "cell_id"]])
    assert difference(listing.cells, list_cells(tmp_path / "s" / "t.csv").cells.assign(dataset="s")) is None


def test_a_path_with_a_colon_and_slashes_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "C:" / "x.png")
    monkeypatch.chdir(tmp_path.parent)
    assert len(list_cells(table(tmp_path, "path\nC://x.png\n")).cells) == 1


def test_names_that_are_not_utf8_are_named(folder: Path) -> None:
    odd = os.fsencode(folder) + b"/Z\xe4hler.png"
    try:
        Path(os.fsdecode(odd)).write_bytes((folder / "a.png").read_bytes())
    except OSError:
        pytest.skip("this disk takes no such names")
    cells, figures = list_to(folder, folder / "out" / "cells.parquet")
    assert (len(cells), figures["rejected"]) == (3, 1)
    rejected = pd.read_csv(folder / "out" / "cells.rejected.csv")
    assert rejected["cell_id"].tolist() == ["Z\\xe4hler.png"]
    assert "not UTF-8" in rejected["reason"][0]
    assert "not UTF-8" in refusal(Path(os.fsdecode(odd)))


def test_two_data_sets_may_use_the_same_ids(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / name / "1.png")
    text = "path,cell_id,dataset\na/1.png,1,A\nb/1.png,1,B\n"
    listing = list_cells(table(tmp_path, text))
    assert listing.cells["cell_id"].tolist() == ["A/1", "B/1"]
    assert any("two data sets" in remark for remark in listing.remarks)
    assert "more than once" in refusal(table(tmp_path, text.replace(",B", ",A")))
    assert len(list_cells(table(tmp_path, "path,dataset\na/1.png,A\n./a/1.png,B\n")).cells) == 2
    assert len(list_cells(table(tmp_path, "path,cell_id\na/1.png,1\n./a/1.png,2\n")).cells) == 2


def shape(folder: Path, *names: str) -> tuple[dict[str, tuple[Any, Any]], str]:
    """Label and split of each image of a folder that holds these, and what was said."""
    for shade, name in enumerate(names):
        picture(folder / name, shade)
    listing = list_cells(folder)
    labels, splits = columns_of(listing.cells, "label", "split")
    return dict(zip(listing.cells["cell_id"], zip(labels, splits, strict=True), strict=True)), " ".join(listing.remarks)


def test_split_folders(tmp_path: Path) -> None:
    found, said = shape(tmp_path, "train/blast/0.png", "Train/mono/0.png", "VALID/blast/1.png", "holdout/mono/2.png")
    assert found == {
        "train/blast/0.png": ("blast", "train"),
        "Train/mono/0.png": ("mono", "train"),
        "VALID/blast/1.png": ("blast", "val"),
        "holdout/mono/2.png": ("mono", "test"),
    }
    assert "SPLIT/CLASS" in said
    assert "2 classes (blast, mono)" in said
    assert "train 2" in said


def test_split_below_class_and_below_one_folder_and_without_classes(tmp_path: Path) -> None:
    found, said = shape(tmp_path / "1", "blast/train/0.png", "mono/test/0.png")
    assert list(found.values()) == [("blast", "train"), ("mono", "test")]
    assert "CLASS/SPLIT" in said
    found, said = shape(tmp_path / "2", "images/train/blast/0.png", "images/dev/mono/0.png")
    assert list(found.values()) == [("mono", "val"), ("blast", "train")]
    found, said = shape(tmp_path / "3", "train/0.png", "test/1.png")
    assert list(found.values()) == [(None, "test"), (None, "train")]
    assert "SPLIT" in said
    assert "no classes" in said


def test_folders_that_are_not_consistent_keep_the_first_as_label(tmp_path: Path) -> None:
    found, said = shape(tmp_path / "1", "train/blast/0.png", "mono/0.png")
    assert set(found.values()) == {("train", None), ("mono", None)}
    assert "'train'" in said
    found, said = shape(tmp_path / "2", "blast/P1/0.png", "mono/P2/deep/0.png", "x.png")
    assert set(found.values()) == {("blast", None), ("mono", None), (None, None)}
    assert "2 images lie in folders below the class folder" in said
    assert "1 images lie in no class folder" in said
    found, said = shape(tmp_path / "3", "blast/0.png", "mono/0.png")
    assert said == ""


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    source = tmp_path / "s"
    picture(source / "a" / "1.png")
    picture(tmp_path / "else" / "2.png")
    picture(tmp_path / "else" / "deep" / "3.png")
    (source / "b").symlink_to(tmp_path / "else")
    (source / "B").symlink_to(tmp_path / "else")
    (source / "a" / "up").symlink_to(source)
    (source / "a" / "self").symlink_to(source / "a" / "self")
    (tmp_path / "else" / "back").symlink_to(tmp_path)
    (source / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (source / "linked.png").symlink_to(tmp_path / "else" / "2.png")
    os.mkfifo(source / "pipe.png")
    listing = list_cells(source)
    assert sorted(Path(path).name for path in listing.cells["path"]) == ["1.png", "2.png", "3.png", "linked.png"]
    assert {"B/2.png", "B/deep/3.png"} <= set(listing.cells["cell_id"])
    reasons = dict(zip(listing.rejected["cell_id"], listing.rejected["reason"], strict=True))
    assert "listed already" in reasons["b"]
    assert "folder above" in reasons["a/up"]
    assert "missing" in reasons["gone.png"]
    assert "regular" in reasons["pipe.png"]
    assert "a/self" in reasons


def test_every_file_is_a_cell_or_named(folder: Path) -> None:
    Image.new("RGB", (9, 9)).save(folder / "w.webp")
    Image.new("RGB", (9, 9)).save(folder / "j", format="JPEG")
    Image.new("RGB", (9, 9)).save(folder / "p.PNG~", format="PNG")
    Image.new("RGB", (9, 9)).save(folder / "camera.nef", format="TIFF")
    for name in (
        "notes.txt",
        "t.csv",
        "scan.dat",
        ".DS_Store",
        "Thumbs.db",
        "._a.png",
        "__MACOSX/x/a.png",
        ".git/b.png",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * 99)
    cells, figures = list_to(folder, folder / "out" / "cells.parquet")
    rejected = pd.read_csv(folder / "out" / "cells.rejected.csv").set_index("cell_id")["reason"]
    assert {"a.png", "b.png", "c.png", "j", "p.PNG~"} <= set(cells["cell_id"])
    named = set(cells["cell_id"]) | set(rejected.index)
    assert {"w.webp", "camera.nef", "notes.txt", "t.csv", "scan.dat"} <= named
    assert rejected["notes.txt"] == "not an image (.txt)"
    assert "TIFF" in rejected["camera.nef"]
    (hidden,) = [reason for reason in rejected if "hidden" in reason]
    assert "5 such" in hidden
    assert figures["reasons"]["not an image"] == 3
    assert figures["rejected"] == sum(figures["reasons"].values()) == len(rejected)


def test_what_was_left_out_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.txt").write_text("x")
    (folder / "d.png").write_bytes(b"")
    list_to(folder, folder / "out" / "cells.parquet")
    said = " ".join(capsys.readouterr().err.split())
    assert "2 left out (1 file is empty, 1 not an image)" in said
    with pytest.raises(CytosaeError, match=r"1 of 4 cells"):
        list_cells(folder, strict=True)
    (folder / "d.png").unlink()
    assert len(list_cells(folder, strict=True).cells) == 3  # a note beside the images is no unreadable cell


def test_a_closed_folder_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(folder / "shut" / "0.png")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_cells(folder)
    assert len(listing.cells) == 3
    assert listing.rejected["cell_id"].tolist() == ["shut"]
    assert "Permission denied" in listing.rejected["reason"][0]
    assert "Permission denied" in refusal(folder / "shut")


def test_figures_of_a_study_inside_the_source_are_no_cells(folder: Path) -> None:
    picture(folder / "study" / "report" / "figures" / "overview.png")
    (folder / "study" / "report" / "manifest.json").write_text('{"stage": "report", "cytosae": "1"}')
    listing = list_cells(folder)
    assert len(listing.cells) == 3
    assert listing.rejected["cell_id"].tolist() == ["study/report"]
    picture(folder / "own" / "d.png")
    for text in ("[]", "[" * 100_000, "9" * 5000):
        (folder / "own" / "manifest.json").write_text(text)
        assert len(list_cells(folder).cells) == 4


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "x.svg").write_bytes(b"<svg/>")
    message = refusal(tmp_path)
    assert "holds no image" in message
    assert "1 not an image (.svg)" in message


def test_splits_of_a_table_by_any_known_name(folder: Path) -> None:
    listing = list_cells(table(folder, "path,split\na.png,Training\nb.png,dev\nc.png,HoldOut\n"))
    assert held_out(listing.cells, 0.25, 0).tolist() == [False, True, True]
    assert not listing.remarks
    (said,) = list_cells(table(folder, "path,split\na.png,train\nb.png,tset\n")).remarks
    assert "tset is no known split" in said


def test_attributes_with_spaces_and_capitals(folder: Path) -> None:
    cells = list_cells(folder).cells
    found = read_attributes(table(folder, "Cell_ID; granules\na.png; yes\nb.png; no\n"), cells)
    assert columns_of(found, "granules") == [["yes", "no", None]]


def test_tables_for_people_are_known_by_excel_and_read_back(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", pd.DataFrame({"path": ["é"], "patient": ["007"]}))
    assert (tmp_path / "t.csv").read_bytes().startswith(BOM + b"path,")
    assert read_table(tmp_path / "t.csv").to_dict("list") == {"path": ["é"], "patient": ["007"]}
