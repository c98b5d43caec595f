"""Addresses of databases: the SQLite file in the study, or whatever SQLAlchemy can reach."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from cytosae.artefacts import ANNOTATIONS
from cytosae.errors import CytosaeError
from cytosae.storage import StoredPath


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
    return URL.create("sqlite", database=str((study / ANNOTATIONS).absolute()))


def sqlite_file(address: str | URL) -> Path | None:
    """The file of an SQLite address; None for other databases."""
    url = parsed(address)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def parsed(address: str | URL) -> URL:
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise CytosaeError(
            f"--annotations {address}: not an address. Give one such as sqlite:////folder/annotations.sqlite or "
            "postgresql://user@host/name."
        ) from error
    return url.set(drivername="postgresql+psycopg") if url.drivername in {"postgres", "postgresql"} else url
