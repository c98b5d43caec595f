"""From concepts of cells to barcodes of patients: streamed from any number of concept files into one AnnData."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae import __version__
from cytosae.artefacts import text_as_objects, writing_hdf5
from cytosae.cells import RESERVED
from cytosae.cells.columns import GIVEN
from cytosae.cohort.artefact_latents import artefact_latents, leave_out
from cytosae.cohort.barcodes import BarcodeSums, disease_barcodes, variance_between
from cytosae.cohort.duplicates import shared_cells
from cytosae.concepts import (
    check_unchanged,
    is_concept,
    other_dictionary,
    read_concepts,
    read_datasets,
    read_inputs,
    read_parameters,
    same_dictionary,
    schema,
    stream_concepts,
)
from cytosae.concepts.discovery import FEW, SCATTERED
from cytosae.concepts.schema import IMAGE_COLUMNS
from cytosae.console import progress, say
from cytosae.errors import CytosaeError
from cytosae.settings import BarcodeConfig, to_stored


@dataclass(frozen=True)
class _Cells:
    """The cells of one data set in one folder that belong to patients."""

    folder: Path
    dataset: str
    obs: pd.DataFrame


def make_barcodes(
    folders: Sequence[Path], path: Path, config: BarcodeConfig | None = None, *, datasets: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the barcodes of all patients in some folders of concepts as an AnnData, patients x latents.

    Parameters
    ----------
    folders
        Written by `cytosae.concepts.encode`, all with the same autoencoder.
    path
        The ``.h5ad`` file.
    config
        Settings.
    datasets
        Data sets to take; all if none is named.

    Returns
    -------
    Figures: patients, cells, latents, artefacts left out, patients by diagnosis, cells without a patient, cells found
    under two patients.

    Raises
    ------
    CytosaeError
        Concepts of different autoencoders, no cell with a patient, or (by cell type) with a label.

    Notes
    -----
    A patient is a name in a data set: two hospitals may both have a patient 1. Rows with the same name stay together
    wherever patients are divided, in case that it is one person.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    config = config or BarcodeConfig()
    cell_sets, left_out = _read(folders, datasets, config)
    obs, codes = _patients(cell_sets, config.by_cell_type)
    first = read_concepts(cell_sets[0].folder, cell_sets[0].dataset, matrices=False)
    sums = BarcodeSums.empty(len(obs), first.n_vars)
    with progress("barcodes", len(codes), "cells") as bar:
        done = 0
        for cell_set in cell_sets:
            for start, counts, means in stream_concepts(cell_set.folder, cell_set.dataset):
                inside = cell_set.obs["row"].between(start, start + counts.shape[0] - 1).to_numpy()
                patient_codes = np.full(counts.shape[0], -1)
                rows = cell_set.obs["row"].to_numpy()[inside] - start
                patient_codes[rows] = codes[done : done + len(rows)]
                sums.add(counts, means, patient_codes)
                done += len(rows)
                bar.to(done)
    cells = pd.concat([cell_set.obs for cell_set in cell_sets], ignore_index=True)
    shared = _shared(cells) if config.duplicates else None
    if shared is None:
        say("barcodes: cells that occur under two patients are not looked for (--no-duplicates)")
    data = _anndata(obs, cells, codes, sums, config, read_parameters(cell_sets[0].folder)["concept_threshold"])
    if schema.TAUGHT in first.var:
        data.var[schema.TAUGHT] = first.var[schema.TAUGHT].to_numpy(object)
    data.var["is_concept"] &= ~_dismissed(cell_sets)
    leaves_out = config.artefacts == "leave-out"
    artefacts = artefact_latents(folders, datasets) if leaves_out else np.zeros(0, np.int64)
    if len(artefacts):
        leave_out(data, artefacts)
    data.uns["cytosae"] = _about(cell_sets, config, shared)
    data.strings_to_categoricals()
    data.obs, data.var = text_as_objects(data.obs), text_as_objects(data.var)
    for slot in ("obs", "var", "layers", "obsm", "varm", "uns"):
        schema.check(schema.BARCODES, slot, getattr(data, slot))
    with writing_hdf5(path) as file:
        ad.io.write_elem(file, "/", data, dataset_kwargs={"compression": "gzip"})
        if "raw" in file:
            del file["raw"]  # empty, and in the way of reading the file in parts
    if left_out:
        say(
            f"barcodes: {left_out:,} cells have no {'patient or label' if config.by_cell_type else 'patient'}, left out"
        )
    return {
        "rows": data.n_obs,
        "patients": int(obs["patient"].nunique()),
        "cells": int(sums.n_cells.sum()),
        "latents": data.n_vars,
        "concepts": int(data.var["is_concept"].sum()),
        "artefacts_left_out": len(artefacts),
        "diagnoses": _diagnoses(obs),
        "variance_between": _between(data),
        "cells_left_out": left_out,
        "shared_cells": None if shared is None else len(shared),
    }


def _dismissed(cell_sets: Sequence[_Cells]) -> NDArray[np.bool_]:
    """Latents that in no data set are a concept, for another reason than their mean activation, ``(n_latents,)``."""
    tables = [read_concepts(cells.folder, cells.dataset, matrices=False).var for cells in cell_sets]
    reasons = [var.get(schema.WHY_NOT, pd.Series(index=var.index, dtype=object)) for var in tables]
    return np.all([why.isin([FEW, SCATTERED]) for why in reasons], axis=0)


def patient_names(obs: pd.DataFrame) -> pd.Series[str]:
    """A name for each row: the ``patient``, with the ``dataset`` where two data sets have patients of one name.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    unique = obs["patient"].nunique() == obs[["dataset", "patient"]].drop_duplicates().shape[0]
    return obs["patient"] if unique else _with_dataset(obs)


def _with_dataset(obs: pd.DataFrame) -> pd.Series[str]:
    """Names ``patient@dataset``; an at sign in a patient's name is escaped where two names would be the same."""
    names = obs["patient"] + "@" + obs["dataset"]
    if len(names.unique()) == len(obs[["patient", "dataset"]].drop_duplicates()):
        return names
    escaped = obs["patient"].str.replace("\\", "\\\\", regex=False).str.replace("@", "\\@", regex=False)
    return escaped + "@" + obs["dataset"]


def _diagnoses(obs: pd.DataFrame) -> dict[str, int]:
    """Patients by diagnosis."""
    if "diagnosis" not in obs:
        return {}
    patients = obs.drop_duplicates(["dataset", "patient"])
    return {str(name): int(count) for name, count in patients["diagnosis"].value_counts().items()}


def _between(data: ad.AnnData) -> dict[str, float]:
    """Share of the barcodes' variance between the groups of each column that groups the patients."""
    variances = {}
    for column in schema.grouping(schema.BARCODES, data.obs.columns, keys=("dataset", "cell_type")):
        values = data.obs[column]
        if isinstance(values.dtype, pd.CategoricalDtype) and 1 < values.nunique() <= data.n_obs // 2:
            variances[str(column)] = variance_between(data.X, values.cat.codes.to_numpy())
    return variances


def _read(folders: Sequence[Path], datasets: Sequence[str], config: BarcodeConfig) -> tuple[list[_Cells], int]:
    first = read_inputs(folders[0])
    known = {name for folder in folders for name in read_datasets(folder)}
    if unknown := [name for name in datasets if name not in known]:
        raise CytosaeError(f"--dataset {unknown[0]}: not in these concepts, which have {', '.join(sorted(known))}.")
    cell_sets, left_out, seen = [], 0, set()
    needed = ["patient", "label"] if config.by_cell_type else ["patient"]
    for number, folder in enumerate(folders):
        if number and not same_dictionary(inputs := read_inputs(folder), first):
            raise CytosaeError(
                f"{folder}: encoded with {other_dictionary(inputs, first)} than {folders[0]}. A barcode counts the "
                "latents of one autoencoder and the same taught concepts: encode all cells with the same."
            )
        for name in read_datasets(folder):
            if datasets and name not in datasets:
                continue
            if name in seen:
                raise CytosaeError(f"{folder}: data set {name!r} is in another of the folders too. Rename one of them.")
            seen.add(name)
            check_unchanged(folder, name)
            obs = read_concepts(folder, name, matrices=False).obs
            obs = _renamed(obs.reset_index()).assign(row=np.arange(len(obs)), dataset=name)
            for column in needed:
                if column not in obs:
                    obs[column] = None
            usable = obs[obs[needed].notna().all(axis=1)].copy()
            left_out += len(obs) - len(usable)
            if len(usable):
                cell_sets.append(_Cells(folder, name, usable.astype(dict.fromkeys(needed, str))))
    if not cell_sets:
        raise CytosaeError(
            f"{folders[0]}: none of {left_out:,} cells has a {' and a '.join(needed)}. Barcodes need a column "
            f"{' and '.join(repr(name) for name in needed)} in the table of cells."
        )
    return cell_sets, left_out


def _renamed(obs: pd.DataFrame) -> pd.DataFrame:
    """The table of the cells; a column of the user with a name that barcodes give to one of their own gets another."""
    made = {entry.name for entry in schema.BARCODES if entry.slot == "obs" and not entry.users}
    names = {}
    for name in made.intersection(obs.columns):
        names[name] = GIVEN + name
        while names[name] in obs:
            names[name] += "_"
    return obs.rename(columns=names)


def _patients(cell_sets: Iterable[_Cells], by_cell_type: bool) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """What is known of each patient (or of each patient and cell type), and the row of each cell."""
    cells = pd.concat([cell_set.obs for cell_set in cell_sets], ignore_index=True)
    keys = ["dataset", "patient", *(["label"] if by_cell_type else [])]
    grouped = cells.groupby(keys, sort=True, observed=True)
    codes = np.asarray(grouped.ngroup(), dtype=np.int64)
    obs = grouped.size().rename("n_cells").reset_index().rename(columns={"label": "cell_type"})
    varying: list[str] = []
    for column in schema.grouping(schema.CONCEPTS, cells.columns.difference([*RESERVED], sort=False)):
        values = cells[column].astype(object).where(cells[column].notna(), None)
        distinct = values.groupby(codes).nunique()
        if column == "diagnosis" or distinct.max() <= 1:
            obs[column] = values.groupby(codes).first().where(distinct == 1, None).to_numpy()
        else:
            varying.append(column)
        if column == "diagnosis" and (distinct > 1).any():
            several = values.groupby(codes).agg(lambda v: " | ".join(sorted({str(x) for x in v.dropna()})))
            obs["conflicting_diagnoses"] = several.where(distinct > 1, None).to_numpy()
            number, first = int((distinct > 1).sum()), several[distinct > 1].iloc[0]
            say(
                f"barcodes: {number:,} of {len(distinct):,} patients have more than one diagnosis, the first {first!r}; "
                "they count as without one"
            )
    if varying:
        say(f"barcodes: left out, because the cells of a patient differ in it: {', '.join(varying)}")
    for column, values in _files(cells).items():
        obs[column] = values.groupby(codes).agg(lambda v: " | ".join(sorted({str(x) for x in v}))).to_numpy()
    names = patient_names(obs)
    obs.index = pd.Index((names + " | " + obs["cell_type"] if by_cell_type else names).astype(str).to_numpy())
    for column in obs.columns:
        if not pd.api.types.is_numeric_dtype(obs[column].infer_objects()):
            obs[column] = pd.Categorical(obs[column].where(obs[column].isna(), obs[column].astype(str)))
        else:
            obs[column] = obs[column].infer_objects()
    return obs, codes


def _files(cells: pd.DataFrame) -> dict[str, pd.Series]:
    known: dict[str, pd.Series] = {}
    for column, name in zip(("width", "height"), IMAGE_COLUMNS, strict=False):
        if column in cells:
            known[name] = cells[column]
    if "path" in cells:
        known[IMAGE_COLUMNS[2]] = cells["path"].astype(str).map(lambda path: Path(path).suffix.lower().lstrip("."))
    return known


def _shared(cells: pd.DataFrame) -> pd.DataFrame:
    patients, paths, hashes, names = (
        cells[name].astype(str).tolist() for name in ("patient", "path", "file_sha256", "cell_id")
    )
    with progress("cells of two patients", len(cells), "cells") as bar:
        return shared_cells(patients, paths, hashes, names, bar.to)


def _anndata(
    obs: pd.DataFrame,
    cells: pd.DataFrame,
    codes: NDArray[np.int64],
    sums: BarcodeSums,
    config: BarcodeConfig,
    threshold: float,
) -> ad.AnnData:
    active, total = sums.active.sum(axis=0), sums.total.sum(axis=0)
    mean = np.divide(total, active, out=np.zeros(len(total)), where=active > 0)
    var = pd.DataFrame(
        {
            "activation_frequency": active / sums.n_cells.sum(),
            "mean_activation": mean,
            "is_concept": is_concept(mean, threshold),
        },
        index=pd.Index([str(latent) for latent in range(len(mean))], name="latent"),
    )
    data = ad.AnnData(sums.counts.barcodes(), obs, var)
    data.layers.update(sums.counts.layers())
    if config.by_cell_type:
        data.layers.update(sums.counts.for_pooling())
        data.obsm["largest_counts"] = sums.counts.largest
    data.layers["mean_activation"] = sums.mean_activation()
    data.layers["active_cells"] = sums.active.astype(np.int32)
    if "label" in cells and not config.by_cell_type and cells["label"].notna().any():
        counts = pd.crosstab(codes, cells["label"].astype(str).where(cells["label"].notna()))
        data.obsm["cell_types"] = counts.div(counts.sum(axis=1), axis=0).reindex(range(len(obs))).to_numpy()
        data.uns["cell_types"] = counts.columns.to_numpy(dtype=object)
    if "diagnosis" in obs and not config.by_cell_type:
        diagnoses = obs["diagnosis"].cat
        barcodes = disease_barcodes(data.X, diagnoses.codes, len(diagnoses.categories))
        data.varm["disease_barcodes"] = barcodes.T
        data.uns["diseases"] = diagnoses.categories.to_numpy(dtype=object)
    return data


def _about(cell_sets: Sequence[_Cells], config: BarcodeConfig, shared: pd.DataFrame | None) -> dict[str, Any]:
    inputs = {cell_set.dataset: read_inputs(cell_set.folder) for cell_set in cell_sets}
    about: dict[str, Any] = {
        "stage": "barcodes",
        "cytosae": __version__,
        "parameters": to_stored(config),
        "encoding": {key: value for key, value in read_parameters(cell_sets[0].folder).items() if value is not None},
        "inputs": inputs,
        "meaning": schema.meanings(schema.BARCODES, "X", "layers", "varm"),
    }
    if shared is not None:
        about["shared_cells"] = text_as_objects(shared.astype({"correlation": float}))
    return about
