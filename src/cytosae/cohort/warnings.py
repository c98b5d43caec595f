"""Warnings before anything is fitted: what could make a classifier look better than it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cytosae.concepts import schema
from cytosae.concepts.schema import BARCODES, IMAGE_COLUMNS

DRAWS, LEVEL, BINS = 5000, 0.01, 5


@dataclass(frozen=True)
class CohortWarning:
    """Something that a reader has to know before the figures."""

    kind: str
    """``leak`` (the answer is in the data), ``confounder`` (so does something else), ``conflict``, ``not checked``."""
    text: str
    figures: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def association(column: ArrayLike, target: ArrayLike, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """How strongly a column is associated with the class of a patient: Cramer's V without its bias (Bergsma, 2013), and its
    permutation p.

    Parameters
    ----------
    column
        Values of the patients; numbers with more than five different values are cut into fifths. Missing is a value
        too.
    target
        Classes, ``(n_patients,)``.
    """
    values = pd.Series(np.asarray(column, dtype=object)).reset_index(drop=True)
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().sum() == values.notna().sum() and numbers.nunique() > BINS:
        values = pd.qcut(numbers, BINS, duplicates="drop").astype(object)
    rows = pd.factorize(values, use_na_sentinel=False)[0]
    classes = np.unique(np.asarray(target), return_inverse=True)[1]
    r, k, n = rows.max(initial=-1) + 1, classes.max(initial=-1) + 1, len(rows)
    if r < 2 or k < 2:
        return 0.0, 1.0
    expected = np.outer(np.bincount(rows, minlength=r), np.bincount(classes, minlength=k)) / n

    def chi(labels: NDArray[np.integer]) -> float:
        table = np.bincount(rows * k + labels, minlength=r * k).reshape(r, k)
        return float(((table - expected) ** 2 / expected).sum())

    rng = np.random.default_rng(seed)
    observed = chi(classes)
    null = np.array([chi(rng.permutation(classes)) for _ in range(draws)])
    phi = max(0.0, observed / n - (r - 1) * (k - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    v = float(np.sqrt(phi / smaller)) if smaller > 0 else 0.0
    return min(1.0, v), float((1 + (null >= observed - 1e-9).sum()) / (1 + draws))


def cohort_warnings(data: ad.AnnData, target: str, seed: int = 0) -> list[CohortWarning]:
    """Look for leaks and confounders in the barcodes of patients.

    Checked are: patients with two diagnoses; cells that occur under two patients; image size or file format that
    predicts the class; any other column of the patients that does (laboratory, scanner, sex), from a permutation p of
    0.01 divided by the number of columns looked at.
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
    for column in columns:
        v, p = association(known[column], known[target].astype(str), seed=seed)
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
