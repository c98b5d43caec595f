"""What is unusual in one patient, and which cells carry it: a rule, so that no image is chosen by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, t

from cytosae.cohort.parts import cell_values
from cytosae.cohort.representation import PAPER, Representation

LEAST = 3
"""Patients of a reference group, at least."""
RULE = (
    "The patient's barcode is compared with the mean of the reference group. t is the difference in units of its "
    "uncertainty: how much the patients of the group differ (less what their samples of cells alone would give), the "
    "error of this patient's barcode, and the error of the group's mean. A concept is unusual if the patient has more "
    "of it and the false-discovery rate of t is at most {fdr:g}, among the discovered concepts that occur in the "
    "patient or in at least a tenth of the group. Up to {concepts} concepts with the largest t are shown. A cell's "
    "score is the sum, over these concepts, of how far the cell is above the group's mean, in the same units. So the "
    "mean score of all the patient's cells is the sum of the t values. Cells with the highest score come first; ties "
    "keep the order of the table of cells."
)
"""How concepts and cells are selected, in the words shown to the reader."""


def unusual(
    patient: ArrayLike,
    error: ArrayLike,
    group: NDArray[np.floating],
    errors: NDArray[np.floating],
    usable: ArrayLike | None = None,
) -> pd.DataFrame:
    """How far a patient's barcode lies above or below those of a group, latent by latent.

    Parameters
    ----------
    patient, error
        a_p[s] and its standard error from the spread over the patient's images, ``(n_latents,)``.
    group, errors
        The same of the reference group without this patient, ``(n_patients, n_latents)``, three patients at least.
    usable
        Latents to test, such as the discovered concepts, ``(n_latents,)``; all if None.

    Returns
    -------
    A row per latent: ``patient``, ``group`` (its mean), ``scale`` (one unit of t), ``t``, ``p`` (one-sided, that a
    member of the group has as much), ``fdr`` (Benjamini and Hochberg), ``above``: patients of the group who have at
    least as much. p and fdr are NaN where a latent was not tested.

    Raises
    ------
    ValueError
        Fewer than three patients in the group.

    Notes
    -----
    One patient against a small group, as Crawford and Howell (1998), with n - 1 degrees of freedom. Their variance
    s^2 (1 + 1 / n) takes the patient to be measured as well as the group; barcodes are means of samples of cells, so
    here it is the variance between patients ``max(s^2 - mean(errors^2), 0)`` plus ``error^2`` plus ``s^2 / n``. A
    concept in a single cell of a patient has an error as large as its barcode, and is not unusual.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    values, others = np.asarray(patient, np.float64), np.asarray(group, np.float64)
    n = len(others)
    if n < LEAST:
        raise ValueError(f"the group has {n} patients; {LEAST} at least are needed to say what is unusual")
    mean, variance = others.mean(axis=0), others.var(axis=0, ddof=1)
    between = np.maximum(variance - (np.asarray(errors, np.float64) ** 2).mean(axis=0), 0)
    scale = np.sqrt(between + np.asarray(error, np.float64) ** 2 + variance / n)
    occurs = (values > 0) | ((others > 0).mean(axis=0) >= 0.1)
    tested = occurs & (scale > 0) & (np.ones(len(values), bool) if usable is None else np.asarray(usable, bool))
    score = np.divide(values - mean, scale, out=np.zeros_like(mean), where=scale > 0)
    p, fdr = np.full(len(values), np.nan), np.full(len(values), np.nan)
    p[tested] = t.sf(score[tested], n - 1)
    if tested.any():
        fdr[tested] = false_discovery_control(p[tested])
    table = pd.DataFrame({"patient": values, "group": mean, "scale": scale, "t": score, "p": p, "fdr": fdr})
    table["above"] = (others >= values).sum(axis=0)
    return table.rename_axis("latent")


def selected(table: pd.DataFrame, concepts: int = 8, fdr: float = 0.1) -> NDArray[np.int64]:
    """The latents that are unusual by `RULE`, largest t first.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    passing = table[(table["fdr"] <= fdr) & (table["t"] > 0)]
    return passing.sort_values("t", ascending=False, kind="stable").index.to_numpy(np.int64)[:concepts]


def cell_scores(
    counts: sp.csr_matrix, table: pd.DataFrame, latents: ArrayLike, representation: Representation = PAPER
) -> NDArray[np.float64]:
    """What each cell adds to the excess of some concepts, ``(n_cells, n_concepts)``; sums over the concepts are the
    cells' scores.

    Parameters
    ----------
    counts
        a_i[s] of the patient's cells, ``(n_cells, n_latents)``.
    representation
        Of the barcodes that the table compares; one block.
    table
        Of `unusual`.
    latents
        The concepts.

    Notes
    -----
    The mean over the cells is the t of each concept, since every block is a mean of parts of cells (Eq. 3).

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    chosen = np.asarray(latents, np.int64)
    rows = table.loc[chosen]
    values = cell_values(counts, representation, chosen)
    return np.asarray((values - rows["group"].to_numpy()) / rows["scale"].to_numpy())
