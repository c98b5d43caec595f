"""An image-text model proposes a phrase for every concept, from its reference images; facts stay what describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.analysis.captioning import Captioner
from cytosae.backbones import INPUT_SIZE
from cytosae.cells import Reading, UnreadableImage, load_squashed, read_cells, readings
from cytosae.concepts import group_leaders, read_concepts, read_datasets, read_maps
from cytosae.concepts.description.matching import Named, facts_named
from cytosae.concepts.description.proposals import write_proposals
from cytosae.concepts.evaluation.naming import sentence_scores
from cytosae.concepts.interest import interest_of
from cytosae.concepts.quality.resampling import Estimate
from cytosae.console import progress
from cytosae.errors import CytosaeError
from cytosae.morphometry import MEASURED, read_measurements
from cytosae.report import overlay
from cytosae.settings import DescribeConfig
from cytosae.storage import resolve_path

QUESTION = (
    "These are microscopy images of stained single blood cells. A visual concept is active where they are coloured. In one "
    "short phrase, with the words of a haematologist: what do the coloured parts have in common?"
)
"""What the model is asked of every concept."""
_IMAGES, _ACROSS = 6, 3


def propose(
    study: Path, captioner: Captioner, config: DescribeConfig | None = None, *, most: int | None = None
) -> dict[str, Any]:
    """Let a model propose a phrase for each concept; leaves ``proposed/``.

    The model sees up to six reference images with the concept's map over them. A phrase is tested as sentences are
    (`cytosae.concepts.quality.detection`) by the facts whose words it contains, on cells that are no reference images of the
    concept; one that names no fact is not scored.

    Parameters
    ----------
    study
        With ``concepts/``, ``morphometry/`` and descriptions.
    captioner
        The model.
    config
        How many cells test the phrases.
    most
        Only so many concepts of each data set, the most interesting first, near-duplicates once; all if None.

    Returns
    -------
    By data set: ``proposed``, ``scored``, and the means of ``detection`` and ``shuffled``, NaN where none was scored.

    Raises
    ------
    CytosaeError
        Images are gone; no concepts or measurements.

    Notes
    -----
    No example: needs a study whose cells are measured, and a model.
    """
    config = config or DescribeConfig()
    measured = read_measurements(study / MEASURED)
    cells = read_cells(study / "cells.parquet")
    files = dict(zip(cells["cell_id"].astype(str), zip(cells["path"], readings(cells), strict=True), strict=True))
    tables, figures = [], {}
    for dataset in read_datasets(study / "concepts"):
        table = _of_dataset(study, dataset, captioner, files, measured, config, most)
        tables.append(table)
        scored = table["detection"].notna()
        figures[dataset] = {
            "proposed": len(table),
            "scored": int(scored.sum()),
            "detection": _interval(table.loc[scored, "detection"]),
            "shuffled": _interval(table.loc[scored, "shuffled"]),
        }
    every = pd.concat(tables, ignore_index=True).assign(model=captioner.name, model_sha256=captioner.sha256)
    write_proposals(study, every, {"question": QUESTION, "most": most, "cells": config.cells}, captioner.sha256)
    return figures


def _of_dataset(
    study: Path,
    dataset: str,
    captioner: Captioner,
    files: dict[str, tuple[str, Reading]],
    measured: pd.DataFrame,
    config: DescribeConfig,
    most: int | None,
) -> pd.DataFrame:
    data = read_concepts(study / "concepts", dataset, matrices=False)
    latents, maps = read_maps(study / "concepts", dataset)
    types = [] if "label" not in data.obs else sorted(data.obs["label"].dropna().astype(str).unique())
    chosen = np.arange(len(latents))
    if most is not None:
        interest = interest_of(data.var, latents, maps, data.n_obs, len(types))
        chosen = chosen[group_leaders(study / "concepts")[latents] == latents]
        chosen = np.sort(chosen[np.argsort(-interest[latents[chosen]], kind="stable")[:most]])
    names = data.obs_names.to_numpy().astype(str)
    rows = []
    with progress(f"phrases by {captioner.name}", len(chosen), "concepts") as bar:
        for number in chosen:
            references = np.asarray(data.varm["reference_cells"])[latents[number]][: maps.shape[1]]
            seen = names[references[references >= 0]]
            phrase = captioner.phrase(sheet([files[name] for name in seen], maps[number]), QUESTION)
            rows.append((dataset, int(latents[number]), phrase, facts_named(phrase, types)))
            bar.advance(1)
    table = pd.DataFrame(rows, columns=["dataset", "latent", "phrase", "facts"])
    return _scored(study, dataset, table, measured, config)


def sheet(files: list[tuple[str, Reading]], maps: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The first six reference images that can be read, three across, each with its map over it.

    Raises
    ------
    CytosaeError
        None can be read.
    """
    images = []
    top = float(maps.max()) or 1.0
    for (path, reading), map_ in zip(files, maps, strict=False):
        try:
            pixels = load_squashed(resolve_path(path), INPUT_SIZE, reading)
        except UnreadableImage:
            continue
        images.append(overlay(pixels, map_.astype(np.float32), top=top, smooth=True))
        if len(images) == _IMAGES:
            break
    if not images:
        raise CytosaeError(f"{files[0][0] if files else 'reference images'}: cannot be read, nor can the other images.")
    across = min(_ACROSS, len(images))
    images += [np.full_like(images[0], 255)] * (-len(images) % across)
    return np.concatenate(
        [np.concatenate(images[i : i + across], axis=1) for i in range(0, len(images), across)], axis=0
    )


def _scored(
    study: Path, dataset: str, table: pd.DataFrame, measured: pd.DataFrame, config: DescribeConfig
) -> pd.DataFrame:
    """The table with the words of the facts that phrases name, and how well these find the cells that show the concept."""
    table = table.assign(
        names=["; ".join(_in_words(fact) for fact in facts) for facts in table["facts"]],
        detection=np.nan,
        shuffled=np.nan,
    )
    named = table["facts"].str.len() > 0
    if named.any():
        facts = pd.DataFrame(
            [
                (latent, kind, subject, high, True)
                for latent, facts in zip(table["latent"], table["facts"], strict=True)
                for kind, subject, high in facts
            ],
            columns=["latent", "kind", "subject", "high", "passes"],
        )
        rng = np.random.default_rng(config.seed)
        n_cells = read_concepts(study / "concepts", dataset, matrices=False).n_obs
        rows = np.sort(rng.permutation(n_cells)[: config.cells])
        latents = np.unique(facts["latent"].to_numpy(np.int64))
        scores = sentence_scores(study, dataset, facts, latents, rows, measured, None, config.seed, rng)
        if len(latents) < 2:  # there is no other phrase
            scores["detection shuffled"] = np.full(1, np.nan)
        for column, key in (("detection", "detection"), ("shuffled", "detection shuffled")):
            table[column] = table["latent"].map(dict(zip(scores["latent"].astype(int), scores[key], strict=True)))
    return table


def _in_words(fact: Named) -> str:
    kind, subject, high = fact
    return f"{kind}: {subject}" if high else f"{kind}: little {subject}"


def _interval(values: pd.Series) -> str:
    figure = Estimate.mean(values.to_numpy(np.float64))
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})" if len(values) else "not scored"
