"""Which autoencoder a study has, and where it keeps those that it had before."""

from __future__ import annotations

import shlex
from pathlib import Path

from cytosae.artefacts import Manifest
from cytosae.errors import CytosaeError
from cytosae.storage import StoredPath

FORMER = "former"
"""Folder of a study with a folder for each autoencoder, named by the first digits of the digest of its weights."""
DIGITS = 12


def explore_command(folder: Path, address: str | None = None) -> str:
    """What to type to open a study, with a database of its own if one is named."""
    command = ["cytosae", "explore", str(folder), *(() if address is None else ("--annotations", address))]
    return shlex.join(command)


def study_autoencoder(study: Path) -> str | None:
    """Digest of the autoencoder of a study's concepts; None if they cannot be read."""
    try:
        manifest = Manifest.load(study / "concepts")
    except CytosaeError:
        return None
    return None if manifest is None or manifest.stage != "concepts" else manifest.inputs.get("sae")


def former_folder(study: Path, sae: str) -> Path | None:
    """Where a study keeps an autoencoder that it had before."""
    folder = study / FORMER / sae[:DIGITS]
    return folder if not isinstance(study, StoredPath) and sae and folder.is_dir() else None
