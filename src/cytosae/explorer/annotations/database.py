"""Where annotations are kept: an SQLite file in the study, or any other database that SQLAlchemy can reach."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from cytosae.artefacts import ANNOTATIONS, Manifest, digest, reading_hdf5
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations.addresses import default_address, parsed, sqlite_file
from cytosae.explorer.annotations.tables import SCHEMA, About, Base, Mark
from cytosae.explorer.annotations.whereabouts import explore_command, former_folder, study_autoencoder

WAIT = 30.0  # seconds for which a writer waits for another
_LOCK = 0x637974  # of PostgreSQL, held while the tables are made

_DAMAGED, _BACKUP = "the database is damaged", "Put back a copy from before, and keep this file until you have one."


class Unknown(LookupError):
    """A data set, latent, worklist or item that is not there."""


class OtherAutoencoder(CytosaeError):
    """The judgements are of another autoencoder than the study's, whose latents mean other things."""


class Damaged(CytosaeError):
    """What stands in a row is not what is ever written there."""


class Database:
    """Annotations of the latents of one autoencoder. Tables are made on first use.

    Parameters
    ----------
    address
        Of SQLAlchemy, such as ``sqlite:////study/annotations.sqlite`` or ``postgresql://host/name``.
    study_sae
        Digest of the study's autoencoder. A database of another one can be read, but nothing is written into it. None
        where the study has none: whatever the database is of can be read.
    datasets
        Number of latents by data set, where known: annotations of others are refused.
    study
        Folder of the study, in which former autoencoders are looked for.
    read_only
        Change nothing: no tables are made, and those of an earlier version stay as they are.

    Attributes
    ----------
    sae
        Digest of the autoencoder whose latents the annotations are of.
    uid
        Names this database among all others; empty in one of version 1 that is only read.
    has_marks
        Whether it has a table of marks; not where one of an earlier version is only read.

    Raises
    ------
    CytosaeError
        Not an address, no driver for it, no connection, damaged, other people's tables, a later version.

    Notes
    -----
    SQLite is run with a write-ahead log and ``synchronous=FULL``: what has been committed is on the disk. Writers take
    the lock when they begin, and wait for one another.
    """

    sae: str
    uid: str
    has_marks: bool

    def __init__(
        self,
        address: str | URL,
        study_sae: str | None,
        *,
        datasets: Mapping[str, int] | None = None,
        study: Path | None = None,
        read_only: bool = False,
    ) -> None:
        self.study_sae, self.datasets, self._study, self._read_only = study_sae, datasets, study, read_only
        self.url = parsed(address)
        self._mode = "ro" if read_only else "rwc"
        self._read = self._write = self._engine()
        if self.url.get_backend_name() == "sqlite":
            self._write = self._read.execution_options(immediate=True)
        elif self.url.get_backend_name() == "postgresql":
            self._read = self._write.execution_options(isolation_level="REPEATABLE READ")
        try:
            self._prepare()
            self._mode = "ro" if read_only else "rw"  # a file that is moved away is not made anew
        except SQLAlchemyError as error:
            self.close()
            raise CytosaeError(f"{self.name}: {explained(error)}") from error
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The address without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def key(self) -> str:
        """Names the judgements that a browser may send here: those of this autoencoder in this database."""
        return digest([self.sae, self.uid])

    @property
    def is_foreign(self) -> bool:
        """Whether the annotations are of another autoencoder than the study's."""
        return self.study_sae is not None and self.sae != self.study_sae

    @property
    def notice(self) -> str | None:
        """Which autoencoder the annotations belong to, and how to open it; None if it is the study's own."""
        if not self.is_foreign or self.study_sae is None:
            return None
        file = sqlite_file(self.url)
        owner = (
            f"The annotations in {self.name if file is None else file.name} belong to autoencoder {self.sae[:12]}, "
            f"this study now has {self.study_sae[:12]}. They are kept and can be exported."
        )
        folder = None if self._study is None else former_folder(self._study, self.sae)
        if folder is None:
            return f"{owner} To annotate the concepts of this study, name another database with --annotations."
        elsewhere = file is None or file.resolve() != (folder / ANNOTATIONS).resolve()
        return f"{owner} Open the former one: {explore_command(folder, self.name if elsewhere else None)}"

    def check_autoencoder(self) -> None:
        """Raise `OtherAutoencoder` where the annotations are not of the study's latents."""
        if (notice := self.notice) is not None:
            raise OtherAutoencoder(notice)

    def close(self) -> None:
        """Close all connections."""
        self._read.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One state of the database, whatever is written meanwhile.

        Raises
        ------
        Damaged
            A row that cannot be read.
        """
        with Session(self._read, expire_on_commit=False) as session:
            try:
                yield session
            except (ValueError, TypeError, KeyError) as error:  # what stands in a column is not what is written there
                line = (str(error).splitlines() or [type(error).__name__])[0]
                raise Damaged(f"{self.name}: {_DAMAGED} (a row cannot be read: {line}). {_BACKUP}") from error

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Changes that are all on the disk when the block ends, or none of them after an error.

        Raises
        ------
        OtherAutoencoder
            The annotations are not of the study's latents, or the study was made anew since the database was opened.
        """
        self.check_autoencoder()
        if (file := sqlite_file(self.url)) is not None and not file.is_file():
            raise OtherAutoencoder(self._made_anew())
        with Session(self._write, expire_on_commit=False) as session, session.begin():
            if session.execute(select(About.sae, About.uid)).all() != [(self.sae, self.uid)]:
                raise OtherAutoencoder(self._made_anew())
            yield session

    def _made_anew(self) -> str:
        return (
            f"{self.name}: is not the database any more that was opened here; the study was made anew or moved. Nothing was "
            "written. Start `cytosae explore` again."
        )

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
            if (file := sqlite_file(self.url)) is not None:
                address = file.absolute().as_uri()
                options["creator"] = lambda: sqlite3.connect(
                    f"{address}?mode={self._mode}", uri=True, timeout=WAIT, check_same_thread=False
                )
        try:
            engine = create_engine(self.url, **options)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            advice = " Run `pip install 'cytosae[postgres]'`." if "postgresql" in self.url.drivername else ""
            raise CytosaeError(f"{self.name}: no driver for this kind of database ({error}).{advice}") from error
        if sqlite:
            event.listen(engine, "connect", _configure)
            event.listen(engine, "begin", _begin)
        return engine

    def _prepare(self) -> None:
        """Make the tables where there are none; refuse those of others."""
        sqlite = self.url.get_backend_name() == "sqlite"
        if sqlite and not self._read_only:
            self._log_ahead()
        with (self._read if self._read_only else self._write).begin() as connection:
            if connection.dialect.name == "postgresql" and not self._read_only:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            if sqlite and (fault := connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()) != "ok":
                raise CytosaeError(f"{self.name}: {_DAMAGED} ({' '.join(str(fault).split())}). {_BACKUP}")
            existing = set(inspect(connection).get_table_names())
            if About.__tablename__ not in existing:
                if foreign := sorted(existing & set(Base.metadata.tables)):
                    raise CytosaeError(
                        f"{self.name}: has a table {foreign[0]!r} of another program. Choose a database of its own."
                    )
                if self._read_only or self.study_sae is None:
                    raise CytosaeError(f"{self.name}: no annotations yet. Make some with `cytosae explore`.")
                Base.metadata.create_all(connection)
                about = {"version": SCHEMA, "sae": self.study_sae, "created": datetime.now(UTC), "uid": uuid4().hex}
                connection.execute(insert(About), about)
            self.sae, version = self._identified(connection)
            if version < SCHEMA and not self._read_only:
                _upgrade(connection, version)
                version = SCHEMA
            self.has_marks = version >= 3
            self.uid = "" if version < 2 else connection.execute(select(About.uid)).scalar_one()

    def _identified(self, connection: Connection) -> tuple[str, int]:
        """Autoencoder and version of the tables."""
        rows = connection.execute(select(About.version, About.sae)).all()
        if len(rows) != 1:
            raise CytosaeError(f"{self.name}: {_DAMAGED} (table {About.__tablename__} has {len(rows)} rows). {_BACKUP}")
        version, sae = rows[0]
        if version > SCHEMA:
            raise CytosaeError(f"{self.name}: written by a later cytosae (tables {version}, here {SCHEMA}). Update it.")
        return sae, version

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
                    raise CytosaeError(f"{self.name}: {explained(error)}") from error
                time.sleep(0.05)
        if mode != "wal":
            raise CytosaeError(f"{self.name}: SQLite has to be a file on a local disk (its journal is {mode!r}).")


def open_database(study: Path, address: str | URL | None = None) -> Database:
    """The annotations of a study, to be read and added to.

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
    return Database(address or default_address(study), sae, datasets=datasets, study=study)


def read_database(study: Path, address: str | URL | None = None) -> Database:
    """The annotations of a study as they are, whatever has become of its concepts; nothing can be written.

    Parameters
    ----------
    study, address
        See `open_database`.
    """
    return Database(address or default_address(study), study_autoencoder(study), study=study, read_only=True)


def _upgrade(connection: Connection, version: int) -> None:
    """Add what tables of an earlier version lack."""
    if version < 2:
        connection.exec_driver_sql(f"ALTER TABLE {About.__tablename__} ADD COLUMN uid VARCHAR(32) DEFAULT '' NOT NULL")
        connection.execute(update(About).values(uid=uuid4().hex))
    Base.metadata.create_all(connection, tables=[Base.metadata.tables[Mark.__tablename__]])
    connection.execute(update(About).values(version=SCHEMA))


def _latents(path: Path) -> int:
    """Number of latents in an AnnData file."""
    import h5py

    with reading_hdf5(path, "Run `cytosae encode` again."), h5py.File(path) as file:
        return int(file["X"].attrs["shape"][1])


def explained(error: Exception) -> str:
    """What a failure of the database means, and what to do."""
    reason = str(error.orig if isinstance(error, DBAPIError) else error).strip() or type(error).__name__
    reason = reason.splitlines()[0]
    if "locked" in reason:
        return f"locked by another program for {WAIT:.0f} seconds ({reason}). Close that program and try again."
    if "malformed" in reason or "corrupt" in reason:
        return f"{_DAMAGED} ({reason}). {_BACKUP}"
    if "unable to open" in reason or "readonly" in reason:
        return (
            f"cannot be opened for writing ({reason}). If its folder cannot be written, give another place: --annotations "
            "sqlite:////folder/annotations.sqlite"
        )
    return f"cannot be opened ({reason}). Check the address."


def _configure(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # sqlite3 would begin late and unasked; `_begin` does it
    for setting in (f"busy_timeout={int(WAIT * 1000)}", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
