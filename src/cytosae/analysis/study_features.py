"""Features of the patients and cells of a study with their laboratories: tokens, concepts, barcodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.artefacts import MANIFEST
from cytosae.cohort import (
    BARCODES,
    COHORT,
    ClassificationTask,
    classification_task,
    patient_tokens,
    read_barcodes,
    transformed,
)
from cytosae.concepts import TAUGHT, cell_summaries, read_activations
from cytosae.console import progress
from cytosae.errors import CytosaeError, NotFound
from cytosae.harmonise import LEAST, Laboratories, inseparable, laboratories, single_class
from cytosae.morphometry import MEASURED, read_measurements
from cytosae.segmentation.registry import MEASUREMENTS
from cytosae.settings import LaboratoryConfig
from cytosae.tokens import TokenSource, TokenStore

LABEL = "label"
"""The column that makes cells, and not patients, what is looked at."""
_BATCH = 64
_AREAS = ("cell_area", "nucleus_area", "cytoplasm_area")
_KNOWN = 0.8
"""Share of the cells of every laboratory of which a measurement has to be known."""


@dataclass(frozen=True)
class Rows:
    """Patients or cells of a study whose class and laboratory are known, and their features."""

    study: str
    """Name of the study, for tables."""
    kind: str
    """``patients`` or ``cells``."""
    target: NDArray[np.int64]
    """Class of each row, ``(n_rows,)``."""
    classes: tuple[str, ...]
    laboratories: Laboratories
    units: NDArray[np.int64]
    """Patient of each row (a cell of no patient is one by itself), ``(n_rows,)``."""
    features: Mapping[str, list[NDArray[np.floating]]]
    """Blocks of features by name, each ``(n_rows, d)``."""
    read_through: tuple[str, str] | None
    """Method and column of the harmonisation through which its tokens are read."""
    caveats: tuple[str, ...]
    task: ClassificationTask | None = None
    """Of patients."""
    measured: NDArray[np.float64] | None = None
    """Measurements of cells, if the study has them, areas over the median of their laboratory, ``(n_rows, m)``."""

    @property
    def alone(self) -> bool:
        """Whether each patient's features depend on the own cells alone."""
        return self.read_through is None or self.read_through[1] == "patient"


def study_rows(study: Path, target: str, config: LaboratoryConfig) -> Rows:
    """The patients of a study with their barcodes and mean tokens, or, with ``label`` as the target, its cells.

    Raises
    ------
    CytosaeError
        No barcodes or tokens, no such column, one laboratory alone, fewer than two classes; or every laboratory has a single
        class.
    """
    rows = _cells(study, config) if target == LABEL else _patients(study, target, config)
    own = rows.laboratories
    if inseparable(own.codes, rows.target):
        raise CytosaeError(
            f"--laboratory {own.column}: every laboratory has a single {target}: {target} and laboratory cannot be "
            "separated, by any method. Add patients or cells of several classes from one laboratory."
        )
    single = single_class(own.codes, rows.target, own.names)
    caveats = [f"{own.column} {name}: all of one {target}, which goes with the laboratory" for name in single]
    return replace(rows, caveats=(*rows.caveats, *caveats))


def _patients(study: Path, target: str, config: LaboratoryConfig) -> Rows:
    path = study / COHORT / BARCODES
    if not path.is_file():
        raise NotFound(f"{path}: missing. `cytosae run` makes barcodes if the table of cells has a column 'patient'.")
    task = classification_task(read_barcodes(path, pooled=True), target)
    own = laboratories(task.data.obs, config.laboratory)
    features = _barcodes(task.data)
    through = None
    if (study / "tokens" / MANIFEST).is_file():
        store = TokenStore(study / "tokens")
        through = _through(store)
        tokens = patient_tokens(store, task.data)
        store.close()
        features |= {"mean CLS token": [tokens.cls], "mean patch token": [tokens.patches]}
    caveats = [*task.caveats, *_unknown(own)]
    return Rows(
        study.name, "patients", task.target, task.classes, own, task.units, features, through, tuple(caveats), task
    )


def _barcodes(data: ad.AnnData) -> dict[str, list[NDArray[np.floating]]]:
    """Blocks of the barcodes, and of those of taught concepts where there are any; each also less the patient's own mean."""
    kinds: dict[str, tuple[ad.AnnData, tuple[str, ...]]] = {"barcodes": (data, ("count", "share"))}
    if TAUGHT in data.var and (taught := data.var[TAUGHT].notna().to_numpy()).any():
        kinds["taught concepts"] = data[:, taught].copy(), ("count", "share", "top")
    features: dict[str, list[NDArray[np.floating]]] = {}
    for name, (own, blocks) in kinds.items():
        features[name] = [transformed(own, block, "log1p") for block in blocks]
        if own.n_vars > 1:  # of one concept nothing is left
            features[f"{name}, log-ratio"] = [transformed(own, block, "log-ratio") for block in blocks]
    return features


def _cells(study: Path, config: LaboratoryConfig) -> Rows:
    store = TokenStore(study / "tokens")
    own = laboratories(store.cells, config.laboratory)
    label = store.cells[LABEL].astype(object)
    known = (own.codes >= 0) & label.notna().to_numpy()
    held = pd.Series(own.codes[known]).groupby(label[known].to_numpy()).nunique()
    several, single = (sorted(map(str, held.index[chosen])) for chosen in (held > 1, held <= 1))
    if len(several) < 2:
        raise CytosaeError(
            f"{study}: {len(several)} types of cells occur in two laboratories ({config.laboratory}), and two are "
            "needed. Name another column with --laboratory."
        )
    rng = np.random.default_rng([config.seed, 13])
    order = rng.permutation(np.flatnonzero(known & label.isin(several).to_numpy()))
    pairs = pd.DataFrame({"label": label.to_numpy()[order], "code": own.codes[order]}).groupby(["label", "code"])
    rows = np.sort(order[(pairs.cumcount() < config.cells).to_numpy()])
    target = pd.Categorical(label.iloc[rows].astype(str), categories=several).codes.astype(np.int64)
    patients = store.cells["patient"].iloc[rows].astype(object)
    names = store.cells["dataset"].iloc[rows].astype(str) + "\n" + patients.astype(str)
    units = pd.factorize(names.where(patients.notna(), store.cells["cell_id"].iloc[rows].astype(str)))[0]
    caveats = [*_unknown(own), *(f"{name} occurs in one laboratory and is left out" for name in single)]
    tokens = cell_tokens(store, rows)
    features = {"tokens": [tokens[:, 0], tokens[:, 1]]}
    if (study / "concepts" / MANIFEST).is_file():
        features["concepts"] = [_concepts(study / "concepts", store.cells, rows)]
    through = _through(store)
    store.close()
    chosen = replace(own, codes=own.codes[rows])
    measured = _measured(study / MEASURED, store.cells["cell_id"].iloc[rows], chosen.codes)
    return Rows(
        study=study.name,
        kind="cells",
        target=target,
        classes=tuple(several),
        laboratories=chosen,
        units=units,
        features=features,
        read_through=through,
        caveats=tuple(caveats),
        measured=measured,
    )


def _measured(folder: Path, cells: pd.Series, codes: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """What is measured of some cells, without what depends on the scale of the images; gaps filled by medians."""
    if not (folder / MANIFEST).is_file():
        return None
    return comparable_measurements(read_measurements(folder).reindex(cells.astype(str)), codes)


def comparable_measurements(table: pd.DataFrame, codes: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Measurements of cells of several laboratories, without what depends on the scale of the images.

    Areas are divided by the median of their laboratory, gaps are filled by medians. What is known of too few cells of a
    laboratory is left out; laboratories of few cells are not asked.

    Parameters
    ----------
    table
        A row for each cell with `MEASUREMENTS`, of `cytosae.morphometry.read_measurements`.
    codes
        Laboratory of each row, ``(n_cells,)``.

    Returns
    -------
    ``(n_cells, m)``; None where nothing is left.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    columns = {}
    for measurement in MEASUREMENTS:
        values = table[measurement.name].to_numpy(np.float64)
        if measurement.name in _AREAS:
            columns[measurement.name] = values / pd.Series(values).groupby(codes).transform("median").to_numpy()
        elif measurement.unit != "square micrometres" and measurement.kind not in ("surroundings", "image"):
            columns[measurement.name] = values
    measured = pd.DataFrame(columns)
    known = measured.notna().groupby(codes).mean()
    enough = np.unique(codes, return_counts=True)[1] >= LEAST
    measured = measured.loc[:, (known[enough] if enough.any() else known).min() >= _KNOWN]
    return None if measured.empty else measured.fillna(measured.median()).to_numpy()


def _through(store: TokenStore) -> tuple[str, str] | None:
    own = store.harmonisation
    return None if own is None else (own.method, own.column)


def _unknown(own: Laboratories) -> list[str]:
    missing = int((own.codes < 0).sum())
    return [f"{missing} rows have no {own.column}, left out"] if missing else []


def cell_tokens(store: TokenSource, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """CLS and the mean patch of some cells, ``(n_cells, 2, d_model)``.

    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    features = np.empty((len(rows), 2, store.layout.d_model), np.float32)
    done = 0
    with progress("tokens of cells", len(rows), "cells") as bar:
        for tokens in store.stream(rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)):
            summaries = cell_summaries(tokens).reshape(len(tokens), 2, -1)
            features[done : done + len(summaries)] = summaries
            done += len(summaries)
            bar.to(done)
    return features


def _concepts(concepts: Path, cells: pd.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """log(1 + a_i[s]) of some cells, of the latents that any of them shows, ``(n_cells, n_latents)``."""
    dataset = cells["dataset"].astype(str).to_numpy()
    features: NDArray[np.float32] | None = None
    for name in np.unique(dataset[rows]):
        own = np.flatnonzero(dataset == name)
        wanted = np.flatnonzero(dataset[rows] == name)
        counts = read_activations(concepts, str(name), np.searchsorted(own, rows[wanted]))[0]
        if features is None:
            features = np.zeros((len(rows), counts.shape[1]), np.float32)
        features[wanted] = np.log1p(counts.toarray())
    assert features is not None
    return features[:, features.any(axis=0)]
