"""Tables of every program, read as a person reads them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cytosae.artefacts import write_csv
from cytosae.cells import list_cells, read_source
from cytosae.cells.user_tables import read_table
from support.sources import columns_of, refusal, table

BOM = b"\xef\xbb\xbf"


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
        [*expected[:-1], None],
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


def test_tables_for_people_are_known_by_excel_and_read_back(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", pd.DataFrame({"path": ["é"], "patient": ["007"]}))
    assert (tmp_path / "t.csv").read_bytes().startswith(BOM + b"path,")
    assert read_table(tmp_path / "t.csv").to_dict("list") == {"path": ["é"], "patient": ["007"]}
