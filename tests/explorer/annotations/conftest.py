"""Databases of annotations, in a file and in PostgreSQL, and a study to annotate."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from cytosae.concepts import encode
from cytosae.explorer.annotations import Database
from cytosae.sae import SAE
from cytosae.settings import BarcodeConfig
from cytosae.study import stages
from cytosae.tokens import TokenStore
from support.annotations import SAE_DIGEST, client_of, postgresql_programs


@pytest.fixture(scope="package")
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


@pytest.fixture
def client(database: Database) -> TestClient:
    return client_of(database)


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
