"""Annotations: nothing is lost by crashes or simultaneous writers, in any database."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import Database
from support.annotations import SAE_DIGEST, client_of, judgement, put
from support.explorer import free_port

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
            [sys.executable, "-c", WRITER, address, f"process {number}", str(times), str(windows)],
            stderr=subprocess.PIPE,
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
        wishes = [judgement(version=version, name=f"window {number}") for number in range(6)]
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda wish: client.put("/api/annotations", json=wish), wishes))
        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
        (won,) = [answer.json() for answer in answers if answer.status_code == 200]
        (there,) = client.get("/api/annotations").json()
        assert there == won
    new = [judgement(latent=40, name=f"window {number}") for number in range(6)]
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
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", SERVER, address, str(port)], stderr=subprocess.PIPE)
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
                wish = judgement(rater=rater, version=version, name=f"{rater} {version}", comment="c" * 500)
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
        answer = client.put("/api/annotations", json=judgement(version=1, name="waits"))
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
        answer = client.put("/api/annotations", json=judgement(dataset="pbc", latent=2, name="after"))
        assert answer.status_code == 409
        assert "made anew" in answer.json()["detail"]
        assert file.exists() == replaced
    with closing(Database(f"sqlite:///{former}/annotations.sqlite", SAE_DIGEST)) as database:
        assert client_of(database).get("/api/names").json()["1"]["name"] == "before"
    if replaced:
        with closing(Database(f"sqlite:///{file}", "e" * 64)) as database:
            assert client_of(database).get("/api/names").json() == {}
