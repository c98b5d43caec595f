"""Judgements of an autoencoder that a study had before: read and exported always, never mixed with those of another."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from cytosae.artefacts import Manifest
from cytosae.errors import CytosaeError
from cytosae.explorer import create_app
from cytosae.explorer.annotations import Database, default_address, former_studies, open_database, read_database
from cytosae.settings import CompareConfig
from support.annotations import SAE_DIGEST, client_of, judgement, make_list, put
from support.commands import ask_with_messages, assert_user_error, cytosae

OTHER = "ab12" * 16
run = partial(ask_with_messages, "annotations")
BEFORE_UID = "CREATE TABLE kept AS SELECT version, sae, created FROM cytosae"


def digest_of(folder: Path) -> str:
    """The autoencoder of a study's concepts."""
    manifest = Manifest.load(folder / "concepts")
    assert manifest is not None
    return str(manifest.inputs["sae"])


def judged(folder: Path, sae: str, *names: str) -> None:
    """Judgements of an autoencoder in a study's own file."""
    with closing(Database(default_address(folder), sae)) as database:
        client = client_of(database)
        for latent, name in enumerate(names):
            put(client, dataset="blood", latent=latent, verdict="meaningful", name=name, comment=name * 300)


@pytest.fixture
def replaced(study: tuple[Path, Any]) -> Path:
    """A study whose judgements are of another autoencoder."""
    folder, _ = study
    judged(folder, OTHER, "granules", "Auer rods")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_judgements_of_another_autoencoder_are_exported_and_summarised(replaced: Path, tmp_path: Path) -> None:
    before = (replaced / "annotations.sqlite").read_bytes()
    for ending in ("csv", "json"):
        figures, told = run("export", replaced, "-o", tmp_path / f"all.{ending}")
        assert figures["annotations"] == 2
        assert figures["autoencoder"] == OTHER[:12]
        assert f"belong to autoencoder {OTHER[:12]}, this study now has {digest_of(replaced)[:12]}" in told
    assert {row["sae"] for row in rows(tmp_path / "all.csv")} == {OTHER}
    assert json.loads((tmp_path / "all.json").read_text())["inputs"] == {"sae": OTHER}
    figures, told = run("summary", replaced)
    assert figures["autoencoder"] == OTHER[:12]
    assert [one["given"][0]["name"] for one in figures["worklists"][0]["names"]] == ["granules", "Auer rods"]
    assert OTHER[:12] in told
    assert (replaced / "annotations.sqlite").read_bytes() == before


def test_export_works_whatever_has_become_of_the_concepts(replaced: Path, tmp_path: Path) -> None:
    (replaced / "concepts" / "manifest.json").write_text("{", encoding="utf-8")
    assert run("export", replaced, "-o", tmp_path / "one.json")[0]["annotations"] == 2
    shutil.rmtree(replaced / "concepts")
    assert run("export", replaced, "-o", tmp_path / "two.json")[0]["annotations"] == 2
    assert run("summary", replaced)[0]["autoencoder"] == OTHER[:12]
    address = f"sqlite:///{replaced}/annotations.sqlite"
    assert run("export", tmp_path, "--annotations", address, "-o", tmp_path / "three.csv")[0]["annotations"] == 2


def test_names_of_another_autoencoder_are_not_applied(replaced: Path) -> None:
    files = {path: path.read_bytes() for path in (replaced / "concepts").iterdir()}
    done = cytosae("annotations", "apply", replaced, check=False)
    assert_user_error(done, "Nothing was applied", "other latents", OTHER[:12], "--annotations")
    (replaced / "former" / OTHER[:12]).mkdir(parents=True)
    done = cytosae("annotations", "apply", replaced, check=False)
    assert_user_error(done, f"{replaced}/former/{OTHER[:12]}", "cytosae explore")
    assert {path: path.read_bytes() for path in (replaced / "concepts").iterdir()} == files


def test_nothing_is_written_among_judgements_of_another_autoencoder(replaced: Path, tmp_path: Path) -> None:
    before = run("summary", replaced)[0]
    with closing(open_database(replaced)) as database:
        client = client_of(database)
        listed = {"title": "new", "items": [{"dataset": "blood", "latent": 1}]}
        answers = [
            client.put("/api/annotations", json=judgement(dataset="blood")),
            client.post("/api/worklists", json=listed),
            client.patch("/api/worklists/1", json={"title": "x"}),
        ]
        assert [answer.status_code for answer in answers] == [409] * 3
        assert {answer.json()["detail"] for answer in answers} == {database.notice}
        # of other latents: not shown beside those of the study, but exported
        assert client.get("/api/names").json() == {}
        assert client.get("/api/annotations?latent=0").json() == []
        assert client.get("/api/annotations/blood/0/history").json() == []
        assert len(client.get("/api/annotations/export").json()["annotations"]) == 2
    (tmp_path / "more.json").write_text(
        json.dumps({"format": "cytosae-annotations", "inputs": {"sae": SAE_DIGEST}}), encoding="utf-8"
    )
    with pytest.raises(CytosaeError, match="belong to autoencoder"):
        run("import", replaced, tmp_path / "more.json")
    assert run("summary", replaced)[0] == before


def test_a_study_without_judgements_says_where_the_former_ones_are(study: tuple[Path, Any]) -> None:
    folder, _ = study
    kept = folder / "former" / OTHER[:12]
    kept.mkdir(parents=True)
    judged(kept, OTHER, "granules")
    for command in ("summary", "export"):
        done = cytosae("annotations", command, folder, check=False)
        assert_user_error(done, "no annotations yet", f"{kept} (1 judgement)")
    assert not (folder / "annotations.sqlite").exists()
    judged(folder, digest_of(folder))
    assert str(kept) in run("summary", folder)[1]
    assert run("summary", kept)[0]["autoencoder"] == OTHER[:12]
    (kept / "annotations.sqlite").write_bytes(b"x" * 5000)
    (former,) = former_studies(folder)
    assert (former.digest, former.judgements) == (OTHER[:12], None)
    assert "not readable" in run("summary", folder)[1]


@pytest.mark.parametrize("command", ["summary", "export", "apply"])
def test_a_damaged_or_locked_database_is_named(
    study: tuple[Path, Any],
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = study
    judged(folder, digest_of(folder), *(f"name {number}" for number in range(12)))
    file = folder / "annotations.sqlite"
    arguments = [command, folder, *(["-o", tmp_path / "out.json"] if command == "export" else [])]
    whole = file.read_bytes()
    damages = {
        "not a database": b"x" * len(whole),
        "no annotations yet": b"",
        "damaged": whole[: len(whole) // 2],
        "damaged ": whole[:8192] + bytes(range(256)) * ((len(whole) - 8192) // 256),
    }
    for words, content in damages.items():
        file.write_bytes(content)
        with pytest.raises(CytosaeError, match=words.strip()):
            run(*arguments)
        assert file.read_bytes() == content
        assert not (tmp_path / "out.json").exists()
    file.write_bytes(whole)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("UPDATE annotations SET terms = '{' WHERE latent = 7")
        with pytest.raises(CytosaeError, match="damaged"):
            run(*arguments)
        other.execute("UPDATE annotations SET terms = '{}' WHERE latent = 7")
    monkeypatch.setattr("cytosae.explorer.annotations.database.WAIT", 0.1)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CytosaeError, match="locked"):
            run(*arguments)
    run(*arguments)


def test_a_database_of_an_earlier_version_opens_and_gets_a_name(study: tuple[Path, Any]) -> None:
    folder, _ = study
    judged(folder, digest_of(folder), "granules")
    with closing(sqlite3.connect(folder / "annotations.sqlite")) as old:
        old.executescript(
            f"{BEFORE_UID}; UPDATE kept SET version = 1; DROP TABLE cytosae; ALTER TABLE kept RENAME TO cytosae;"
        )
    with closing(read_database(folder)) as database:
        assert database.uid == ""
    assert run("summary", folder)[0]["worklists"][0]["items"] == 1
    keys = []
    for _ in range(2):
        with closing(open_database(folder)) as database:
            keys.append((database.uid, database.key))
            assert client_of(database).get("/api/names").json()["0"]["name"] == "granules"
    assert keys[0] == keys[1]
    assert len(keys[0][0]) == 32


def test_a_write_of_another_study_is_refused(tmp_path: Path) -> None:
    one, other = (Database(f"sqlite:///{tmp_path}/{name}.sqlite", SAE_DIGEST) for name in ("one", "other"))
    with closing(one), closing(other):
        assert one.key != other.key  # of one autoencoder, in two databases
        client = client_of(other)
        number = make_list(client, [3])["id"]
        asked = [
            ("put", "annotations", judgement()),
            ("post", "worklists", {"title": "t", "items": [{"dataset": "pbc", "latent": 1}]}),
            ("patch", f"worklists/{number}", {"title": "t"}),
            ("get", "names", None),
        ]
        for method, path, body in asked:
            sent = {key: client.request(method, f"/api/{path}", json=body, headers={"Cytosae-Study": key}) for key in
                    (one.key, other.key)}  # fmt: skip
            assert sent[one.key].status_code == 409
            assert "another study" in sent[one.key].json()["detail"]
            assert "current" not in sent[one.key].json()
            assert sent[other.key].status_code in {200, 201}


def test_unsent_judgements_are_imported_into_the_worklist_that_is_there(tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/a.sqlite", SAE_DIGEST)) as database:
        work = make_list(client_of(database), [3, 4])
        place = {"worklist": work["uid"], "dataset": "pbc", "rater": "Anna", "history": []}
        file = {"format": "cytosae-annotations", "cytosae": "1", "inputs": {"sae": SAE_DIGEST}, "worklists": []}
        said_late = [{**place, "latent": 4, "name": "late", "version": 1}]
        (tmp_path / "unsent.json").write_text(json.dumps({**file, "annotations": said_late}), encoding="utf-8")
        from cytosae.explorer.annotations import take

        assert take(database, tmp_path / "unsent.json").added == 1
        items = client_of(database).get(f"/api/worklists/{work['id']}?rater=Anna").json()["items"]
        assert [item["annotation"] and item["annotation"]["name"] for item in items] == [None, "late"]


# --- the explorer


@pytest.fixture
def explored(classified_study: Path, tmp_path: Path) -> Iterator[tuple[Path, TestClient]]:
    """A study with judgements of an autoencoder that it keeps in ``former/``, opened."""
    ignored = shutil.ignore_patterns("annotations.sqlite*")  # of other tests of the same process
    folder = Path(shutil.copytree(classified_study, tmp_path / "study", ignore=ignored))
    kept = folder / "former" / OTHER[:12]
    (kept / "sae").mkdir(parents=True)
    shutil.copyfile(folder / "sae" / "model.safetensors", kept / "sae" / "model.safetensors")
    judged(kept, OTHER, "granules", "Auer rods")
    judged(folder, OTHER, "granules")
    with TestClient(create_app(folder), base_url="http://127.0.0.1:8000") as client:
        yield folder, client


def test_the_explorer_opens_and_offers_the_former_autoencoder(
    explored: tuple[Path, TestClient], capfd: pytest.CaptureFixture[str]
) -> None:
    folder, client = explored
    about = client.get("/api/study").json()
    manifest = Manifest.load(folder / "concepts")
    assert manifest is not None
    now = manifest.inputs["sae"]
    place = f"cytosae explore {folder}/former/{OTHER[:12]}"
    assert about["annotations"]["autoencoder"] == OTHER
    assert about["annotations"]["study"] == now
    notice = about["annotations"]["notice"]
    assert notice.startswith(
        f"The annotations in annotations.sqlite belong to autoencoder {OTHER[:12]}, this study now has {now[:12]}. They "
        f"are kept and can be exported. Open the former one: {place}"
    )
    (former,) = about["former"]
    assert (former["digest"], former["command"], former["judgements"]) == (OTHER[:12], place, 2)
    assert former["trained"]
    answer = client.put("/api/annotations", json=judgement(dataset="synthetic", latent=1))
    assert (answer.status_code, answer.json()["detail"]) == (409, notice)
    assert "granules" in client.get("/api/annotations/export?format=csv").text
    other = f"sqlite:///{folder.parent}/new.sqlite"
    with TestClient(create_app(folder, annotations=other), base_url="http://127.0.0.1:8000") as own:
        assert own.get("/api/study").json()["annotations"]["notice"] is None
        assert own.put("/api/annotations", json=judgement(dataset="synthetic", latent=1)).status_code == 200


@pytest.mark.slow
def test_a_static_page_tells_no_paths(
    explored: tuple[Path, TestClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cytosae.explorer import cohorts, export, exporting

    folder, _ = explored
    monkeypatch.setattr(cohorts, "CompareConfig", lambda **given: CompareConfig(permutations=50, bootstrap=20, **given))
    monkeypatch.setattr(exporting, "MAPS", 2)
    monkeypatch.setattr(exporting, "COMPARED", 1)
    export(folder, tmp_path / "page", concepts=1)
    about = json.loads((tmp_path / "page" / "data" / "study.json").read_text())
    assert (about["annotations"], about["former"]) == (None, [])
    assert json.loads((tmp_path / "page" / "data" / "names.json").read_text()) == {}


def test_the_export_of_the_page_needs_the_token_and_is_a_file(explored: tuple[Path, TestClient]) -> None:
    folder, _ = explored
    with TestClient(create_app(folder, token="t" * 12), base_url="http://127.0.0.1:8000") as client:
        assert client.get("/api/annotations/export").status_code == 401
        for kind, begins in (("csv", b"\xef\xbb\xbfworklist,"), ("json", b"{")):
            answer = client.get(
                f"/api/annotations/export?format={kind}", headers={"Authorization": f"Bearer {'t' * 12}"}
            )
            assert answer.content.startswith(begins)
            assert answer.headers["content-disposition"] == f'attachment; filename="annotations-{OTHER[:12]}.{kind}"'
