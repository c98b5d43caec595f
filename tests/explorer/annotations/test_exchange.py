"""Annotations as files: export and import are inverse, and tables of other programs lose nothing silently."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from cytosae.artefacts import write_json
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import Database, everything, export, take
from cytosae.explorer.annotations.schemas import WorklistFile
from cytosae.explorer.annotations.tabular import from_csv
from cytosae.explorer.annotations.worklists import from_panel
from support.annotations import SAE_DIGEST, client_of, judgement, make_list, put


def filled(client: TestClient) -> int:
    """A database with something of everything; the number of its worklist."""
    number = int(make_list(client, [3, 5, 9], blind_raters=True, disease="AML")["id"])
    terms = {"inclusion": ["Auer rod", "vacuole"], "nucleus": ["cleaved"]}
    put(client, worklist=number, latent=5, verdict="meaningful", name="Auer rods", terms=terms, specific_for="AML")
    put(client, worklist=number, latent=5, version=1, verdict="artefact", name='="x";\r\n, "y"', comment="-1\r2\n\n3 ")
    put(client, worklist=number, latent=3, rater="Ben", name="'quoted", comment="ends\n")
    put(client, latent=5, name="@outside", verdict="cannot tell")
    put(client, latent=7, rater="Döhle", comment="'=2+2")
    return number


def test_a_file_that_names_no_autoencoder_is_taken_with_a_word(
    client: TestClient, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(client)
    export(database, tmp_path / "all.json")
    raw = json.loads((tmp_path / "all.json").read_text())
    del raw["inputs"]["sae"]
    (tmp_path / "all.json").write_text(json.dumps(raw))
    with closing(Database(f"sqlite:///{tmp_path}/other.sqlite", SAE_DIGEST)) as other:
        assert take(other, tmp_path / "all.json").added == 4
    assert "does not say of which autoencoder it is" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_export_and_import_are_inverse(client: TestClient, database: Database, tmp_path: Path, ending: str) -> None:
    filled(client)
    path, again = tmp_path / f"all.{ending}", tmp_path / f"again.{ending}"
    assert export(database, path) == {
        "file": str(path),
        "autoencoder": SAE_DIGEST[:12],
        "worklists": 1,
        "annotations": 4,
        "marks": 0,
    }
    with closing(Database(f"sqlite:///{tmp_path}/other.sqlite", SAE_DIGEST)) as other:
        make_list(client_of(other), [1])  # numbers of worklists differ from database to database
        before = everything(other)
        taken = take(other, path)
        assert (taken.worklists, taken.added, taken.conflicts) == (1, 4, [])
        for replace in (False, True):
            taken = take(other, path, replace=replace)
            assert (taken.worklists, taken.added, taken.unchanged, taken.replaced, taken.conflicts) == (0, 0, 4, 0, [])
        found = everything(other)
        here = everything(database)
        found.worklists.remove(before.worklists[0])
        if ending == "json":
            assert found == here
        else:
            keep = {"history"}
            assert [one.model_dump(exclude=keep) for one in found.annotations] == [
                one.model_dump(exclude=keep) for one in here.annotations
            ]
            assert [len(one.history) for one in found.annotations] == [1] * 4
            assert [(item.dataset, item.latent) for item in found.worklists[0].items] == [("pbc", 3), ("pbc", 5)]
    with closing(Database(f"sqlite:///{tmp_path}/third.sqlite", SAE_DIGEST)) as third:
        take(third, path)
        export(third, again)
    if ending == "json":
        assert again.read_bytes() == path.read_bytes()
    own = take(database, path)
    assert (own.added, own.unchanged) == (0, 4)


def test_a_table_for_spreadsheets_runs_no_formula(client: TestClient, database: Database, tmp_path: Path) -> None:
    filled(client)
    export(database, tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    frame = pd.read_csv(tmp_path / "all.csv", keep_default_na=False)
    assert frame["inclusion"].tolist() == [""] * 4  # the second version has no terms
    assert set(frame["sae"]) == {SAE_DIGEST}


def test_differences_are_reported_and_the_newer_wins_only_when_asked(file_database: Database, tmp_path: Path) -> None:
    client = client_of(file_database)
    put(client, latent=1, name="old here")
    put(client, latent=2, name="first")
    put(client, latent=2, version=1, name="newer here")
    put(client, latent=3, name="same")
    path = tmp_path / "other.json"
    with closing(Database(f"sqlite:///{tmp_path}/other.sqlite", SAE_DIGEST)) as other:
        theirs = client_of(other)
        put(theirs, latent=1, name="new there")  # the same version, later
        put(theirs, latent=2, name="older there")
        put(theirs, latent=3, name="same")
        put(theirs, latent=4, name="only there")
        export(other, path)
    before = client.get("/api/annotations/pbc/1/history").json()
    taken = take(file_database, path)
    assert (taken.added, taken.unchanged, taken.replaced) == (1, 1, 0)
    assert len(taken.conflicts) == 2
    assert "latent 1 of pbc, Anna" in taken.conflicts[0]
    assert client.get("/api/annotations?latent=1").json()[0]["name"] == "old here"
    assert client.get("/api/annotations/pbc/1/history").json() == before
    taken = take(file_database, path, replace=True)
    assert (taken.added, taken.unchanged, taken.replaced) == (0, 2, 1)
    assert [("older" in conflict, "latent 2" in conflict) for conflict in taken.conflicts] == [(True, True)]
    (one,) = client.get("/api/annotations?latent=1").json()
    assert (one["name"], one["version"]) == ("new there", 2)  # a window with version 1 is stale now
    after = client.get("/api/annotations/pbc/1/history").json()
    assert [row["name"] for row in after] == ["old here", "new there"]
    assert take(file_database, path, replace=True).replaced == 0
    assert client.put("/api/annotations", json=judgement(latent=1, version=1, name="stale")).status_code == 409


def test_files_that_do_not_fit_change_nothing(file_database: Database, tmp_path: Path) -> None:
    client = client_of(file_database)
    filled(client)
    export(file_database, tmp_path / "all.json")
    export(file_database, tmp_path / "all.csv")
    whole = json.loads((tmp_path / "all.json").read_text())
    rows = (tmp_path / "all.csv").read_text(encoding="utf-8")

    def broken(**changes: Any) -> Path:
        write_json(tmp_path / "broken.json", {**whole, **changes})
        return tmp_path / "broken.json"

    def deep() -> Path:
        (tmp_path / "broken.json").write_text("[" * 100_000)
        return tmp_path / "broken.json"

    def last(**changes: Any) -> list[dict[str, Any]]:
        return [*whole["annotations"][:-1], {**whole["annotations"][-1], **changes}]

    def as_csv(content: str) -> Path:
        (tmp_path / "broken.csv").write_text(content, encoding="utf-8")
        return tmp_path / "broken.csv"

    with closing(Database(f"sqlite:///{tmp_path}/other.sqlite", SAE_DIGEST, datasets={"pbc": 64})) as other:
        for make, words in (
            (lambda: broken(inputs={"sae": "e" * 64}), "another autoencoder"),
            (lambda: broken(format="x"), "not a file of"),
            (deep, "not a JSON file"),
            (lambda: broken(annotations=last(name="x" * 201)), r"annotations\.3\.name"),
            (lambda: broken(annotations=last(verdict="good")), "verdict"),
            (lambda: broken(annotations=last(latent=64)), "no latent 64"),
            (lambda: broken(annotations=last(dataset="urine")), "no data set 'urine'"),
            (lambda: broken(annotations=last(worklist="x")), "no worklist 'x'"),
            (lambda: broken(annotations=last(created="0001-01-01T00:00:00+14:00")), "created"),
            (lambda: broken(annotations=[*whole["annotations"], whole["annotations"][-1]], further=1), "further"),
            (lambda: as_csv(rows.replace("dataset", "data")), "no column 'dataset'"),
            (lambda: as_csv(rows.replace(SAE_DIGEST, "f" * 64, 1)), "several autoencoders"),
            (lambda: as_csv(rows.replace(SAE_DIGEST, "f" * 64)), "another autoencoder"),
            (lambda: as_csv(rows.replace("pbc,7,", "pbc,seven,")), "row 4, latent"),
            (lambda: tmp_path / "missing.json", "no such file"),
            (lambda: tmp_path / "missing.csv", "not a readable"),
        ):
            with pytest.raises(CytosaeError, match=words):
                take(other, make())
            found = everything(other)
            assert (found.worklists, found.annotations) == ([], []), words
    with pytest.raises(CytosaeError, match="ends in"):
        export(file_database, tmp_path / "all.xlsx")


TABLE = "dataset,latent,rater,verdict,name"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("dataset,latent,rater,verdict,name,name\npbc,1,A,meaningful,x,y\n", "two columns 'name'"),
        (f"{TABLE}\npbc,1,A,meaningful,Auer rods, faint\n", "row 1 has 6 fields and the header 5"),
        (f"{TABLE}\npbc,1,A,meaningful,x\npbc,2,An", "row 2 has 3 fields and the header 5"),
        (f'{TABLE}\npbc,4,A,meaningful,"unclosed\npbc,5,A,meaningful,x\n', "not a readable CSV"),
    ],
)
def test_a_table_of_judgements_loses_nothing_silently(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CytosaeError, match=words):
        from_csv(path)


@pytest.mark.parametrize(("separator", "encoding"), [(";", "cp1252"), ("\t", "utf-8"), (", ", "utf-8-sig")])
def test_a_table_of_judgements_that_another_program_saved(tmp_path: Path, separator: str, encoding: str) -> None:
    header, row = TABLE.replace(",", separator), "pbc,1,Jürgen,meaningful,granules".replace(",", separator.strip(" "))
    (tmp_path / "a.csv").write_bytes(f"{header}\n{row}\n\n".encode(encoding))
    (one,) = from_csv(tmp_path / "a.csv").annotations
    assert (one.rater, one.verdict, one.name) == ("Jürgen", "meaningful", "granules")


@pytest.mark.parametrize("title", ["   ", "x" * 300, "\u200b", "a\udcff"])
def test_a_title_that_could_not_be_exported_is_refused(title: str) -> None:
    content = {"format": "cytosae-worklist", "inputs": {"sae": SAE_DIGEST}, "items": [{"dataset": "pbc", "latent": 1}]}
    panel = WorklistFile.model_validate(content)
    with pytest.raises(CytosaeError, match="--title"):
        from_panel(panel, SAE_DIGEST, title=title)


def test_a_table_may_have_capitals_and_a_rater_two_forms_of_a_letter(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Dataset,Latent,Rater,Verdict\npbc,1,Mu\u0308ller,meaningful\n", encoding="utf-8")
    (one,) = from_csv(path).annotations
    assert (one.rater, one.verdict) == ("M\u00fcller", "meaningful")
    path.write_text("dataset,latent,rater\npbc,1,\u200b\n", encoding="utf-8")
    with pytest.raises(CytosaeError, match="a character that can be seen"):
        from_csv(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(CytosaeError, match="no column 'dataset'"):
        from_csv(path)
