"""Marks of taught concepts in the database: nothing is lost, in every kind of database, and in files."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import (
    Database,
    PlacedMark,
    current_marks,
    everything,
    export,
    mark_history,
    marks_agreement,
    save_marks,
    take,
)
from cytosae.teaching import read_marks, usable_marks
from support.annotations import SAE_DIGEST
from support.commands import ask_with_messages

START = datetime(2026, 1, 2, tzinfo=UTC)


def mark(number: int, patch: int = 3, said: str = "this", rater: str = "Anna", **others: str) -> PlacedMark:
    """A mark that was made so many seconds after the first."""
    time = START + timedelta(seconds=number)
    fields = {"uid": f"mark-{number:04}", "concept": "Auer rod", "dataset": "pbc", "cell": "cell 1", **others}
    return PlacedMark(patch=patch, mark=said, rater=rater, time=time, **fields)  # type: ignore[arg-type]


MARKS = [
    mark(0),
    mark(1, patch=4),
    mark(2, patch=-1, cell="cell 2"),
    mark(3, patch=4, said="none"),
    mark(4, said="not", rater="Ben"),
    mark(5, said="not", concept="=vacuole, 'clear'"),
    mark(6, patch=4, said="not"),
    mark(7, patch=9),
    mark(8, patch=9, said="none"),
]
HOLDING = [0, 2, 4, 5, 6]


def holding(database: Database, **only: object) -> list[PlacedMark]:
    with database.reading() as session:
        return current_marks(session, **only)  # type: ignore[arg-type]


def test_the_last_mark_of_a_place_holds_and_all_are_kept(database: Database) -> None:
    assert save_marks(database, MARKS[:4]) == 4
    assert save_marks(database, MARKS[2:]) == 5  # two were sent again
    assert save_marks(database, [MARKS[1]]) == 0  # a late answer undoes nothing
    assert holding(database) == [MARKS[place] for place in HOLDING]
    assert holding(database, concept="Auer rod", cell=("pbc", "cell 2")) == [MARKS[2]]
    with database.reading() as session:
        assert mark_history(session) == MARKS
    assert everything(database).model_dump()["marks"][2]["patch"] is None
    for attempt in ("UPDATE marks SET mark = 'not'", "DELETE FROM marks"):
        with pytest.raises(DBAPIError, match="only ever added"), database.writing() as session:
            session.execute(text(attempt))


def test_agreement_is_over_what_both_marked() -> None:
    both = [mark(i, patch=i, said="this" if i < 3 else "not") for i in range(5)]
    ben = [replace(one, rater="Ben", mark="not" if one.patch == 2 else one.mark) for one in both[1:]]
    ((raters, kappa, n, same),) = marks_agreement([*both, *ben, mark(9, patch=77, rater="Cleo")])
    assert (raters, n, same) == (("Anna", "Ben"), 4, 3)
    assert kappa == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))


def test_marks_in_files_are_inverse(database: Database, tmp_path: Path) -> None:
    save_marks(database, MARKS)
    assert export(database, tmp_path / "all.json")["marks"] == 9
    assert export(database, tmp_path / "marks.csv", marks=True)["marks"] == 6
    with closing(Database(f"sqlite:///{tmp_path}/a.sqlite", SAE_DIGEST)) as other:
        assert [take(other, tmp_path / "all.json").marks for _ in range(2)] == [9, 0]
        with other.reading() as session:
            assert mark_history(session) == MARKS
    with closing(Database(f"sqlite:///{tmp_path}/b.sqlite", SAE_DIGEST)) as other:
        save_marks(other, [MARKS[7]])
        assert [take(other, tmp_path / "marks.csv").marks for _ in range(2)] == [6, 0]
        assert holding(other) == [MARKS[place] for place in HOLDING]
        save_marks(other, [mark(20, said="none")])
        assert take(other, tmp_path / "marks.csv").marks == 0
        assert MARKS[0] not in holding(other)  # withdrawn stays withdrawn
    cells = pd.DataFrame({"cell_id": ["cell 1", "cell 2"]})
    first, _ = usable_marks(read_marks(tmp_path / "marks.csv"), cells, 16)
    assert (first.concept, first.counts()["this_cells"], first.counts()["not_patches"]) == ("Auer rod", 1, 1)
    with pytest.raises(CytosaeError, match=r"\.csv"):
        export(database, tmp_path / "marks.json", marks=True)


def test_a_table_made_elsewhere_is_read_twice_and_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("concept,cell_id,mark,patch\nAuer rod,cell 1,this,7\nAuer rod,cell 2,NOT,\n", encoding="utf-8")
    with closing(Database(f"sqlite:///{tmp_path}/a.sqlite", SAE_DIGEST, datasets={"pbc": 64})) as one:
        assert [take(one, path).marks for _ in range(2)] == [2, 0]
        assert [(m.dataset, m.cell, m.patch, m.mark, m.rater) for m in holding(one)] == [
            ("pbc", "cell 1", 7, "this", "unnamed"),
            ("pbc", "cell 2", -1, "not", "unnamed"),
        ]
        for content, words in (
            ("concept,cell_id,mark\nx,1,maybe\n", "mark 'maybe'"),
            ("concept,cell_id,mark,dataset\nx,1,this,urine\n", "no data set 'urine'"),
            (f"concept,cell_id,mark\n{'x' * 201},1,this\n", "row 1, concept"),
        ):
            path.write_text(content, encoding="utf-8")
            with pytest.raises(CytosaeError, match=words):
                take(one, path)
        assert len(holding(one)) == 2
    path.write_text("concept,cell_id,mark\nx,1,this\n", encoding="utf-8")
    with (
        closing(Database(f"sqlite:///{tmp_path}/b.sqlite", SAE_DIGEST, datasets={"a": 1, "b": 1})) as two,
        pytest.raises(CytosaeError, match="no column 'dataset'"),
    ):
        take(two, path)


def test_a_database_of_version_2_gets_the_table_and_is_only_read_until_then(study: tuple[Path, object]) -> None:
    from cytosae.explorer.annotations import open_database, read_database

    folder, _ = study
    open_database(folder).close()
    with closing(sqlite3.connect(folder / "annotations.sqlite")) as old:
        old.executescript("DROP TABLE marks; UPDATE cytosae SET version = 2;")
    with closing(read_database(folder)) as database:
        assert not database.has_marks
        assert len(database.uid) == 32
        assert everything(database).marks == []
    with closing(open_database(folder)) as database:
        assert database.has_marks
        save_marks(database, [mark(0, dataset="blood")])
    with closing(read_database(folder)) as database:
        assert len(holding(database)) == 1


def test_the_command_exports_and_imports_marks(study: tuple[Path, object], tmp_path: Path) -> None:
    from cytosae.explorer.annotations import open_database

    folder, _ = study
    with closing(open_database(folder)) as database:
        save_marks(database, [mark(0, dataset="blood"), mark(1, patch=5, dataset="bone marrow")])
    out = tmp_path / "marks.csv"
    said, _ = ask_with_messages("annotations", "export", folder, "-o", out, "--marks")
    assert said["marks"] == 2
    said, _ = ask_with_messages("annotations", "export", folder, "-o", out, "--marks")  # its own file is replaced
    again, _ = ask_with_messages("annotations", "import", folder, out)
    assert again["marks"] == 0
    assert json.dumps(said)
