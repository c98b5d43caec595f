"""All quality measures of a study: each figure beside its baselines and its null, with an interval.

To add a measure, write a function with `measuring` in a file of this folder; a new file is named at `STEPS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytosae import __version__
from cytosae.artefacts import (
    MANIFEST,
    WEIGHTS,
    FileRecord,
    Manifest,
    claim,
    sha256_file,
    whole_file,
    without_nan,
    write_csv,
    write_json,
)
from cytosae.backbones import Backbone
from cytosae.cells import read_attributes
from cytosae.concepts.dictionary import check_encoded_with, untaught
from cytosae.concepts.evaluation import images, labels, latents, naming, tuning
from cytosae.concepts.evaluation.frozen import train_frozen
from cytosae.concepts.evaluation.judging import check_judge
from cytosae.concepts.evaluation.registry import Evaluation, Measure, steps_of
from cytosae.concepts.evaluation.sampling import LATENT_METHOD, draw_sample
from cytosae.concepts.evaluation.table import FIGURES, read_figures
from cytosae.concepts.joining import joined_statistics
from cytosae.concepts.quality import Finish
from cytosae.concepts.storage import PER_LATENT, TUNING, read_inputs
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import EvaluateConfig, to_stored
from cytosae.tokens import TokenSource, centred

__all__ = [
    "FIGURES",
    "LATENT_METHOD",
    "MEASURES",
    "RESULT",
    "evaluate_study",
    "find_measure",
    "quality_inputs",
    "read_figures",
]

RESULT = "quality.json"
STEPS = steps_of(latents, labels, images, naming, tuning)
"""In the order of the table; `cytosae.concepts.evaluation.images.downstream` needs what `label_measures` leaves."""
MEASURES = tuple(measure for step in STEPS for measure in step.measures)


def find_measure(row: str) -> Measure | None:
    """The measure of a row of the table, such as ``localisation of nucleus (AUROC)``; None if it is of another version."""
    return next((measure for measure in MEASURES if row.startswith(measure.label)), None)


def evaluate_study(
    folder: Path,
    source: TokenSource,
    config: EvaluateConfig | None = None,
    *,
    backbone: Backbone | None = None,
    attributes: Path | None = None,
    against: Sequence[Path] = (),
    judge: Backbone | None = None,
) -> dict[str, Any]:
    """Measure the concepts of a study; leaves ``quality/`` in it.

    Parameters
    ----------
    folder
        The study, with ``sae/`` and ``concepts/``.
    source
        Tokens and their cells.
    config
        Settings.
    backbone
        The whole backbone (`cytosae.backbones.load`, ``whole=True``), for measures on its output and on
        changed images; without it they are left out.
    attributes
        Table of expert attributes (`cytosae.cells.read_attributes`).
    against
        Other autoencoders of the same backbone and layer, of other seeds or data sets, for the stability of directions.
    judge
        Another whole backbone, by whose embeddings of the images monosemanticity is measured; the study's own if None.

    Returns
    -------
    What is in ``quality.json``.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    config = config or EvaluateConfig()
    concepts_folder = folder / "concepts"
    check_encoded_with(folder)
    sae = SAE.from_pretrained(folder / "sae")
    statistics = joined_statistics(concepts_folder)
    statistics = statistics.iloc[: sae.n_latents]  # taught ones, which come after, are judged when they are learned
    concepts = np.flatnonzero(statistics["all", "datasets"].to_numpy() > 0)
    if len(concepts) < 2:
        raise CytosaeError(
            f"{concepts_folder}: {len(concepts)} concepts, too few to measure. Train longer, or with a smaller --l1."
        )
    # What can be refused is looked at before anything takes time.
    noted = None if attributes is None else read_attributes(attributes, source.cells)
    others = latents.other_directions(sae, against)
    check_judge(judge, source.layout)
    claim(folder / "quality", "quality", (RESULT, FIGURES, PER_LATENT, TUNING))
    source, finish = centred(source, sae.position_offset), _finish(backbone, sae, source)
    frozen = train_frozen(source, sae, config.baseline_images)
    sample = draw_sample(source, concepts_folder, concepts, config, finish, frozen)
    run = Evaluation(
        folder=concepts_folder,
        source=source,
        sae=sae,
        sample=sample,
        config=config,
        backbone=backbone,
        finish=finish,
        judge=judge,
        attributes=None if noted is None else noted.iloc[sample.cells["row"]],
        others=others,
        per_latent=_per_latent(statistics),
        per_concept=pd.DataFrame({"latent": concepts}),
    )
    for step in STEPS:
        step.run(run)
    inputs = quality_inputs(folder, attributes, against)
    if judge is not None:
        inputs["judge"] = judge.info.fingerprint
    result = without_nan(
        {
            "cytosae": __version__,
            "parameters": to_stored(config),
            "inputs": inputs,
            "concepts": len(concepts),
            "cells": len(sample.cells),
            "gains": run.table.gains(LATENT_METHOD),
            "figures": run.table.frame().astype(object).to_dict("records"),
            **run.details,
            "skipped": run.table.skipped,
        }
    )
    _write(
        folder, result, run.table.frame(), run.per_latent.merge(run.per_concept, on="latent", how="left"), run.tables
    )
    return result


def _finish(backbone: Backbone | None, sae: SAE, source: TokenSource | None = None) -> Finish | None:
    """The later blocks of the backbone, on tokens as the autoencoder encodes them; they know no harmonised ones."""
    if backbone is None or not backbone.can_finish or (source is not None and source.harmonisation is not None):
        return None
    output, offset = backbone.output, sae.position_offset
    return output if offset is None else lambda tokens: output(tokens + offset)


def quality_inputs(folder: Path, attributes: Path | None, against: Sequence[Path]) -> dict[str, str]:
    """Digests of what the measures depend on; they are of the autoencoder's own latents, whatever is taught beside them."""
    inputs = untaught(read_inputs(folder / "concepts"))
    if attributes is not None:
        inputs["attributes"] = sha256_file(attributes)
    for number, other in enumerate(against, 1):
        inputs[f"against {number}"] = sha256_file(other / WEIGHTS)
    return inputs


def _write(
    folder: Path,
    result: dict[str, Any],
    figures: pd.DataFrame,
    per_latent: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
) -> None:
    target = folder / "quality"
    write_json(target / RESULT, result)
    write_csv(target / FIGURES, figures)
    written = {PER_LATENT: per_latent, **tables}
    for name, table in written.items():
        with whole_file(target / name) as temporary:
            table.to_parquet(temporary, index=False)
    (target / MANIFEST).unlink(missing_ok=True)
    outputs = {name: FileRecord.from_file(target / name) for name in (RESULT, FIGURES, *written)}
    for name in {TUNING} - {*written}:
        (target / name).unlink(missing_ok=True)  # of an earlier evaluation
    Manifest("quality", result["parameters"], result["inputs"], outputs, {"concepts": result["concepts"]}).save(target)


def _per_latent(statistics: pd.DataFrame) -> pd.DataFrame:
    """All latents with their statistics in every data set."""
    flat = {"/".join(column): statistics[column].to_numpy() for column in statistics.columns}
    return pd.DataFrame({"latent": np.arange(len(statistics)), **flat})
