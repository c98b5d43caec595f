"""`describe_concepts`: facts of every concept, and a sentence of the strongest that pass.

No example: needs a study whose cells are measured; `cytosae describe` runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.artefacts import MANIFEST, FileRecord, Manifest, claim, remove_outdated, sha256_file, whole_file
from cytosae.cells import read_attributes
from cytosae.concepts import schema
from cytosae.concepts.columns import add_columns, text_column
from cytosae.concepts.description.associations import classes, correlations, ratio_to_others
from cytosae.concepts.description.diagnoses import diagnosed
from cytosae.concepts.description.facts import NO_FACTS, NO_SENTENCES, Evidence, facts_of, sentences_of
from cytosae.concepts.description.places import locate, usual_looks
from cytosae.concepts.description.reading import DESCRIPTIONS, FACTS, SENTENCES, description_inputs
from cytosae.concepts.quality.resampling import group_codes, halves
from cytosae.concepts.storage import (
    read_activations,
    read_concepts,
    read_datasets,
    read_maps,
)
from cytosae.errors import CytosaeError
from cytosae.morphometry import MEASURED, read_measurements, read_places
from cytosae.segmentation.registry import MEASUREMENTS
from cytosae.settings import DescribeConfig, to_stored

_USUAL = 500
"""Cells whose tissues say how a tissue usually looks."""


def describe_concepts(
    study: Path, config: DescribeConfig | None = None, *, attributes: Path | None = None
) -> dict[str, Any]:
    """Describe every concept of a study from facts; leaves ``descriptions/`` and a column ``description`` in ``var``.

    Parameters
    ----------
    study
        With ``concepts/`` and ``morphometry/``.
    config
        How many cells, and what passes.
    attributes
        Table of expert attributes of single cells (`cytosae.cells.read_attributes`).

    Returns
    -------
    By data set: concepts, and how many have a description, a place, a cell type, an attribute, a measurement, a diagnosis.

    Raises
    ------
    CytosaeError
        No finished concepts or measurements; a table of attributes that does not fit; a column that no cells have.
    """
    config = config or DescribeConfig()
    folder, concepts = study / DESCRIPTIONS, study / "concepts"
    _check_laboratory(concepts, config.laboratory)
    measured = read_measurements(study / MEASURED)
    names = [*read_datasets(concepts)]
    noted = None if attributes is None else _attributes(attributes, concepts, names)
    claim(folder, DESCRIPTIONS, (SENTENCES, FACTS))
    (folder / MANIFEST).unlink(missing_ok=True)
    sentences, facts = [NO_SENTENCES], [NO_FACTS]
    for dataset in names:
        if not len(read_maps(concepts, dataset)[0]):
            continue  # nothing was discovered there
        evidence = gather_evidence(study, dataset, measured, noted, config)
        table = facts_of(evidence, config)
        facts.append(table.assign(dataset=dataset))
        sentences.append(sentences_of(table, evidence).assign(dataset=dataset))
    described, gathered = (pd.concat(parts[1:] or parts, ignore_index=True) for parts in (sentences, facts))
    for name, rows in ((SENTENCES, described), (FACTS, gathered)):
        with whole_file(folder / name) as temporary:
            rows.to_parquet(temporary, index=False)
    add_descriptions(study, described)
    inputs = description_inputs(study)
    summary: dict[str, Any] = {"datasets": {name: _counts(described[described["dataset"] == name]) for name in names}}
    if attributes is not None:
        inputs["attributes"] = sha256_file(attributes)
        summary["attributes"] = f"{attributes.absolute()}"
    outputs = {name: FileRecord.from_file(folder / name) for name in (SENTENCES, FACTS)}
    remove_outdated(folder, DESCRIPTIONS, outputs)
    Manifest(DESCRIPTIONS, to_stored(config), inputs, outputs, summary).save(folder)
    return dict(summary["datasets"])


def gather_evidence(
    study: Path,
    dataset: str,
    measured: pd.DataFrame,
    noted: pd.DataFrame | None,
    config: DescribeConfig,
    rows: NDArray[np.int64] | None = None,
) -> Evidence:
    """Everything that is looked at of a data set's concepts.

    Parameters
    ----------
    study, dataset, config
        Whose concepts, and with which settings.
    measured, noted
        Measurements and expert attributes of the cells, by ``cell_id``.
    rows
        Cells on which types, attributes and measurements are compared; drawn if None.
    """
    concepts = study / "concepts"
    data = read_concepts(concepts, dataset, matrices=False)
    latents, maps = read_maps(concepts, dataset)
    references = np.asarray(data.varm["reference_cells"])[latents][:, : maps.shape[1]]
    needed = np.unique(references[references >= 0])
    where = np.where(references >= 0, np.searchsorted(needed, np.maximum(references, 0)), -1)
    places, looks = read_places(study / MEASURED, data.obs_names[needed])
    if rows is None:
        rows = np.sort(np.random.default_rng(config.seed).permutation(data.n_obs)[: config.cells])
    some = np.random.default_rng(config.seed).permutation(rows)[:_USUAL]
    usual = usual_looks(*read_places(study / MEASURED, data.obs_names[some]), maps.shape[2:])
    located = locate(maps, where, places, looks, usual, seed=config.seed)
    counts, means = read_activations(concepts, dataset, rows, latents)
    obs = data.obs.iloc[rows]
    patients = pd.factorize(obs["patient"])[0] if "patient" in obs else np.full(len(rows), -1)
    choosing = halves(len(rows), group_codes(len(rows), patients), config.seed)
    values = measured.reindex(obs.index)[[m.name for m in MEASUREMENTS]].to_numpy(np.float64)
    columns = {"cell type": obs["label"].astype(object)} if "label" in obs else {}
    others = {} if noted is None else {str(c): noted[c].reindex(obs.index).astype(object) for c in noted}
    return Evidence(
        latents,
        located,
        *_classes(columns, counts, means, choosing),
        *_classes(others, counts, means, choosing),
        *correlations(means, values, choosing),
        diagnosed(obs, (counts > 0).astype(np.float64), config.laboratory, config.seed),
    )


def _classes(
    columns: Mapping[str, pd.Series[Any]], counts: sp.csr_matrix, means: sp.csr_matrix, choosing: NDArray[np.bool_]
) -> tuple[list[str], Any, NDArray[np.float64]]:
    """Names of the values of some columns, the best for each concept, and how many times as often it shows the concept."""
    names, truths, knowns = [], [], []
    for column, values in columns.items():
        known = values.notna().to_numpy()
        for value in sorted(values.dropna().astype(str).unique()):
            names.append(value if column == "cell type" else f"{column.replace('_', ' ')} = {value}")
            truths.append((values.astype(str) == value).to_numpy() & known)
            knowns.append(known)
    shape = (means.shape[0], len(names))
    truth, known = (np.stack(arrays, axis=1) if names else np.zeros(shape, bool) for arrays in (truths, knowns))
    best = classes(means, truth, known, choosing)
    return names, best, ratio_to_others((counts > 0).astype(np.float64), truth, best.best) if names else best.value


def _check_laboratory(concepts: Path, column: str) -> None:
    """The default column need not be there; one that was asked for must."""
    if column == DescribeConfig().laboratory:
        return
    columns = {str(c) for name in read_datasets(concepts) for c in read_concepts(concepts, name, matrices=False).obs}
    if column not in columns:
        raise CytosaeError(
            f"--laboratory {column}: the cells have no such column; there are {', '.join(sorted(columns))}."
        )


def _attributes(path: Path, concepts: Path, names: list[str]) -> pd.DataFrame:
    """Expert attributes of the cells of all data sets, by ``cell_id``."""
    obs = [read_concepts(concepts, name, matrices=False).obs for name in names]
    cells = pd.concat([table.reset_index()[["cell_id", "path"]].astype(str) for table in obs], ignore_index=True)
    return read_attributes(path, cells).set_axis(pd.Index(cells["cell_id"]))


def add_descriptions(study: Path, described: pd.DataFrame) -> None:
    """Descriptions as a column of ``var``; files that have it are not touched."""

    def columns(var: pd.DataFrame, dataset: str) -> dict[str, pd.Series]:
        texts: list[str | None] = [None] * len(var)
        rows = described[described["dataset"] == dataset]
        for latent, text in zip(rows["latent"], rows["description"], strict=True):
            texts[int(latent)] = text
        return {schema.DESCRIPTION: text_column(texts, var.index, schema.DESCRIPTION)}

    add_columns(study, "var", columns)


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    named = {"described": "description", "placed": "place", "cell_type": "cell_type", "attribute": "attribute"}
    named |= {"measurement": "measurement", "look": "look", "diagnosis": "diagnosis"}
    counts = {key: int((rows[column] != "").sum()) for key, column in named.items() if key != "described"}
    return {"concepts": len(rows), "described": int(rows["known"].sum()), **counts}
