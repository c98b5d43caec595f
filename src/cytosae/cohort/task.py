"""A classification task: the patients with a known class, and what limits it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cohort.barcodes import pooled_mean_activation
from cytosae.concepts.quality.resampling import group_codes
from cytosae.errors import CytosaeError, NotFound

LEAST = 2
"""Patients of a class, at least: one to train on and one to predict."""


@dataclass(frozen=True)
class Patients:
    """Patients of whom something is to be predicted."""

    data: ad.AnnData
    """Their barcodes."""

    @property
    def patients(self) -> list[str]:
        """The patient of each row: rows of one patient stay together."""
        return self.data.obs["patient"].astype(str).tolist()

    @property
    def units(self) -> NDArray[np.int64]:
        """The patient of each row as a number, ``(n_rows,)``: what is drawn for intervals and shuffled for the null."""
        return group_codes(len(self.patients), pd.factorize(pd.Series(self.patients))[0])


@dataclass(frozen=True)
class ClassificationTask(Patients):
    """Patients with a known class."""

    target: NDArray[np.int64]
    """Class of each row, ``(n_rows,)``."""
    classes: tuple[str, ...]
    caveats: tuple[str, ...]
    """What was left out and what a reader has to know."""

    @property
    def barcodes(self) -> NDArray[np.float32]:
        """``(n_rows, n_latents)``."""
        return np.asarray(self.data.X, dtype=np.float32)

    def log_mean(self, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        """log10 of each latent's mean activation over the images of some patients; -inf where it is silent."""
        means, active = (self.data.layers[name][rows] for name in ("mean_activation", "active_cells"))
        with np.errstate(divide="ignore"):
            return np.log10(pooled_mean_activation(means, active, self.data.obs["n_cells"].to_numpy()[rows]))


def patient_column(data: ad.AnnData, name: str) -> pd.Series:
    """A column of the patients, as text or numbers, missing values as None.

    Raises
    ------
    CytosaeError
        There is no such column.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    if name not in data.obs:
        raise NotFound(f"no column {name!r} in the barcodes; they have {', '.join(data.obs.columns)}.")
    values = data.obs[name].astype(object)
    return values.where(values.notna(), None)


def classification_task(data: ad.AnnData, target: str) -> ClassificationTask:
    """The patients whose class is known, and the caveats.

    Raises
    ------
    CytosaeError
        No such column, or fewer than two classes with two patients each.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    values = patient_column(data, target)
    caveats = []
    if missing := int(values.isna().sum()):
        caveats.append(f"{missing} of {len(values)} patients have no {target}, left out")
    patients = data.obs["patient"].astype(str)
    sizes = patients.groupby(values.to_numpy()).nunique()
    if len(small := sizes.index[sizes < LEAST]):
        caveats.append(f"left out, since they have one patient: {', '.join(map(str, small))}")
    classes = [name for name in sizes.index if sizes[name] >= LEAST]
    if len(classes) < 2:
        shown = ", ".join(f"{name} ({size})" for name, size in sizes.items()) or "none"
        raise CytosaeError(f"column {target!r}: two classes with two patients each are needed; the column has {shown}.")
    if len(classes) > max(10, len(patients) // 3):
        raise CytosaeError(
            f"column {target!r}: has {len(classes)} values for {len(patients)} patients, too many to be classes; choose "
            "another `--target`."
        )
    if (few := int(sizes[classes].min())) < 10:
        caveats.append(f"the smallest class has {few} patients: read the intervals, not the figures")
    included = values.isin(classes).to_numpy()
    chosen = data[included].copy()
    names = tuple(sorted(map(str, classes)))
    codes = pd.Categorical(values[included].astype(str), categories=names).codes.astype(np.int64)
    task = ClassificationTask(chosen, codes, names, tuple(caveats))
    if np.ptp(task.barcodes, axis=0).max(initial=0) == 0:
        task = replace(task, caveats=(*caveats, "all barcodes are alike: nothing distinguishes the patients"))
    return task
