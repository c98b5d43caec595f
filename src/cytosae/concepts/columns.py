"""Columns that are added to the AnnData of a study's concepts after they were encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
from anndata.io import read_elem, write_elem

from cytosae.artefacts import FileRecord, Manifest, reading_hdf5, text_as_objects, writing_hdf5
from cytosae.concepts.storage import check_unchanged
from cytosae.errors import CytosaeError, Interrupted
from cytosae.interrupts import deferred_signals

_AGAIN = "Run `cytosae encode` again."
_DEPENDENT = ("cohort",)
"""Stages that have the fingerprint of the concepts among their inputs, but take none of these columns."""

MakeColumns = Callable[[pd.DataFrame, str], Mapping[str, pd.Series]]
"""The columns for a data set, from the table that gets them and the data set's name."""


def add_columns(study: Path, slot: str, make: MakeColumns, former: Sequence[str] = ()) -> int:
    """Write columns into ``obs`` or ``var`` of every ``concepts/<dataset>.h5ad`` of a study; nothing else in them changes.

    The manifests of the concepts and the barcodes record the new files, so that neither is made again. A file that has
    these columns already is not touched.

    Parameters
    ----------
    study
        A folder with finished concepts.
    slot
        ``obs`` or ``var``.
    make
        Gives the columns.
    former
        Columns that go, unless `make` gives them.

    Returns
    -------
    Number of files that changed.

    Raises
    ------
    CytosaeError
        No finished concepts, or a file that is not the one in its manifest.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    folder = study / "concepts"
    manifest = Manifest.load(folder)
    if manifest is None or manifest.stage != "concepts":
        raise CytosaeError(f"{folder}: no finished concepts there. Run `cytosae run CELLS --study {study}` first.")
    changed = 0
    for dataset, name in manifest.summary["files"].items():
        file = f"{name}.h5ad"
        check_unchanged(folder, dataset)
        with deferred_signals() as stop:  # file and manifest change together
            if _write(folder / file, slot, dataset, make, former):
                manifest = _record(study, manifest, file)
                changed += 1
        if stop.signum is not None:
            raise Interrupted(stop.signum)
    return changed


def _write(path: Path, slot: str, dataset: str, make: MakeColumns, former: Sequence[str]) -> bool:
    """Write the columns into a copy that takes the file's place; False where they are there already."""
    with reading_hdf5(path, _AGAIN), h5py.File(path) as file:
        table: pd.DataFrame = read_elem(file[slot])
    columns = make(table, dataset)
    going = [name for name in former if name in table and name not in columns]
    if not going and all(name in table and _alike(table[name], column) for name, column in columns.items()):
        return False
    replaced = {*columns, *going}
    with writing_hdf5(path) as target, h5py.File(path) as source:
        # copied object by object: what is replaced in an HDF5 file leaves its room behind
        target.attrs.update(source.attrs)
        for name in (name for name in source if name != slot):
            source.copy(name, target)
        group = target.create_group(slot)
        group.attrs.update(source[slot].attrs)
        for name in (name for name in source[slot] if name not in replaced):
            source.copy(source[slot][name], group)
        for name, column in columns.items():
            write_elem(group, name, column.array if column.dtype == "category" else column.to_numpy())
        order = [name for name in group.attrs["column-order"] if name not in replaced]
        group.attrs["column-order"] = [*order, *columns]
    return True


def _alike(stored: pd.Series, made: pd.Series) -> bool:
    """Whether a column is there already; text is text, whichever type pandas reads it as."""
    if (stored.dtype == "category") != (made.dtype == "category"):
        return False
    known = stored.notna().to_numpy()
    return bool((known == made.notna().to_numpy()).all()) and stored[known].tolist() == made[known].tolist()


def _record(study: Path, manifest: Manifest, file: str) -> Manifest:
    """Save the manifest with the new file; stages that were made from these concepts are made from them still."""
    folder = study / "concepts"
    renewed = replace(manifest, outputs={**manifest.outputs, file: FileRecord.from_file(folder / file)})
    renewed.save(folder)
    for stage in _DEPENDENT:
        dependent = Manifest.load(study / stage)
        if dependent is not None and dependent.inputs.get("concepts") == manifest.fingerprint():
            replace(dependent, inputs={**dependent.inputs, "concepts": renewed.fingerprint()}).save(study / stage)
    return renewed


def text_column(values: Sequence[str | None], index: pd.Index[Any], name: str) -> pd.Series:
    """A column of text as AnnData stores it.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    return text_as_objects(pd.DataFrame({name: pd.Categorical(list(values))}, index=index))[name]
