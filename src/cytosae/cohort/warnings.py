"""Warnings before anything is fitted: what could make a classifier look better than it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cytosae.cohort.barcodes import variance_between
from cytosae.cohort.differences import cut
from cytosae.cohort.folds import shuffled_within
from cytosae.concepts import schema
from cytosae.concepts.schema import BARCODES, IMAGE_COLUMNS

DRAWS, LEVEL, BINS = 5000, 0.01, 5
_ENOUGH, _BATCH = 20, 500
_TIMES = 5  # draws for each that may be as strong at the bar


@dataclass(frozen=True)
class CohortWarning:
    """Something that a reader has to know before the figures."""

    kind: str
    """``leak`` (the answer is in the data), ``confounder`` (so does something else), ``variance`` (something else holds more
    of it), ``conflict``, ``not checked``."""
    text: str
    figures: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def association(
    column: ArrayLike, target: ArrayLike, draws: int = DRAWS, seed: int = 0, patients: ArrayLike | None = None
) -> tuple[float, float]:
    """How strongly a column is associated with the class of a patient: Cramer's V without its bias (Bergsma, 2013), and its
    permutation p.

    Permutations end at `draws`, or once twenty were as strong: p is then twenty divided by how many that took (Besag and
    Clifford, 1991). So many draws, which small p values need, cost little where there is no association.

    Parameters
    ----------
    column
        Values of the patients; numbers with more than five different values are cut into fifths. Missing is a value
        too.
    target
        Classes, ``(n_rows,)``.
    patients
        Name or number of each row's patient, whose rows are permuted together; each row is one if None.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    rows = pd.factorize(cut(column, BINS, above=BINS), use_na_sentinel=False)[0]
    classes = np.unique(np.asarray(target), return_inverse=True)[1]
    r, k, n = rows.max(initial=-1) + 1, classes.max(initial=-1) + 1, len(rows)
    if r < 2 or k < 2:
        return 0.0, 1.0
    expected = np.outer(np.bincount(rows, minlength=r), np.bincount(classes, minlength=k)) / n

    def chi(labels: NDArray[np.integer]) -> NDArray[np.float64]:
        cells = np.arange(len(labels))[:, None] * (r * k) + rows * k + labels
        table = np.bincount(cells.ravel(), minlength=len(labels) * r * k).reshape(-1, r, k)
        return np.asarray(((table - expected) ** 2 / expected).sum(axis=(1, 2)))

    units = np.arange(n) if patients is None else pd.factorize(np.asarray(patients, dtype=object))[0]
    (observed,) = chi(classes[None])
    as_strong, drawn = 0, 0
    while drawn < draws and as_strong < _ENOUGH:
        batch = shuffled_within(np.zeros(n, np.int64), classes, units, min(_BATCH, draws - drawn), seed + drawn)
        above = np.cumsum(chi(batch) >= observed - 1e-9)
        ends = int(np.searchsorted(above, _ENOUGH - as_strong))  # the draw that was the twentieth
        drawn += min(ends + 1, len(batch))
        as_strong += int(above[min(ends, len(batch) - 1)])
    p = as_strong / drawn if as_strong >= _ENOUGH else (1 + as_strong) / (1 + drawn)
    phi = max(0.0, observed / n - (r - 1) * (k - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    v = float(np.sqrt(phi / smaller)) if smaller > 0 else 0.0
    return min(1.0, v), float(p)


def cohort_warnings(data: ad.AnnData, target: str, seed: int = 0) -> list[CohortWarning]:
    """Look for leaks and confounders in the barcodes of patients.

    Checked are: patients with two diagnoses; cells that occur under two patients; image size or file format that
    predicts the class; any other column of the patients that does (laboratory, scanner, sex), from a permutation p of
    0.01 divided by the number of columns looked at; any column that holds more of the barcodes' variance than the class.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    warnings = []
    obs = data.obs
    if (
        target == "diagnosis"
        and "conflicting_diagnoses" in obs
        and (several := obs["conflicting_diagnoses"].dropna()).size
    ):
        first = f"{several.index[0]} ({several.iloc[0]})"
        text = f"{len(several)} patients have more than one diagnosis and are left out, the first is {first}"
        warnings.append(CohortWarning("conflict", text, {"patients": several.astype(str).to_dict()}))
    warnings += _same_name(obs, target)
    about = data.uns["cytosae"]
    warnings += _shared(about.get("shared_cells"))
    if not about.get("parameters", {}).get("duplicates", True):
        text = "cells that occur under two patients were not looked for (--no-duplicates)"
        warnings.append(CohortWarning("not checked", text, {}))
    known = obs[obs[target].notna()]
    columns = schema.grouping(BARCODES, obs.columns, keys=("dataset",))
    columns = [c for c in columns if c != target and known[c].nunique(dropna=False) > 1]
    columns = [c for c in columns if pd.api.types.is_numeric_dtype(obs[c]) or known[c].nunique() <= len(known) // 2]
    draws = max(DRAWS, round(_TIMES * len(columns) / LEVEL))  # or p could not get below the bar
    for column in columns:
        v, p = association(known[column], known[target].astype(str), draws, seed, known["patient"])
        if p > LEVEL / len(columns):
            continue
        figures = {"column": column, "cramers_v": v, "p": p}
        if column in IMAGE_COLUMNS:
            name = column.replace("_", " ")
            text = f"{name} predicts the {target} (Cramer's V {v:.2f}, p {p:.2g}): the images of the classes differ as files"
            warnings.append(CohortWarning("leak", text, figures))
        else:
            text = f"{column} predicts the {target} (Cramer's V {v:.2f}, p {p:.2g}): leave one out, or adjust for it"
            warnings.append(CohortWarning("confounder", text, figures))
    return warnings + _variance(data, target, columns)


def _variance(data: ad.AnnData, target: str, columns: Sequence[str]) -> list[CohortWarning]:
    """Columns whose groups hold more of the barcodes' variance than the classes, over what as many groups hold by chance."""

    def share(column: str) -> float:
        codes = pd.factorize(data.obs[column].astype(object))[0]
        n, groups = int((codes >= 0).sum()), int(codes.max(initial=-1)) + 1
        if not 1 < groups < n:
            return float("nan")
        return 1 - (1 - variance_between(data.X, codes)) * (n - 1) / (n - groups)

    of_target = share(target)
    warnings = []
    for column in columns:
        if pd.api.types.is_numeric_dtype(data.obs[column]) or not (held := share(column)) > max(of_target, 0):
            continue
        text = f"{column} holds {held:.0%} of the variance of the barcodes, {target} {max(of_target, 0):.0%}"
        figures = {"column": column, "variance": held, "variance_of_target": of_target}
        warnings.append(CohortWarning("variance", text, figures))
    return warnings


def _same_name(obs: pd.DataFrame, target: str) -> list[CohortWarning]:
    """Rows of one name, in two data sets, that are said to be of different classes."""
    per = obs.groupby(obs["patient"].astype(str), observed=True)[target].nunique()
    several = per.index[per > 1]
    if not len(several):
        return []
    text = (
        f"{len(several)} names of patients have another {target} in another data set, the first is {several[0]}: if they "
        "are different people, give them different names"
    )
    return [CohortWarning("conflict", text, {"patients": list(several)})]


def _shared(pairs: pd.DataFrame | None) -> list[CohortWarning]:
    if pairs is None or not len(pairs):
        return []
    first = pairs.iloc[0]
    patients = pd.concat([pairs["patient"], pairs["other_patient"]]).nunique()
    text = (
        f"{len(pairs)} cells occur under two patients ({patients} patients), the first is {first['cell']} of "
        f"{first['patient']} and {first['other_cell']} of {first['other_patient']}: one may predict the other"
    )
    return [CohortWarning("leak", text, {"pairs": pairs.to_dict("records")})]
