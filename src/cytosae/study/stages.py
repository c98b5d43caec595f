"""The stages that a study is made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from cytosae.artefacts import (
    MANIFEST,
    FileRecord,
    Manifest,
    claim,
    digest,
    remove_left_behind,
    sae_weights_digest,
)
from cytosae.backbones import Backbone
from cytosae.cells import difference, metadata_digest, pixels_digest
from cytosae.cohort import BARCODES, COHORT, artefact_latents, make_barcodes
from cytosae.concepts import (
    check_fit,
    encode,
    encode_inputs,
    far_cells,
    has_words,
    join_measurements,
    make_familiarity,
    read_familiarity,
    read_parameters,
    update_descriptions,
)
from cytosae.concepts.cell_ranges import remove_ranges
from cytosae.concepts.description import DESCRIPTIONS
from cytosae.concepts.familiarity import CELLS as FAMILIAR_CELLS
from cytosae.concepts.familiarity import STAGE as FAMILIARITY
from cytosae.console import say
from cytosae.engines import open_engine
from cytosae.morphometry import MEASURED, measure_cells
from cytosae.sae import SAE, import_sae, recorded, train, train_seeds, training_inputs
from cytosae.sae.taught import Taught, with_taught
from cytosae.settings import (
    IN_PROCESS,
    BackboneConfig,
    BarcodeConfig,
    DrawnConfig,
    EncodeConfig,
    EngineConfig,
    HarmoniseConfig,
    StoreConfig,
    TrainConfig,
    to_stored,
)
from cytosae.study.backbone import backbone_for
from cytosae.study.stage import NOT_MADE, Stage, say_due, with_reason
from cytosae.tokens import (
    Layout,
    TokenSource,
    TokenStore,
    embed,
    fit_harmonisation,
    read_harmonisation,
    store_layout,
    write_harmonisation,
)
from cytosae.tokens.centring import centred
from cytosae.tokens.harmonisation import fitted_on
from cytosae.tokens.store import read_manifest

_MANY = 2_000
"""Cells that are worth processes of their own where they are measured."""


def measuring_engine(n_cells: int, engine: EngineConfig) -> EngineConfig:
    """Who measures so many cells: the engine, or where that is this process all cores if they are many."""
    if engine.in_process and n_cells >= _MANY:
        return EngineConfig(replicas=os.cpu_count() or 1)
    return engine


def update_tokens(
    cells: pd.DataFrame,
    layout: Layout,
    backbone: Callable[[], Backbone],
    folder: Path,
    config: StoreConfig,
    *,
    workers: int | None = None,
    engine: EngineConfig = IN_PROCESS,
    settings: BackboneConfig | None = None,
) -> dict[str, Any]:
    """Make the token store of these cells where it is not up to date; its figures.

    The backbone is loaded only where there is something to make; replicas of the engine load it by its settings.

    No example: needs a study; `cytosae run` runs it.
    """
    reason = tokens_stale(folder, cells, layout)
    say_due("tokens", reason)
    if reason is None:
        remove_left_behind(folder)
        return with_reason({"cells": len(cells)}, None)
    loaded = backbone()
    layout = store_layout(loaded.info, config, layout.frame)
    load = backbone_for(engine, lambda: loaded, settings or BackboneConfig(), layout)
    with open_engine(engine) as processes:
        return with_reason(embed(cells, load, folder, layout, workers=workers, engine=processes), reason)


def tokens_stale(folder: Path, cells: pd.DataFrame, layout: Layout) -> str | None:
    """Why a store does not hold the tokens of these cells in this layout; None if it does."""
    manifest = read_manifest(folder)
    if manifest is None:
        return NOT_MADE
    before, _, complete = manifest
    if not complete:
        return "not finished"
    if before.identity() != layout.identity():
        return "backbone or layout changed"
    store = TokenStore(folder)
    if pixels_digest(store.cells) != pixels_digest(cells):
        return difference(store.cells, cells) or "cells changed"
    if metadata_digest(store.cells) != metadata_digest(cells):
        return "labels or other columns of the cells changed"
    return None if store.untouched() else "a shard is missing or was changed"


def update_harmonisation(folder: Path, config: HarmoniseConfig) -> None:
    """Fit the harmonisation of a token store, if it is not the one that the settings ask for, and keep it there.

    Raises
    ------
    CytosaeError
        No such column, or fewer than two laboratories with enough cells.

    Notes
    -----
    No example: needs a study; `cytosae run` runs it.
    """
    if config.harmonise == "none":
        write_harmonisation(folder, None)
        return
    before, asked = read_harmonisation(folder), (config.harmonise, config.laboratory)
    with closing(TokenStore(folder, harmonised=False)) as source:
        inputs = fitted_on(source, config.laboratory)
        if before is not None and (before.method, before.column, before.inputs) == (*asked, inputs):
            say("harmonisation: up to date")
            return
        fitted = fit_harmonisation(source, *asked, inputs=inputs)
    write_harmonisation(folder, fitted)
    say(f"harmonisation: {config.harmonise}, {len(fitted.names)} laboratories by {config.laboratory}")


def training(tokens: TokenSource, folder: Path, config: TrainConfig, *, device: str, **options: Any) -> Stage:
    """An autoencoder of these tokens; `options` go to `cytosae.sae.train`, with several seeds to `train_seeds`.

    No example: needs a study; `cytosae run` runs it.
    """
    config = config.scaled_to(tokens.n_cells, tokens.layout.n_tokens)
    train_all = train if config.seeds == 1 else train_seeds
    return Stage(
        "sae",
        folder,
        recorded(config),
        training_inputs(tokens, config),
        lambda: train_all(tokens, folder, config, device=device, **options),
        to_stored(TrainConfig()),
    )


def importing(tokens: TokenSource, source: Path, folder: Path, config: TrainConfig) -> Stage:
    """An autoencoder that is there already, measured on these tokens."""
    inputs = {**training_inputs(tokens, config), "given": sae_weights_digest(source)}

    def make() -> Mapping[str, Any]:
        check_fit(tokens.layout, SAE.from_pretrained(source))
        return import_sae(tokens, source, folder, config, inputs)

    return Stage("sae", folder, {"given": True}, inputs, make)


def encoding(
    tokens: TokenSource,
    sae_folder: Path,
    folder: Path,
    config: EncodeConfig,
    *,
    device: str,
    engine: EngineConfig = IN_PROCESS,
    taught: Taught | None = None,
) -> Stage:
    """The concepts of an autoencoder on these tokens, and those that were taught.

    No example: needs a study; `cytosae run` runs it.
    """

    def make() -> Mapping[str, Any]:
        sae = with_taught(SAE.from_pretrained(sae_folder), taught, config.threshold)
        check_fit(tokens.layout, sae)
        with open_engine(engine) as workers:
            return {"datasets": encode(tokens, sae, folder, config, device=device, engine=workers)}

    inputs = encode_inputs(tokens, sae_weights_digest(sae_folder), taught)
    return Stage(
        "concepts",
        folder,
        to_stored(config),
        inputs,
        make,
        to_stored(EncodeConfig()),
        lambda: remove_ranges(folder),
    )


def familiarity(tokens: TokenSource, study: Path) -> Stage:
    """What the cells of a study look like, against which further ones are held."""
    patients = tokens.cells["patient"]
    inputs = {
        "tokens": tokens.fingerprint,
        "sae": sae_weights_digest(study / "sae"),
        "patients": digest([None if pd.isna(name) else str(name) for name in patients]),
    }
    parameters = {"cells": FAMILIAR_CELLS, "seed": 0, "threshold": read_parameters(study / "concepts")["threshold"]}

    def make() -> Mapping[str, Any]:
        sae = SAE.from_pretrained(study / "sae")
        return make_familiarity(centred(tokens, sae.position_offset), study, sae.n_latents, parameters, inputs)

    return Stage(FAMILIARITY, study / FAMILIARITY, parameters, inputs, make)


def say_unfamiliar(tokens: TokenSource, study: Path, former: Path) -> list[str]:
    """Sentences on the data sets whose cells lie far from those that an autoencoder was trained on, each said.

    Parameters
    ----------
    former
        The study of that training.
    """
    sae = SAE.from_pretrained(study / "sae")
    known = read_familiarity(former, sae)
    if known is None:
        return []
    seen = far_cells(known, centred(tokens, sae.position_offset), study / "concepts")
    answers = [known.sentence(far, n, f"the cells of {name}", f"{former}") for name, (far, n) in seen.items()]
    sentences = [sentence for sentence in answers if sentence]
    for sentence in sentences:
        say(f"run: {sentence}. See docs/how-to/laboratories.md")
    return sentences


def words(study: Path, cells: pd.DataFrame, engine: EngineConfig) -> dict[str, dict[str, Any]]:
    """Measurements of the cells and descriptions of the concepts, where they are not up to date; figures of both stages."""
    with open_engine(measuring_engine(len(cells), engine)) as workers:
        measured = measure_cells(cells, study / MEASURED, engine=workers)
    if not (measured["skipped"] and has_words(study)):
        join_measurements(study)
    return {MEASURED: measured, DESCRIPTIONS: update_descriptions(study)}


def barcodes(study: Path, config: BarcodeConfig) -> Stage:
    """The barcodes of a study's patients."""
    folder, concepts = study / COHORT, Manifest.load(study / "concepts")
    assert concepts is not None
    parameters, inputs = to_stored(config), {"concepts": concepts.fingerprint()}
    if config.artefacts == "leave-out":  # verdicts change without the concepts
        inputs["artefacts"] = digest(artefact_latents([study / "concepts"]).tolist())

    def make() -> Mapping[str, Any]:
        claim(folder, "cohort", [BARCODES])
        (folder / MANIFEST).unlink(missing_ok=True)
        figures = make_barcodes([study / "concepts"], folder / BARCODES, config)
        Manifest("cohort", parameters, inputs, {BARCODES: FileRecord.from_file(folder / BARCODES)}, figures).save(
            folder
        )
        return figures

    return Stage("cohort", folder, parameters, inputs, make, to_stored(BarcodeConfig()))


def report(study: Path) -> Stage:
    """The page of a study."""
    from cytosae.report import drawn_config, report_inputs, write_report  # imports matplotlib

    inputs, drawn = report_inputs(study), drawn_config(study)
    make = partial(write_report, study, drawn)
    return Stage("report", study / "report", to_stored(drawn), inputs, make, to_stored(DrawnConfig()))
