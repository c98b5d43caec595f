"""Autoencoders that a study had before: each kept with all that was made of it, in a folder laid out as a study."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cytosae.artefacts import WEIGHTS, Manifest
from cytosae.errors import CytosaeError
from cytosae.storage import StoredPath

FORMER = "former"
"""Folder of a study with a folder for each autoencoder, named by the first digits of the digest of its weights."""
DIGITS = 12


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


def explore_command(folder: Path, address: str | None = None) -> str:
    """What to type to open a study, with a database of its own if one is named."""
    command = ["cytosae", "explore", str(folder), *(() if address is None else ("--annotations", address))]
    return shlex.join(command)


def autoencoder_of(study: Path) -> str | None:
    """Digest of the autoencoder whose concepts a study has; None where they cannot be read."""
    try:
        manifest = Manifest.load(study / "concepts")
    except CytosaeError:
        return None
    return None if manifest is None or manifest.stage != "concepts" else manifest.inputs.get("sae")


def former_folder(study: Path, sae: str) -> Path | None:
    """Where a study keeps an autoencoder that it had before."""
    folder = study / FORMER / sae[:DIGITS]
    return folder if not isinstance(study, StoredPath) and sae and folder.is_dir() else None


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
    from sqlalchemy import func, select
    from sqlalchemy.exc import SQLAlchemyError

    from cytosae.explorer.annotations import tables
    from cytosae.explorer.annotations.database import default_address, file_of, read_database

    file = file_of(default_address(folder))
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
