"""Annotations: every route, nothing lost by crashes or simultaneous writers, agreement, exchange, names in the study."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pandas as pd
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from cytosae.artefacts import FileRecord, Manifest, sha256_file, write_json
from cytosae.concepts import draw_panel, encode, encode_inputs, read_concepts
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import (
    VOCABULARY,
    Database,
    agreed_names,
    agreed_verdict,
    cohen_kappa,
    current_annotations,
    everything,
    export,
    fleiss,
    fleiss_kappa,
    from_comparison,
    majority,
    name_latents,
    open_database,
    pairwise,
    take,
)
from cytosae.explorer.annotations.routes import router
from cytosae.explorer.annotations.schemas import WorklistFile
from cytosae.explorer.annotations.tabular import from_csv
from cytosae.explorer.annotations.worklists import from_panel
from cytosae.sae import SAE
from cytosae.settings import BarcodeConfig, EncodeConfig
from cytosae.study import stages
from cytosae.tokens import TokenStore

SAE_DIGEST = "d" * 64
PYTHON = sys.executable


def postgresql_programs() -> Path | None:
    """Folder of initdb and pg_ctl, Debian's or another's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[4]))
    on_path = shutil.which("pg_ctl")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="module")
def cluster() -> Iterator[Callable[[], str]]:
    """Addresses of empty databases in a private PostgreSQL on a socket; it refuses to be run by root."""
    psycopg = pytest.importorskip("psycopg")
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("no PostgreSQL (initdb, pg_ctl) on this machine")
    user: list[str] = []
    home = Path(tempfile.mkdtemp(prefix="cytosae-pg-", dir="/tmp"))  # nobody cannot enter pytest's folders
    if os.geteuid() == 0:
        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no runuser")
        user = ["runuser", "-u", "nobody", "--"]
        shutil.chown(home, "nobody")

    def run(program: str, *arguments: str) -> None:
        command = [*user, str(programs / program), "-D", str(home / "data"), *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)

    try:
        run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        run("pg_ctl", "-w", "-l", f"{home}/log", "-o", f"-k {home} -c listen_addresses='' -c fsync=off", "start")
        numbers = count()

        def make() -> str:
            name = f"study{next(numbers)}"
            with psycopg.connect(host=str(home), user="postgres", dbname="postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            return f"postgresql://postgres@/{name}?host={home}"

        yield make
        run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that is not there yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/annotations.sqlite"
    return str(request.getfixturevalue("cluster")())


@pytest.fixture
def database(address: str) -> Iterator[Database]:
    with closing(Database(address, SAE_DIGEST, datasets={"pbc": 64, "bone/marrow": 64})) as opened:
        yield opened


@pytest.fixture
def file_database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/annotations.sqlite", SAE_DIGEST)) as opened:
        yield opened


def client_of(database: Database) -> TestClient:
    app = FastAPI()
    app.include_router(router(database))
    return TestClient(app)  # raises what a route raises: there is no 500 in these tests


@pytest.fixture
def client(database: Database) -> TestClient:
    return client_of(database)


def said(rater: str = "Anna", latent: int = 3, version: int = 0, **content: Any) -> dict[str, Any]:
    """An annotation as the browser sends it."""
    return {
        "worklist": None,
        "dataset": "pbc",
        "latent": latent,
        "rater": rater,
        "verdict": None,
        "name": "",
        "comment": "",
        "terms": {},
        "specific_for": None,
        "version": version,
        **content,
    }


def make_list(client: TestClient, latents: list[int], **settings: Any) -> dict[str, Any]:
    wish = {
        "title": "First look",
        "items": [{"dataset": "pbc", "latent": latent} for latent in latents],
        "blind_labels": False,
        "blind_raters": False,
        "disease": None,
        "source": "choice",
        **settings,
    }
    answer = client.post("/api/worklists", json=wish)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def put(client: TestClient, **content: Any) -> dict[str, Any]:
    answer = client.put("/api/annotations", json=said(**content))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


# --- routes


def test_a_worklist_from_its_making_to_its_summary(client: TestClient) -> None:
    made = make_list(client, [5, 3, 8], blind_labels=True, disease="PML_RARA")
    assert [(item["position"], item["latent"]) for item in made["items"]] == [(0, 5), (1, 3), (2, 8)]
    assert made["questions"][-1] == "Is it specific for PML_RARA?"
    number = made["id"]
    stored = put(
        client,
        worklist=number,
        latent=3,
        verdict="meaningful",
        name="Auer rods",
        comment="In most cells.\nNot in all.",
        terms={"inclusion": ["Auer rod", "faggot"], "cell_type": ["abnormal promyelocyte"]},
        specific_for="PML_RARA",
    )
    assert stored["version"] == 1
    assert stored["terms"] == {"inclusion": ["Auer rod", "faggot"], "cell_type": ["abnormal promyelocyte"]}
    put(client, worklist=number, latent=3, rater="Ben", verdict="artefact")
    put(client, worklist=number, latent=8, rater="Ben", name="only a name yet")

    (listed,) = client.get("/api/worklists").json()
    assert listed["items"] == 3
    assert listed["raters"] == {"Anna": 1, "Ben": 1}
    assert listed["blind_labels"] is True
    assert listed["source"] == "choice"

    opened = client.get(f"/api/worklists/{number}", params={"rater": "Anna"}).json()
    first, second, third = opened["items"]
    assert first["annotation"] is None
    assert first["others"] == []
    assert second["annotation"] == stored
    assert [other["rater"] for other in second["others"]] == ["Ben"]
    assert third["annotation"] is None
    assert third["others"][0]["name"] == "only a name yet"
    nobody = client.get(f"/api/worklists/{number}").json()
    assert [len(item["others"]) for item in nobody["items"]] == [0, 2, 1]

    summary = client.get("/api/summary", params={"worklist": number}).json()
    assert summary["items"] == 3
    assert summary["raters"] == [
        {"name": "Anna", "done": 1, "meaningful": 1, "artefact": 0, "cannot_tell": 0},
        {"name": "Ben", "done": 1, "meaningful": 0, "artefact": 1, "cannot_tell": 0},
    ]
    assert summary["meaningful"] == {"x": 0, "y": 1, "first_ten": {"x": 0, "y": 1}}  # a tie counts as not
    assert summary["specific"] == {"disease": "PML_RARA", "x": 0, "y": 1, "first_ten": {"x": 0, "y": 1}}

    changed = client.patch(f"/api/worklists/{number}", json={"title": "Second look"}).json()
    assert (changed["title"], changed["blind_labels"]) == ("Second look", True)


def test_annotations_names_and_history_outside_a_list(client: TestClient) -> None:
    put(client, latent=1, verdict="meaningful", name="Smudge cell")
    put(client, latent=1, rater="Ben", verdict="artefact", name="  smudge  CELL ")
    put(client, latent=1, rater="Cleo", verdict="meaningful", name="crushed", dataset="bone/marrow")
    put(client, latent=2, rater="Ben", name="one name")
    put(client, latent=2, rater="Anna", name="another")
    put(client, latent=4, verdict="cannot tell")
    put(client, latent=6, comment="neither name nor verdict")
    of_one = client.get("/api/annotations", params={"latent": 1}).json()
    assert [one["rater"] for one in of_one] == ["Anna", "Ben", "Cleo"]
    of_ben = client.get("/api/annotations", params={"rater": "Ben"}).json()
    assert [one["latent"] for one in of_ben] == [1, 2]
    assert len(client.get("/api/annotations").json()) == 7
    none = {"meaningful": 0, "artefact": 0, "cannot tell": 0}
    names = client.get("/api/names").json()
    assert {latent: {key: one[key] for key in ("name", "raters", "verdicts")} for latent, one in names.items()} == {
        "1": {"name": "Smudge cell", "raters": 3, "verdicts": {**none, "meaningful": 2, "artefact": 1}},
        "2": {"name": "one name", "raters": 2, "verdicts": none},  # a tie: the first
        "4": {"name": "", "raters": 1, "verdicts": {**none, "cannot tell": 1}},
    }
    assert names["1"]["given"] == [
        {"name": "Smudge cell", "raters": ["Anna", "Ben"]},
        {"name": "crushed", "raters": ["Cleo"]},
    ]
    of_cleo = client.get("/api/names?rater=Cleo").json()
    assert [(of_cleo[latent]["name"], of_cleo[latent]["own"]) for latent in "12"] == [
        ("Smudge cell", "crushed"),
        ("one name", ""),
    ]
    other = client.get("/api/annotations/bone%2Fmarrow/1/history").json()
    assert [row["name"] for row in other] == ["crushed"]
    outside = client.get("/api/summary").json()
    assert (outside["worklist"], outside["items"]) == (None, 5)


def test_every_change_is_in_the_history_and_stays_there(client: TestClient, database: Database) -> None:
    wanted = [
        {"name": "granules"},
        {"name": "granules", "verdict": "meaningful"},
        {"name": "Auer rods", "verdict": "meaningful", "terms": {"inclusion": ["Auer rod"]}, "comment": "sure"},
        {"verdict": "artefact", "specific_for": "PML_RARA"},
        {},
    ]
    for version, content in enumerate(wanted):
        answer = put(client, version=version, **content)
        assert answer["version"] == version + 1
    put(client, rater="Ben", name="Ben's")
    rows = client.get("/api/annotations/pbc/3/history").json()
    assert [row["version"] for row in rows if row["rater"] == "Anna"] == [1, 2, 3, 4, 5]
    for row, content in zip(rows, wanted, strict=False):
        assert {name: row[name] for name in content} == content
        blank = {"verdict": None, "name": "", "comment": "", "terms": {}, "specific_for": None, **content}
        assert {name: row[name] for name in blank} == blank
    times = [pd.Timestamp(row["time"]) for row in rows]
    assert times == sorted(times)
    assert abs(times[0] - pd.Timestamp.now(tz="UTC")) < pd.Timedelta("1min")
    for attempt in ("UPDATE history SET name = 'x'", "DELETE FROM history"):
        with pytest.raises(DBAPIError, match="only ever added"), database.writing() as session:
            session.execute(text(attempt))
    assert client.get("/api/annotations/pbc/3/history").json() == rows


def test_a_stale_version_is_refused_with_what_is_there(client: TestClient) -> None:
    put(client, name="first")
    second = put(client, version=1, name="second")
    for stale in (0, 1, 3):
        answer = client.put("/api/annotations", json=said(version=stale, name="lost update"))
        assert answer.status_code == 409
        assert answer.json()["current"] == second
        assert answer.json()["detail"]
    early = client.put("/api/annotations", json=said(latent=9, version=2))
    assert (early.status_code, early.json()["current"]) == (409, None)
    assert len(client.get("/api/annotations/pbc/3/history").json()) == 2
    assert put(client, version=2.0, name="third")["version"] == 3  # an integer, for JSON


def test_what_is_not_there_is_404_and_what_is_wrong_422(client: TestClient) -> None:
    number = make_list(client, [3])["id"]
    unknown = [
        client.get("/api/worklists/99"),
        client.get("/api/summary", params={"worklist": 99}),
        client.patch("/api/worklists/99", json={"title": "x"}),
        client.put("/api/annotations", json=said(worklist=99)),
        client.put("/api/annotations", json=said(worklist=number, latent=4)),
        client.put("/api/annotations", json=said(dataset="urine")),
        client.put("/api/annotations", json=said(latent=64)),
        client.get("/api/annotations/urine/3/history"),
        client.get("/api/annotations/pbc/64/history"),
        client.post("/api/worklists", json={"title": "x", "items": [{"dataset": "urine", "latent": 1}]}),
    ]
    assert [answer.status_code for answer in unknown] == [404] * len(unknown)
    item = {"dataset": "pbc", "latent": 1}
    wrong = [
        *(
            client.put("/api/annotations", json=said(**content))
            for content in (
                {"verdict": "good"},
                {"rater": ""},
                {"rater": "  "},
                {"version": "0"},
                {"version": -1},
                {"latent": -1},
                {"latent": 2**31},
                {"worklist": 2**63},
                {"name": "a\x00b"},
                {"terms": {"inclusion": ["Auer stick"]}},
                {"terms": {"colour": ["red"]}},
                {"terms": {"inclusion": "Auer rod"}},
            )
        ),
        client.put("/api/annotations", content=b'{"dataset": "\\ud800"}', headers={"content-type": "application/json"}),
        client.put("/api/annotations", content=b"{", headers={"content-type": "application/json"}),
        client.put("/api/annotations", json=[]),
        client.get("/api/annotations", params={"latent": "x"}),
        client.get("/api/annotations", params={"rater": "\x00"}),
        client.get("/api/annotations/pbc/x/history"),
        client.post("/api/worklists", json={"title": "x", "items": []}),
        client.post("/api/worklists", json={"title": "x", "items": [item, item]}),
        client.post("/api/worklists", json={"title": " ", "items": [item]}),
        client.post("/api/worklists/import", json={"format": "something"}),
    ]
    assert [answer.status_code for answer in wrong] == [422] * len(wrong)
    for answer in (*unknown, *wrong):
        assert set(answer.json()) == {"detail"}
        assert isinstance(answer.json()["detail"], str)
    assert client.get("/api/annotations").json() == []
    assert len(client.get("/api/worklists").json()) == 1


def test_texts_have_limits_and_are_stored_as_they_are(client: TestClient) -> None:
    limits = {"name": 200, "comment": 5000, "rater": 80}
    for place, (field, limit) in enumerate(limits.items()):
        assert client.put("/api/annotations", json=said(**{field: "x" * (limit + 1)})).status_code == 422, field
        assert put(client, latent=10 + place, **{field: "é" * limit})[field] == "é" * limit
    item = [{"dataset": "pbc", "latent": 1}]
    assert client.post("/api/worklists", json={"title": "t" * 201, "items": item}).status_code == 422
    assert client.post("/api/worklists", json={"title": "t" * 200, "items": item}).status_code == 201
    terms = list(VOCABULARY["cell_type"])
    assert client.put("/api/annotations", json=said(terms={"cell_type": [terms[0]] * 51})).status_code == 422
    for name in ("<script>alert(1)</script>", "'; DROP TABLE history; --", "Döhle ☃ 𝄞 {{7*7}}", '"\\'):
        version = client.get("/api/annotations", params={"latent": 7}).json()
        stored = put(client, latent=7, version=version[0]["version"] if version else 0, name=name, comment=name)
        assert (stored["name"], stored["comment"]) == (name, name)
        (again,) = client.get("/api/annotations", params={"latent": 7}).json()
        assert again == stored
    tagged = "<b>Eva</b>"
    put(client, latent=7, rater=tagged)
    assert client.get("/api/annotations", params={"rater": tagged}).json()[0]["rater"] == tagged


def test_blind_raters_are_sent_nothing_of_others_by_any_route(client: TestClient) -> None:
    number = make_list(client, [3, 4], blind_raters=True)["id"]
    put(client, worklist=number, verdict="meaningful", name="secret of Anna")
    put(client, worklist=number, rater="Ben", verdict="artefact", name="of Ben")
    addresses = [
        f"/api/worklists/{number}?rater=Ben",
        f"/api/worklists/{number}",
        "/api/annotations",
        "/api/annotations?rater=Ben",
        "/api/annotations?latent=3",
        "/api/annotations/pbc/3/history",
        "/api/annotations/pbc/3/history?rater=Ben",
        "/api/names",
        "/api/names?rater=Ben",
        "/api/annotations?latent=3&asking=Ben",
        "/api/annotations/export",
        "/api/annotations/export?format=csv&rater=Ben",
        f"/api/summary?worklist={number}&rater=Ben",
        f"/api/summary?worklist={number}",
        "/api/worklists",
    ]
    shown = {address: client.get(address).text for address in addresses}
    assert not [address for address, told in shown.items() if "secret" in told]
    assert [address for address, told in shown.items() if "of Ben" in told] == [a for a in addresses if "=Ben" in a]
    client.patch(f"/api/worklists/{number}", json={"blind_raters": False})
    told = [address for address in addresses if "secret" in client.get(address).text]
    assert told == [address for address in addresses[:-1] if address != "/api/annotations?rater=Ben"]


def test_a_single_rater_hides_nothing_from_the_only_rater(client: TestClient) -> None:
    number = make_list(client, [3], blind_raters=True)["id"]
    put(client, worklist=number, name="granules of Anna")
    for address in ("names", "annotations", f"summary?worklist={number}", "annotations/pbc/3/history"):
        joined = f"/api/{address}{'&' if '?' in address else '?'}"
        own = "asking" if address == "annotations" else "rater"
        assert "granules" in client.get(f"{joined}{own}=Anna").text
        assert "granules" in client.get(f"/api/{address}").text
        assert "granules" not in client.get(f"{joined}{own}=Ben").text  # who is about to judge
    put(client, latent=9, rater="Ben", verdict="artefact")
    assert "granules" not in client.get("/api/names").text
    assert client.get("/api/names?rater=Anna").json()["3"]["own"] == "granules of Anna"


def test_the_interface_is_described_exactly(file_database: Database) -> None:
    app = FastAPI()
    app.include_router(router(file_database))
    described = app.openapi()
    assert set(described["paths"]) == {
        "/api/worklists",
        "/api/worklists/import",
        "/api/worklists/{worklist}",
        "/api/annotations",
        "/api/annotations/export",
        "/api/annotations/{dataset}/{latent}/history",
        "/api/names",
        "/api/vocabulary",
        "/api/summary",
    }
    answers = described["paths"]["/api/annotations"]["put"]["responses"]
    assert set(answers) == {"200", "400", "404", "409", "422", "503"}
    assert answers["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
    request = described["components"]["schemas"]["AnnotationRequest"]
    assert set(request["properties"]) == set(said())
    assert request["properties"]["name"]["maxLength"] == 200
    assert (request["properties"]["latent"]["minimum"], request["properties"]["latent"]["maximum"]) == (0, 2**31 - 1)
    assert "Auer rod" in request["properties"]["terms"]["properties"]["inclusion"]["items"]["enum"]


def test_vocabulary_names_the_cells_once(client: TestClient) -> None:
    vocabulary = client.get("/api/vocabulary").json()
    assert list(vocabulary) == ["cell_type", "nucleus", "chromatin", "cytoplasm", "granules", "inclusion", "background"]
    for name, terms in vocabulary.items():
        assert len(terms) == len({term.casefold() for term in terms}), name
        assert all(0 < len(term) <= 50 and term == term.strip() and ";" not in term for term in terms)
    needed = {"myeloblast", "monoblast", "lymphoblast", "promyelocyte", "myelocyte", "metamyelocyte", "band neutrophil"}
    needed |= {"segmented neutrophil", "monocyte", "promonocyte", "plasma cell", "giant platelet", "smudge cell"}
    assert needed <= set(vocabulary["cell_type"])
    assert {"Auer rod", "faggot", "vacuole", "Döhle body", "Howell-Jolly body"} <= set(vocabulary["inclusion"])


# --- nothing is lost

WRITER = """
import sys, threading
from cytosae.explorer.annotations import Database, Plan, Stale, add, current_annotations, save_annotation
from cytosae.explorer.annotations.schemas import AnnotationRequest

address, name, times, windows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
database = Database(address, "d" * 64)
worklist, new = add(database, Plan("Ours", [("pbc", 1, {})], uid="the same for all"))

def write(window):
    for number in range(times):  # the same annotation as all others, from the version that is there
        while True:
            with database.reading() as session:
                there = current_annotations(session, latent=0, rater="shared")
            version = there[0].version if there else 0
            said = f"{name} {window} {number}"
            try:
                wish = {"dataset": "pbc", "latent": 0, "rater": "shared", "version": version, "name": said}
                save_annotation(database, AnnotationRequest(**wish))
                break
            except Stale:
                continue
        own = f"{name} {window}"
        wish = {"worklist": worklist, "dataset": "pbc", "latent": 1, "rater": own, "version": number}
        save_annotation(database, AnnotationRequest(**wish, name=f"{number}"))

windows = [threading.Thread(target=write, args=(window,)) for window in range(windows)]
[window.start() for window in windows]
[window.join() for window in windows]
"""


def test_raters_in_threads_and_processes_at_once_lose_nothing(address: str) -> None:
    processes, windows, times = 3, 2, 8
    running = [
        subprocess.Popen(
            [PYTHON, "-c", WRITER, address, f"process {number}", str(times), str(windows)], stderr=subprocess.PIPE
        )
        for number in range(processes)  # all of them make the tables, one succeeds
    ]
    for process in running:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors.decode()
    with closing(Database(address, SAE_DIGEST)) as database:
        client = client_of(database)
        rows = client.get("/api/annotations/pbc/0/history").json()
        total = processes * windows * times
        assert [row["version"] for row in rows] == list(range(1, total + 1))
        names = [f"process {p} {w} {n}" for p in range(processes) for w in range(windows) for n in range(times)]
        assert sorted(row["name"] for row in rows) == sorted(names)
        (shared,) = client.get("/api/annotations", params={"latent": 0}).json()
        assert (shared["version"], shared["name"]) == (total, rows[-1]["name"])
        own = client.get("/api/annotations", params={"latent": 1}).json()
        assert len(own) == processes * windows
        assert {(one["version"], one["name"]) for one in own} == {(times, str(times - 1))}
        (worklist,) = client.get("/api/worklists").json()  # made by all of them, there once
        assert {one["worklist"] for one in own} == {worklist["id"]}


def test_of_writers_who_saw_the_same_version_one_wins(client: TestClient) -> None:
    put(client, name="before")
    for version in range(1, 6):
        wishes = [said(version=version, name=f"window {number}") for number in range(6)]
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda wish: client.put("/api/annotations", json=wish), wishes))
        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
        (won,) = [answer.json() for answer in answers if answer.status_code == 200]
        (there,) = client.get("/api/annotations").json()
        assert there == won
    new = [said(latent=40, name=f"window {number}") for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda wish: client.put("/api/annotations", json=wish), new))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5


SERVER = """
import sys, uvicorn
from fastapi import FastAPI
from cytosae.explorer.annotations import Database
from cytosae.explorer.annotations.routes import router

app = FastAPI()
app.include_router(router(Database(sys.argv[1], "d" * 64)))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


def serve(address: str) -> tuple[subprocess.Popen[bytes], str]:
    """A server of annotations in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([PYTHON, "-c", SERVER, address, str(port)], stderr=subprocess.PIPE)
    base = f"http://127.0.0.1:{port}"
    with httpx.Client(timeout=60) as client:
        for _ in range(300):
            try:
                client.get(f"{base}/api/vocabulary")
                return server, base
            except httpx.TransportError:
                assert server.poll() is None, server.communicate()[1].decode()
                time.sleep(0.1)
    raise AssertionError("the server does not answer")


def test_what_was_acknowledged_survives_a_killed_server(address: str) -> None:
    server, base = serve(address)
    acknowledged: dict[str, list[dict[str, Any]]] = {f"rater {number}": [] for number in range(4)}
    enough = threading.Event()

    def annotate(rater: str) -> None:
        with httpx.Client(base_url=base, timeout=120) as client:
            for version in range(100_000):
                wish = said(rater=rater, version=version, name=f"{rater} {version}", comment="c" * 500)
                try:
                    answer = client.put("/api/annotations", json=wish)
                except httpx.TransportError:
                    return
                assert answer.status_code == 200, answer.text
                acknowledged[rater].append(answer.json())
                if min(map(len, acknowledged.values())) > 5 and sum(map(len, acknowledged.values())) > 120:
                    enough.set()  # SQLite lets some wait longer than others

    writers = [threading.Thread(target=annotate, args=(rater,)) for rater in acknowledged]
    try:
        for writer in writers:
            writer.start()
        assert enough.wait(300)
    finally:
        os.kill(server.pid, signal.SIGKILL)
    for writer in writers:
        writer.join(300)
    server.communicate()
    with closing(Database(address, SAE_DIGEST)) as database:
        client = client_of(database)
        rows = client.get("/api/annotations/pbc/3/history").json()
        current = {one["rater"]: one for one in client.get("/api/annotations").json()}
        for rater, answers in acknowledged.items():
            mine = [row for row in rows if row["rater"] == rater]
            assert [row["name"] for row in mine[: len(answers)]] == [answer["name"] for answer in answers]
            assert len(mine) <= len(answers) + 1  # the one that was under way may be there too, whole
            assert current[rater]["name"] == mine[-1]["name"]
            assert current[rater]["version"] == len(mine)
        put(client, rater="rater 0", version=current["rater 0"]["version"], name="goes on")


def test_sqlite_writes_ahead_and_waits_for_the_disk(file_database: Database, tmp_path: Path) -> None:
    with file_database.writing() as session:
        settings = {
            name: session.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 30_000, "foreign_keys": 1}
    with sqlite3.connect(tmp_path / "annotations.sqlite") as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_locked_database_is_no_error_of_the_server(file_database: Database, tmp_path: Path) -> None:
    client = client_of(file_database)
    put(client, name="before")
    with file_database.reading() as session:
        session.execute(text("PRAGMA busy_timeout=50"))  # of the one pooled connection
    with closing(sqlite3.connect(tmp_path / "annotations.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = client.put("/api/annotations", json=said(version=1, name="waits"))
        assert answer.status_code == 503
        assert "try again" in answer.json()["detail"]
        assert client.get("/api/annotations").json()[0]["name"] == "before"  # readers do not wait
        other.execute("ROLLBACK")
    assert put(client, version=1, name="after")["version"] == 2


def test_databases_that_are_not_for_this_study_are_refused(address: str, tmp_path: Path) -> None:
    Database(address, SAE_DIGEST).close()
    Database(address, SAE_DIGEST).close()
    with closing(Database(address, SAE_DIGEST)) as database, database.writing() as session:
        session.execute(text("UPDATE cytosae SET version = 99"))
    with pytest.raises(CytosaeError, match="later cytosae"):
        Database(address, SAE_DIGEST)
    foreign = tmp_path / "foreign.sqlite"
    with closing(sqlite3.connect(foreign)) as other:
        other.execute("CREATE TABLE history (x)")
    (tmp_path / "text.sqlite").write_text("not a database at all, only some text\n" * 100)
    for wrong, words in {
        f"sqlite:///{foreign}": "another program",
        f"sqlite:///{tmp_path}/text.sqlite": "not a database",
        f"sqlite:///{tmp_path}/no/folder/a.sqlite": "cannot be opened",
        "sqlite://": "file on a local disk",
        "annotations.sqlite": "not an address",
        "oracle://host/name": "no driver",
        "postgresql://user:secret@127.0.0.1:1/name": "cannot be opened",
    }.items():
        with pytest.raises(CytosaeError, match=words) as refused:
            Database(wrong, SAE_DIGEST)
        assert "secret" not in str(refused.value)


# --- agreement


def table(*rows: str) -> dict[str, dict[Any, str]]:
    """Verdicts by rater; a row has a letter for each item, a dot where there is none."""
    words = {"m": "meaningful", "a": "artefact", "c": "cannot tell"}
    return {
        f"rater {number}": {item: words[letter] for item, letter in enumerate(row) if letter != "."}
        for number, row in enumerate(rows)
    }


def test_majority_by_hand() -> None:
    #                        m  tie  m  c  -  m
    assert majority(table("mmmc.m", "mamc..", "mc..a.")) == (3, 6)
    assert majority(table("ma", "am")) == (0, 2)
    assert majority({}) == (0, 0)


def test_cohens_kappa_by_hand() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, by chance 0.5
    first = ["meaningful"] * 25 + ["artefact"] * 25
    second = ["meaningful"] * 20 + ["artefact"] * 5 + ["meaningful"] * 10 + ["artefact"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa([], []) is None
    assert cohen_kappa(["artefact"] * 3, ["artefact"] * 3) is None
    pairs = pairwise(table("mmaa.", "mmaam", "....m"))
    assert [(pair.kappa, pair.n) for pair in pairs] == [(pytest.approx(1), 4), (None, 0), (None, 1)]


def test_fleiss_kappa_is_that_of_the_paper_and_of_statsmodels() -> None:
    from statsmodels.stats.inter_rater import fleiss_kappa as reference

    published = [  # ten items, fourteen raters, five categories; 0.210
        *([0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]),
        *([7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]),
    ]
    assert fleiss_kappa(published) == pytest.approx(0.20993, abs=1e-5)
    rng = np.random.default_rng(0)
    for raters in (2, 3, 7):
        counts = rng.multinomial(raters, [0.5, 0.3, 0.2], size=30)
        assert fleiss_kappa(counts) == pytest.approx(reference(counts))
    assert fleiss_kappa([[3, 0, 0], [3, 0, 0]]) is None
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([[1, 1, 0], [3, 0, 0]])


def test_fleiss_takes_the_items_judged_by_the_most_usual_number() -> None:
    found = fleiss(table("mmaac.m", "mmama.c", "ma.....", "......m"))
    # by 2: items 2, 3, 4; by 3: 0, 1, 6
    assert found is not None
    assert (found.raters, found.items) == (3, 3)
    assert found.kappa == pytest.approx(fleiss_kappa([[3, 0, 0], [2, 1, 0], [2, 0, 1]]))
    assert fleiss(table("mm", "..")) is None
    constant = fleiss(table("mm", "mm"))
    assert constant == (None, 2, 2)


def test_summary_is_what_was_typed(file_database: Database) -> None:
    client = client_of(file_database)
    number = make_list(client, [*range(3, 8), *range(20, 26), *range(3)], disease="AML")["id"]
    typed = table("mmmmaac.", "mmmaaam.", "mm......")
    for rater, verdicts in typed.items():
        for latent, verdict in verdicts.items():
            specific = "AML" if latent < 2 or rater == "rater 0" else None
            put(client, worklist=number, latent=latent, rater=rater, verdict=verdict, specific_for=specific)
    put(client, latent=7, verdict="meaningful")  # outside the list: not counted
    summary = client.get(f"/api/summary?worklist={number}").json()
    assert summary["items"] == 14
    assert [tuple(rater.values()) for rater in summary["raters"]] == [
        ("rater 0", 7, 4, 2, 1),
        ("rater 1", 7, 4, 3, 0),
        ("rater 2", 2, 2, 0, 0),
    ]
    assert summary["meaningful"] == {"x": 3, "y": 7, "first_ten": {"x": 0, "y": 4}}
    assert summary["specific"] == {"disease": "AML", "x": 2, "y": 7, "first_ten": {"x": 0, "y": 4}}
    cohen = {tuple(pair["raters"]): (pair["kappa"], pair["n"]) for pair in summary["agreement"]["cohen"]}
    # rater 0 and 1 agree in 5 of 7; by chance (4 * 4 + 2 * 3 + 1 * 0) / 49
    assert cohen["rater 0", "rater 1"] == (pytest.approx((5 / 7 - 22 / 49) / (1 - 22 / 49)), 7)
    assert cohen["rater 0", "rater 2"] == (None, 2)
    assert summary["agreement"]["fleiss"]["items"] == 5
    assert summary["agreement"]["fleiss"]["raters"] == 2
    corrected = put(client, worklist=number, latent=0, rater="rater 0", version=1, verdict=None)
    assert corrected["verdict"] is None
    assert client.get(f"/api/summary?worklist={number}").json()["raters"][0]["done"] == 6


# --- files


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
    assert client.put("/api/annotations", json=said(latent=1, version=1, name="stale")).status_code == 409


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


# --- the study


@pytest.fixture
def study(make_store: Callable[..., TokenStore], tmp_path: Path) -> tuple[Path, TokenStore]:
    """A small study with two data sets, concepts and barcodes, and its tokens."""
    tokens = torch.randn(40, 7, 8, generator=torch.Generator().manual_seed(0))
    patients = [f"p{number % 6}" for number in range(40)]
    columns = {"dataset": ["blood"] * 22 + ["bone marrow"] * 18, "label": ["a", "b"] * 20, "patient": patients}
    store = make_store(tokens, **columns)
    sae = SAE(8, 64)
    sae.initialise(torch.Generator().manual_seed(0))
    folder = tmp_path / "a study"
    encode(store, sae, folder / "concepts")
    stages.barcodes(folder, BarcodeConfig()).update()
    return folder, store


def up_to_date(folder: Path, store: TokenStore) -> list[str]:
    """Stages that `cytosae run` would make again, with the reason."""
    manifest = Manifest.load(folder / "concepts")
    assert manifest is not None
    reason = manifest.why_stale(
        folder / "concepts", asdict(EncodeConfig()), encode_inputs(store, manifest.inputs["sae"])
    )
    stale = [] if reason is None else [f"concepts: {reason}"]
    again = stages.barcodes(folder, BarcodeConfig()).update()
    return stale + ([] if again["skipped"] else [f"cohort: {again['why']}"])


def contents(path: Path) -> dict[str, Any]:
    """Everything in an HDF5 file, names included."""
    found: dict[str, Any] = {}

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        value = repr(np.asarray(item[()]).tolist()) if isinstance(item, h5py.Dataset) else None
        found[name] = (value, {key: np.asarray(attribute).tolist() for key, attribute in item.attrs.items()})

    with h5py.File(path) as file:
        file.visititems(keep)
        found[""] = dict(file.attrs)
    return found


def test_names_go_into_the_concepts_and_the_study_stays_up_to_date(study: tuple[Path, TokenStore]) -> None:
    folder, store = study
    files = {name: folder / "concepts" / f"{name}.h5ad" for name in ("blood", "bone-marrow")}
    before = {name: contents(path) for name, path in files.items()}
    barcodes = sha256_file(folder / "cohort" / "barcodes.h5ad")
    assert up_to_date(folder, store) == []
    with closing(open_database(folder)) as database:
        client = client_of(database)
        for rater, verdict in (("Anna", "meaningful"), ("Ben", "meaningful"), ("Cleo", "artefact")):
            put(client, dataset="blood", latent=3, rater=rater, verdict=verdict, name="Döhle body")
        number = make_list(client, [5], items=[{"dataset": "bone marrow", "latent": 5}], blind_raters=True)["id"]
        put(client, worklist=number, dataset="bone marrow", latent=5, verdict="artefact")
        assert client.put("/api/annotations", json=said(dataset="blood", latent=64)).status_code == 404
        with database.reading() as session:
            names = agreed_names(current_annotations(session))
    assert name_latents(folder, names) == {"named": 1, "verdicts": 2, "files": 2}
    written = ["annotation", "verdict", "annotation_names"]
    assert up_to_date(folder, store) == []
    assert sha256_file(folder / "cohort" / "barcodes.h5ad") == barcodes
    for dataset, name in (("blood", "blood"), ("bone marrow", "bone-marrow")):
        var = read_concepts(folder / "concepts", dataset).var
        assert var["annotation"].dropna().to_dict() == {"3": "Döhle body"}
        assert var["verdict"].dropna().to_dict() == {"3": "meaningful", "5": "artefact"}
        assert not list((folder / "concepts").glob(".*"))
        after = contents(files[name])
        ours = {key for key in after if key.split("/")[0:2] in [["var", column] for column in written]}
        order = [after["var"][1].pop("column-order"), before[name]["var"][1].pop("column-order")]
        assert order[0] == [*order[1], *written]
        assert {key: value for key, value in after.items() if key not in ours} == before[name]

    digests = {name: sha256_file(path) for name, path in files.items()}
    assert name_latents(folder, names)["files"] == 0
    assert {name: sha256_file(path) for name, path in files.items()} == digests
    sizes = []
    for times in range(4):
        changed = {3: names[3].model_copy(update={"name": f"name {times}"})}
        assert name_latents(folder, changed) == {"named": 1, "verdicts": 1, "files": 2}
        sizes.append(files["blood"].stat().st_size)
    assert sizes[-1] == sizes[0], sizes
    var = read_concepts(folder / "concepts", "blood").var
    assert var["annotation"].dropna().to_dict() == {"3": "name 3"}
    assert name_latents(folder, {})["files"] == 2
    assert read_concepts(folder / "concepts", "blood").var["annotation"].isna().all()
    assert up_to_date(folder, store) == []

    with pytest.raises(CytosaeError, match="has 64 latents"):
        name_latents(folder, {64: names[3]})
    with files["bone-marrow"].open("ab") as file:
        file.write(b"x")
    with pytest.raises(CytosaeError, match="Encode the cells again"):
        name_latents(folder, {})


def test_the_agreed_verdict_is_that_of_more_than_half(file_database: Database) -> None:
    client = client_of(file_database)
    for rater, verdict in (("Anna", "meaningful"), ("Ben", "artefact")):
        put(client, latent=1, rater=rater, verdict=verdict)
    put(client, latent=1, rater="Ben", dataset="other", verdict="meaningful")  # the latest of a rater counts
    put(client, latent=2, rater="Anna", verdict="meaningful")
    put(client, latent=2, rater="Ben", verdict="artefact")
    with file_database.reading() as session:
        names = agreed_names(current_annotations(session))
    assert (names[1].raters, agreed_verdict(names[1]), agreed_verdict(names[2])) == (2, "meaningful", "")


def test_a_panel_becomes_a_worklist(study: tuple[Path, TokenStore], tmp_path: Path) -> None:
    folder, _ = study
    path = tmp_path / "panel.json"
    draw_panel(folder / "concepts", path, clusters=3, per_cluster=2, seed=7)
    panel = json.loads(path.read_text())
    with closing(open_database(folder)) as database:
        client = client_of(database)
        answer = client.post("/api/worklists/import", json=panel, params={"blind_raters": True})
        assert answer.status_code == 201
        made = answer.json()
        assert (made["title"], made["blind_raters"], made["blind_labels"]) == ("Panel, seed 7", True, False)
        assert made["questions"] == panel["questions"]
        order = [(item["dataset"], item["latent"]) for item in made["items"]]
        assert order == [(item["dataset"], item["latent"]) for item in panel["items"]]
        assert "cluster" not in answer.text
        again = client.post("/api/worklists/import", json=panel, params={"blind_raters": True}).json()
        assert again["id"] == made["id"]
        other = client.post("/api/worklists/import", json=panel, params={"title": "Open"}).json()
        assert other["id"] != made["id"]
        clusters = [item.about["cluster"] for item in everything(database).worklists[0].items]
        assert clusters == [item["cluster"] for item in panel["items"]]
        wrong = client.post("/api/worklists/import", json={**panel, "inputs": {"sae": "e" * 64}})
        assert wrong.status_code == 422
        assert "another autoencoder" in wrong.json()["detail"]
        unknown = [{**panel["items"][0], "dataset": "urine"}]
        assert client.post("/api/worklists/import", json={**panel, "items": unknown}).status_code == 404


def write_comparison(folder: Path, second: str = "PML_RARA") -> Path:
    """What `cytosae compare` leaves of eight latents."""
    folder.mkdir()
    difference = np.array([0.1, -0.5, 0.9, 0.0, -0.1, 0.3, 0.0, 0.2])
    favours = np.where(difference > 0, "CBFB_MYH11", np.where(difference < 0, second, ""))
    table = pd.DataFrame({"difference": difference, "favours": favours}).rename_axis("latent")
    table.to_csv(folder / "latents.csv")
    parameters = {"first": "CBFB_MYH11", "second": second, "target": "diagnosis", "adjust": None}
    outputs = {"latents.csv": FileRecord.from_file(folder / "latents.csv")}
    Manifest("comparison", parameters, {"barcodes": "b"}, outputs).save(folder)
    return folder


def test_a_comparison_becomes_a_worklist_for_each_group(tmp_path: Path) -> None:
    first, second = from_comparison(write_comparison(tmp_path / "both"), "pbc")
    assert [latent for _, latent, _ in first.items] == [2, 5, 7, 0]
    assert [latent for _, latent, _ in second.items] == [1, 4]
    assert first.items[1] == ("pbc", 5, {"rank": 1})
    assert (first.disease, second.disease) == ("CBFB_MYH11", "PML_RARA")
    assert first.questions[-1] == "Is it specific for CBFB_MYH11?"
    (only,) = from_comparison(write_comparison(tmp_path / "rest", "rest"), "pbc")
    assert only.disease == "CBFB_MYH11"
    with pytest.raises(CytosaeError, match="cytosae compare"):
        from_comparison(tmp_path, "pbc")


# --- command line


def test_annotations_from_the_command_line(
    study: tuple[Path, TokenStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cytosae.cli.commands import app

    folder, store = study

    def run(*arguments: object, code: int = 0) -> Any:
        done = CliRunner().invoke(app, ["annotations", *map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    with pytest.raises(CytosaeError, match="no annotations yet"):
        run("summary", folder)
    assert not (folder / "annotations.sqlite").exists()
    draw_panel(folder / "concepts", tmp_path / "panel.json", clusters=3, per_cluster=2)
    (made,) = run("import", folder, tmp_path / "panel.json", "--title", "Panel of Anna", "--json")["worklists"]
    assert made == {"worklist": 1, "title": "Panel of Anna", "items": 12, "new": True}
    (made,) = run("import", folder, tmp_path / "panel.json", "--title", "Panel of Anna", "--json")["worklists"]
    assert made["new"] is False
    write_comparison(tmp_path / "compared")
    lists = run("import", folder, tmp_path / "compared", "--dataset", "blood", "--json")["worklists"]
    assert [one["items"] for one in lists] == [4, 2]
    with pytest.raises(CytosaeError, match="blood, bone marrow"):
        run("import", folder, tmp_path / "compared")

    with closing(open_database(folder)) as database:
        client = client_of(database)
        item = client.get("/api/worklists/1").json()["items"][0]
        place = {"worklist": 1, "dataset": item["dataset"], "latent": item["latent"]}
        put(client, **place, verdict="meaningful", name="Auer rods")
        put(client, **place, rater="Ben", verdict="meaningful")
    assert "12 items, was there already" in run("import", folder, tmp_path / "panel.json", "--title", "Panel of Anna")
    run("export", folder, "-o", tmp_path / "all.json")
    with closing(open_database(folder)) as database:
        put(client_of(database), **place, version=1, verdict="artefact", name="smear")
    assert run("import", folder, tmp_path / "all.json", "--json", code=1)["unchanged"] == 1
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.sqlite"
    with pytest.raises(CytosaeError, match="no annotations yet"):
        run("apply", folder, "--annotations", elsewhere)
    taken = run("import", folder, tmp_path / "all.json", "--annotations", elsewhere, "--json")
    assert (taken["worklists"], taken["added"], taken["conflicts"]) == (3, 2, [])

    summary = run("summary", folder, "--json", "-o", tmp_path / "summary.json")
    assert json.loads((tmp_path / "summary.json").read_text()) == {"format": "cytosae-summary", **summary}
    first = summary["worklists"][0]
    assert (first["title"], first["meaningful"]) == ("Panel of Anna", {"x": 0, "y": 1, "first_ten": {"x": 0, "y": 1}})
    shown = run("summary", folder, "--worklist", 1, "--annotations", elsewhere)
    assert "1 Panel of Anna | meaningful" in shown
    assert "1 of 1" in shown
    with pytest.raises(CytosaeError, match="no worklist 9"):
        run("summary", folder, "--worklist", 9)
    with pytest.raises(CytosaeError, match="no worklist 99999999999999999999999"):
        run("summary", folder, "--worklist", 99999999999999999999999)

    assert run("apply", folder, "--annotations", elsewhere, "--json") == {"named": 1, "verdicts": 1, "files": 2}
    var = read_concepts(folder / "concepts", item["dataset"]).var
    assert var["annotation"].dropna().to_dict() == {str(item["latent"]): "Auer rods"}
    assert up_to_date(folder, store) == []


def test_annotations_are_read_without_loading_the_server() -> None:
    heavy = "[name for name in ('torch', 'uvicorn', 'pandas', 'sklearn') if name in sys.modules]"
    code = f"import sys, cytosae.explorer.annotations, cytosae.cli.annotations; print({heavy})"
    assert subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


TABLE = "dataset,latent,rater,verdict,name"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("dataset,latent,rater,Verdict\npbc,1,A,meaningful\n", "column 'Verdict'"),
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


@pytest.mark.parametrize("replaced", [False, True])
def test_a_database_that_was_moved_away_takes_no_judgement(tmp_path: Path, replaced: bool) -> None:
    file = tmp_path / "annotations.sqlite"
    with closing(Database(f"sqlite:///{file}", SAE_DIGEST)) as database:
        client = client_of(database)
        put(client, dataset="pbc", latent=1, name="before")
        former = tmp_path / "former"
        former.mkdir()
        for path in tmp_path.glob("annotations.sqlite*"):
            path.rename(former / path.name)
        if replaced:
            Database(f"sqlite:///{file}", "e" * 64).close()
        database._read.dispose()  # as a server that opens more connections
        answer = client.put("/api/annotations", json=said(dataset="pbc", latent=2, name="after"))
        assert answer.status_code == 409
        assert "made anew" in answer.json()["detail"]
        assert file.exists() == replaced
    with closing(Database(f"sqlite:///{former}/annotations.sqlite", SAE_DIGEST)) as database:
        assert client_of(database).get("/api/names").json()["1"]["name"] == "before"
    if replaced:
        with closing(Database(f"sqlite:///{file}", "e" * 64)) as database:
            assert client_of(database).get("/api/names").json() == {}
