"""Autoencoders that a study had before: each kept with all that was made of it, in a folder laid out as a study."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from cytosae.artefacts import WEIGHTS
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import tables
from cytosae.explorer.annotations.addresses import default_address, sqlite_file
from cytosae.explorer.annotations.database import read_database
from cytosae.explorer.annotations.whereabouts import FORMER, explore_command
from cytosae.storage import StoredPath


@dataclass(frozen=True)
class Former:
    """An autoencoder that the study had before.

    Attributes
    ----------
    digest
        First digits of the digest of its weights.
    folder
        A study of its own.
    trained
        When its weights were written; None where they are gone.
    judgements
        Their number; None where its database cannot be read.
    """

    digest: str
    folder: Path
    trained: datetime | None
    judgements: int | None

    @property
    def command(self) -> str:
        """Opens it in the explorer."""
        return explore_command(self.folder)


def former_studies(study: Path) -> list[Former]:
    """All autoencoders that a study had before, the latest first."""
    if isinstance(study, StoredPath) or not (study / FORMER).is_dir():
        return []
    listed = [_described(folder) for folder in (study / FORMER).iterdir() if folder.is_dir()]
    return sorted(listed, key=lambda one: (one.trained is None, -(one.trained or _START).timestamp(), one.digest))


_START = datetime.fromtimestamp(0, UTC)


def _described(folder: Path) -> Former:
    weights = folder / "sae" / WEIGHTS
    trained = datetime.fromtimestamp(weights.stat().st_mtime, UTC) if weights.is_file() else None
    return Former(folder.name, folder, trained, _judgements(folder))


def _judgements(folder: Path) -> int | None:
    file = sqlite_file(default_address(folder))
    if file is None or not file.is_file():
        return 0
    try:
        database = read_database(folder)
    except CytosaeError:
        return None
    try:
        with database.reading() as session:
            return session.scalars(select(func.count()).select_from(tables.Annotation)).one()
    except (CytosaeError, SQLAlchemyError):
        return None
    finally:
        database.close()
