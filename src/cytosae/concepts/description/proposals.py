"""What an image-text model proposes to call concepts, on disk beside the descriptions that are made of facts.

No example: needs a study whose cells are measured; `cytosae describe --describe-with` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cytosae.artefacts import MANIFEST, FileRecord, Manifest, claim, remove_outdated, whole_file
from cytosae.concepts.description.reading import description_inputs

PROPOSED, PROPOSALS = "proposed", "proposals.parquet"
"""Folder of a study with what a model proposes, name of the stage, and its file."""
PROPOSAL_COLUMNS = ("dataset", "latent", "phrase", "names", "detection", "shuffled", "model", "model_sha256")


def write_proposals(study: Path, table: pd.DataFrame, parameters: Mapping[str, Any], model_sha256: str) -> None:
    """Replace the proposals of a study by others, ``PROPOSAL_COLUMNS``; whole or not at all."""
    folder = study / PROPOSED
    claim(folder, PROPOSED, (PROPOSALS,))
    (folder / MANIFEST).unlink(missing_ok=True)
    with whole_file(folder / PROPOSALS) as temporary:
        table[[*PROPOSAL_COLUMNS]].to_parquet(temporary, index=False)
    outputs = {PROPOSALS: FileRecord.from_file(folder / PROPOSALS)}
    remove_outdated(folder, PROPOSED, outputs)
    inputs = {**description_inputs(study), "model": model_sha256}
    Manifest(PROPOSED, dict(parameters), inputs, outputs, {"proposed": len(table)}).save(folder)


def read_proposals(study: Path) -> pd.DataFrame | None:
    """A row for each data set and concept; None where nothing was proposed for the concepts that the study has now.

    Returns
    -------
    ``dataset``, ``latent``, ``phrase``, ``names`` (the facts that the phrase names, by semicolons; empty for none),
    ``detection`` and ``shuffled`` (AUROC on cells that the model was not shown, of this phrase and of another concept's; NaN
    where the phrase names no fact), ``model`` and ``model_sha256``.

    Raises
    ------
    CytosaeError
        The file was changed since.
    """
    folder = study / PROPOSED
    manifest = Manifest.load(folder)
    if manifest is None or not description_inputs(study).items() <= dict(manifest.inputs).items():
        return None
    manifest.check_output(folder, PROPOSALS, f"Run `cytosae describe {study} --describe-with MODEL` again.")
    return pd.read_parquet(folder / PROPOSALS)
