"""Descriptions on disk.

No example: needs a study whose cells are measured; `cytosae describe` runs it.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cytosae.artefacts import Manifest, digest
from cytosae.concepts.storage import read_inputs, read_parameters
from cytosae.errors import CytosaeError
from cytosae.morphometry import MEASURED
from cytosae.settings import EncodeConfig, to_stored

DESCRIPTIONS = "descriptions"
"""Folder of a study with its descriptions, and name of the stage."""
SENTENCES, FACTS = "descriptions.parquet", "facts.parquet"


def description_inputs(study: Path) -> dict[str, str]:
    """Digests of what descriptions are made from, the table of attributes aside."""
    concepts = study / "concepts"
    encoded = digest({**to_stored(EncodeConfig()), **read_parameters(concepts)})  # also settings that are newer
    return {**read_inputs(concepts), "encoded": encoded, "measurements": _fingerprint(study / MEASURED)}


def _fingerprint(folder: Path) -> str:
    manifest = Manifest.load(folder)
    assert manifest is not None
    return manifest.fingerprint()


def read_descriptions(study: Path) -> pd.DataFrame:
    """A row per data set and concept: ``dataset``, ``latent``, ``description``, ``place``, ``patches``.

    Raises
    ------
    CytosaeError
        No descriptions, or a file that was changed since.
    """
    return _read(study, SENTENCES)


def read_facts(study: Path) -> pd.DataFrame:
    """The evidence, a row per fact: ``kind``, ``subject``, ``value``, ``null``, ``low``, ``q``, ``passes``, ``words``."""
    return _read(study, FACTS)


def _read(study: Path, name: str) -> pd.DataFrame:
    folder = study / DESCRIPTIONS
    manifest = Manifest.load(folder)
    if manifest is None or manifest.stage != DESCRIPTIONS:
        raise CytosaeError(f"{folder}: no descriptions there. Make them with `cytosae describe {study}`.")
    manifest.check_output(folder, name, f"Run `cytosae describe {study}` again.")
    return pd.read_parquet(folder / name)
