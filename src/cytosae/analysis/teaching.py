"""Teach a study concepts: learn them from marks, keep them beside the autoencoder, and encode the cells with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from cytosae.analysis.teaching_views import make_views
from cytosae.analysis.viewing import study_tokens
from cytosae.artefacts import FileRecord, Manifest, claim, digest, sae_weights_digest
from cytosae.backbones import choose_device
from cytosae.cells import read_cells
from cytosae.cohort import CLASSIFICATION, COHORT
from cytosae.concepts import TAUGHT_FOLDER, read_taught
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.locks import locked
from cytosae.remembered import read_settings
from cytosae.sae import SAE
from cytosae.sae.taught import TAUGHT, Taught, check_frame, token_frame
from cytosae.settings import BarcodeConfig, EncodeConfig, TeachConfig, to_stored
from cytosae.study import stages
from cytosae.teaching import (
    NONE,
    VIEWS,
    Background,
    Learned,
    Learner,
    Views,
    joined_marks,
    read_marks,
    usable_marks,
    write_marks,
)
from cytosae.tokens import TokenSource

MARKS = "marks.csv"
"""All marks that a study was given, beside its taught concepts."""


def teach(
    study: Path,
    marks: pd.DataFrame | None = None,
    config: TeachConfig | None = None,
    *,
    taught: Path | None = None,
    remove: Sequence[str] = (),
    update: bool = True,
    device: str = "auto",
) -> dict[str, Any]:
    """Teach a study concepts.

    Leaves ``taught/taught.safetensors``, which can be shared, ``taught/marks.csv`` and, where cells were looked at turned
    and restained, ``taught/views.safetensors``; then encodes the cells again, so that counts, statistics, barcodes and the
    report have the taught concepts as further latents. The autoencoder stays as it is.

    Parameters
    ----------
    study
        Its folder.
    marks
        A table of marks (`cytosae.teaching.read_marks`); they are added to those that the study has. Concepts that it names
        are learned, anew where they were before.
    config
        Settings.
    taught
        File of taught concepts from another study of the same backbone, layer and frame.
    remove
        Names of taught concepts to remove. Their numbers stay, as those of silent latents; their marks stay as well.
    update
        False leaves the encoding to the next ``cytosae run``.
    device
        Where the backbone runs if tokens are not on disk, and the encoder.

    Returns
    -------
    Figures of each concept that was learned, the names of all taught concepts with their latents, and the figures of the
    stages that ran.

    Raises
    ------
    CytosaeError
        No such study; marks of another grid; a concept of which nothing is marked *this*; a file for other tokens; a name
        that is not there. Nothing is changed then.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    config = config or TeachConfig()
    for name in ("cells.parquet", "backbone.json"):
        if not (study / name).is_file():
            raise CytosaeError(f"{study / name}: missing. Give the folder of a finished study, made by `cytosae run`.")
    if taught is None and not remove and marks is None and read_taught(study) is None:
        raise CytosaeError(f"{study}: nothing to teach. Give marks, or a file of taught concepts.")
    choose_device(device)  # refused before anything is written
    with locked(study):
        own = SAE.from_pretrained(study / "sae")
        with study_tokens(study, device=device) as source:
            current = _current(study, source, own)
            for name in remove:
                current = current.without(name)
            if taught is not None:
                current = current.merged(_for_this_study(taught, current))
            known = _stored_marks(study)
            views = Views.load(study / TAUGHT_FOLDER / VIEWS, source.fingerprint)
            learned: list[Learned] = []
            if marks is not None:
                _check_say_something(marks, known)
                known = marks if known is None else joined_marks(known, marks)
                if config.views and views is None:
                    views = make_views(study, source, own, config, device)
                config = config if views is not None else replace(config, views=0)
                learned = _learn(source, own, known, marks, config, views if config.views else None)
                for concept in learned:
                    current = concept.add_to(current, config)
            inputs = {"tokens": source.fingerprint, "sae": sae_weights_digest(study / "sae")}
            _write(study / TAUGHT_FOLDER, current, known, views, config, inputs)
            result: dict[str, Any] = {
                "learned": {concept.concept: concept.details(config) for concept in learned},
                "taught": {name: own.n_latents + i for i, name in enumerate(current.names) if name},
                "file": f"{study / TAUGHT_FOLDER / TAUGHT}",
            }
            if update:
                result["stages"] = _updated(study, source, current, device)
            else:
                say(f"teach: counts, barcodes and report of {study} are as before. Left to do: `cytosae teach {study}`")
    return result


def _current(study: Path, source: TokenSource, own: SAE) -> Taught:
    """The taught concepts of a study as they are."""
    frame = token_frame(source.layout.backbone, own.position_offset)
    known = read_taught(study)
    if known is None:
        return Taught.empty(frame, own.d_model)
    _check_frame(study / TAUGHT_FOLDER / TAUGHT, known, frame)
    return known


def _for_this_study(path: Path, current: Taught) -> Taught:
    given = Taught.load(path)
    if not any(given.names):
        raise CytosaeError(f"{path}: has no taught concept.")
    _check_frame(path, given, current.frame)
    return given


def _check_frame(path: Path, given: Taught, frame: Mapping[str, Any]) -> None:
    try:
        check_frame(given.frame, frame)
    except CytosaeError as error:
        raise CytosaeError(f"{path}: {error}") from error


def _check_say_something(marks: pd.DataFrame, known: pd.DataFrame | None) -> None:
    """Refuse marks that leave everything as it is."""
    if not len(marks):
        raise CytosaeError(
            "--marks: the table has a header and no mark. Add a row for each patch or cell that is marked."
        )
    places = ["concept", "cell_id", "patch", "rater"]
    before = pd.DataFrame(columns=places) if known is None else known[known["mark"] != NONE]
    taken_back = marks[places].astype(str).merge(before[places].astype(str), on=places)
    if (marks["mark"] == NONE).all() and not len(taken_back):
        raise CytosaeError(
            f"--marks: rows of the table that say 'none': all {len(marks)}, and they withdraw no mark of this study "
            "(only its own rater can withdraw a mark). To remove a concept use --remove NAME."
        )


def _stored_marks(study: Path) -> pd.DataFrame | None:
    path = study / TAUGHT_FOLDER / MARKS
    if not path.is_file():
        return None
    record = Manifest.load(path.parent)
    noted = record.outputs.get(MARKS) if record is not None else None
    try:
        if noted is not None and noted != FileRecord.from_file(path):
            raise CytosaeError("it is not as `cytosae teach` wrote it")
        return read_marks(path)
    except CytosaeError as error:
        raise CytosaeError(
            f"{path}: changed or damaged ({error}). It holds all marks that the study was given: put a copy of it "
            "back; or move it away, and give your marks again with --marks."
        ) from error


def _learn(
    source: TokenSource, own: SAE, known: pd.DataFrame, marks: pd.DataFrame, config: TeachConfig, views: Views | None
) -> list[Learned]:
    """The concepts that are named in the new marks, from all marks of theirs."""
    names = set(marks["concept"].astype(str))
    usable = usable_marks(known[known["concept"].isin(names)], source.cells, source.layout.n_tokens - 1)
    for concept in usable:
        for problem in concept.problems:
            say(f"teach: {concept.concept}: {problem}")
    learner = Learner.on(Background.draw(source, own, cells=config.random_cells, seed=config.teach_seed, views=views))
    learned = [learner.learn(concept, config) for concept in usable]
    for one in learned:
        if one.threshold.useless:
            say(f"teach: {one.concept}: {one.threshold.warning}")
    return learned


def _write(
    folder: Path,
    taught: Taught,
    marks: pd.DataFrame | None,
    views: Views | None,
    config: TeachConfig,
    inputs: dict[str, str],
) -> None:
    names = [TAUGHT, *([] if marks is None else [MARKS]), *([] if views is None else [VIEWS])]
    claim(folder, "taught", names)
    if marks is not None:
        write_marks(folder / MARKS, marks)
        inputs = {**inputs, "marks": digest(marks.astype(str).to_dict("list"))}
    if views is not None:
        views.save(folder / VIEWS)
    taught.save(folder / TAUGHT)
    outputs = {name: FileRecord.from_file(folder / name) for name in names}
    summary = {"concepts": [name for name in taught.names if name]}
    Manifest("taught", to_stored(config), inputs, outputs, summary).save(folder)


def _updated(study: Path, source: TokenSource, taught: Taught, device: str) -> dict[str, Any]:
    """Encode with the taught concepts and make what depends on it; the figures of the stages."""
    known = read_settings(study).configs
    encoding = EncodeConfig(**known.get(EncodeConfig, {}))
    made = {
        "concepts": stages.encoding(
            source, study / "sae", study / "concepts", encoding, device=device, taught=taught
        ).update()
    }
    if read_cells(study / "cells.parquet")["patient"].notna().any():
        made["cohort"] = stages.barcodes(study, BarcodeConfig(**known.get(BarcodeConfig, {}))).update()
        if (study / COHORT / CLASSIFICATION).is_dir():
            say(
                f"teach: the classification in {study / COHORT / CLASSIFICATION} is of the barcodes before; run it "
                "again"
            )
    made["report"] = stages.report(study).update()
    return made
