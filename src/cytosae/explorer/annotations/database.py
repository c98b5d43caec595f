"""Where annotations are kept: an SQLite file in the study, or any other database that SQLAlchemy can reach."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, make_url, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from cytosae.artefacts import Manifest, reading_hdf5
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations.tables import SCHEMA, About, Base
from cytosae.storage import StoredPath

FILE = "annotations.sqlite"
WAIT = 30.0  # seconds for which a writer waits for another
_LOCK = 0x637974  # of PostgreSQL, held while the tables are made


class Unknown(LookupError):
    """A data set, latent, worklist or item that is not there."""


class Database:
    """Annotations of the latents of one autoencoder. Tables are made on first use.

    Parameters
    ----------
    address
        Of SQLAlchemy, such as ``sqlite:////study/annotations.sqlite`` or ``postgresql://host/name``.
    sae
        Digest of the autoencoder; a database of another one is refused, since its latents mean other things.
    datasets
        Number of latents by data set, where known: annotations of others are refused.

    Raises
    ------
    CytosaeError
        Not an address, no driver for it, no connection, other people's tables, another autoencoder, a later version.

    Notes
    -----
    SQLite is run with a write-ahead log and ``synchronous=FULL``: what has been committed is on the disk. Writers take
    the lock when they begin, and wait for one another.
    """

    def __init__(self, address: str | URL, sae: str, *, datasets: Mapping[str, int] | None = None) -> None:
        self.sae, self.datasets = sae, datasets
        self.url = _url(address)
        self._read = self._write = self._engine()
        if self.url.get_backend_name() == "sqlite":
            self._write = self._read.execution_options(immediate=True)
        elif self.url.get_backend_name() == "postgresql":
            self._read = self._write.execution_options(isolation_level="REPEATABLE READ")
        try:
            self._prepare()
        except SQLAlchemyError as error:
            self.close()
            raise CytosaeError(f"{self.name}: cannot be opened ({_reason(error)}). Check the address.") from error
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The address without its password."""
        return self.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Close all connections."""
        self._read.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One state of the database, whatever is written meanwhile."""
        with Session(self._read, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Changes that are all on the disk when the block ends, or none of them after an error."""
        with Session(self._write, expire_on_commit=False) as session, session.begin():
            yield session

    def check(self, dataset: str, latent: int) -> None:
        """Raise `Unknown` where the study has no such data set or latent."""
        if self.datasets is None:
            return
        if dataset not in self.datasets:
            raise Unknown(f"There is no data set {dataset!r} in this study.")
        if not 0 <= latent < self.datasets[dataset]:
            raise Unknown(f"There is no latent {latent}; the autoencoder has {self.datasets[dataset]}.")

    def _engine(self) -> Engine:
        options: dict[str, Any] = {"pool_pre_ping": True}
        if sqlite := self.url.get_backend_name() == "sqlite":
            options = {"connect_args": {"timeout": WAIT}}
        try:
            engine = create_engine(self.url, **options)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise CytosaeError(f"{self.name}: no driver for this kind of database ({error}).") from error
        if sqlite:
            event.listen(engine, "connect", _configure)
            event.listen(engine, "begin", _begin)
        return engine

    def _prepare(self) -> None:
        """Make the tables where there are none; refuse those of others."""
        if self.url.get_backend_name() == "sqlite":
            self._log_ahead()
        with self._write.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            there = set(inspect(connection).get_table_names())
            if About.__tablename__ not in there:
                if foreign := sorted(there & set(Base.metadata.tables)):
                    raise CytosaeError(
                        f"{self.name}: has a table {foreign[0]!r} of another program. Choose a database of its own."
                    )
                Base.metadata.create_all(connection)
                about = {"version": SCHEMA, "sae": self.sae, "created": datetime.now(UTC)}
                connection.execute(insert(About), about)
            self._same(connection)

    def _same(self, connection: Connection) -> None:
        version, sae = connection.execute(select(About.version, About.sae)).one()
        if version > SCHEMA:
            raise CytosaeError(f"{self.name}: written by a later cytosae (tables {version}, here {SCHEMA}). Update it.")
        if sae != self.sae:
            raise CytosaeError(
                f"{self.name}: annotations of another autoencoder ({sae[:12]}) than that of the study "
                f"({self.sae[:12]}), whose latents mean other things. Name another database (--annotations), or move "
                "this one away."
            )

    def _log_ahead(self) -> None:
        """Switch to the write-ahead log; it stays in the file. SQLite does not wait for others here, so this does."""
        end = time.monotonic() + WAIT
        while True:
            try:
                with self._read.connect() as connection:
                    raw = connection.connection.dbapi_connection
                    assert isinstance(raw, sqlite3.Connection)
                    (mode,) = raw.execute("PRAGMA journal_mode=WAL").fetchone()
                break
            except (sqlite3.Error, DBAPIError) as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise CytosaeError(f"{self.name}: cannot be opened ({_reason(error)}).") from error
                time.sleep(0.05)
        if mode != "wal":
            raise CytosaeError(f"{self.name}: SQLite has to be a file on a local disk (its journal is {mode!r}).")


def default_address(study: Path) -> URL:
    """The SQLite file in a study's folder.

    Raises
    ------
    CytosaeError
        The study is at a URL, where two experts' files would take each other's place.
    """
    if isinstance(study, StoredPath):
        raise CytosaeError(
            f"{study}: annotations are not kept at a URL. Name a database with --annotations, such as "
            "postgresql://user@host/name or sqlite:////home/me/annotations.sqlite."
        )
    return URL.create("sqlite", database=str((study / FILE).absolute()))


def file_of(address: str | URL) -> Path | None:
    """The file of an SQLite address; None for other databases."""
    url = _url(address)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def open_database(study: Path, address: str | URL | None = None) -> Database:
    """The annotations of a study.

    Parameters
    ----------
    study
        A folder with finished concepts.
    address
        See `Database`; the study's own file if None.
    """
    folder = study / "concepts"
    manifest = Manifest.load(folder)
    if manifest is None or manifest.stage != "concepts":
        raise CytosaeError(f"{folder}: no finished concepts there. Run `cytosae run CELLS --study {study}` first.")
    sae = manifest.inputs["sae"]
    if not sae:
        raise CytosaeError(f"{folder}: does not say of which autoencoder its concepts are. Encode the cells again.")
    datasets = {name: _latents(folder / f"{file}.h5ad") for name, file in manifest.summary["files"].items()}
    return Database(address or default_address(study), sae, datasets=datasets)


def _latents(path: Path) -> int:
    """Number of latents in an AnnData file."""
    import h5py

    with reading_hdf5(path, "Run `cytosae encode` again."), h5py.File(path) as file:
        return int(file["X"].attrs["shape"][1])


def _url(address: str | URL) -> URL:
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise CytosaeError(
            f"--annotations {address}: not an address. Give one such as sqlite:////folder/annotations.sqlite or "
            "postgresql://user@host/name."
        ) from error
    return url.set(drivername="postgresql+psycopg") if url.drivername in {"postgres", "postgresql"} else url


def _reason(error: Exception) -> str:
    told = str(error.orig if isinstance(error, DBAPIError) else error).strip()
    return told.splitlines()[0] if told else type(error).__name__


def _configure(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # sqlite3 would begin late and unasked; `_begin` does it
    for setting in (f"busy_timeout={int(WAIT * 1000)}", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
