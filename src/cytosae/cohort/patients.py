"""What is unusual in one patient, and which cells carry it: a rule, so that no image is chosen by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, t

LEAST = 3
"""Patients of a reference group, at least."""
RULE = (
    "A concept is unusual where the patient has more of it than the reference group, by the t of Crawford and "
    "Howell (1998) for one patient against a small group, with a false-discovery rate of at most {fdr:g} among "
    "the concepts that occur in the patient or in at least a tenth of the group. The {concepts} with the largest "
    "t are shown. A cell's score is the sum over these concepts of its excess over the group's mean, each in "
    "units of its t; the mean score of all the patient's cells is the sum of the t values. Cells are shown by "
    "falling score, ties in the order of the table of cells."
)
"""How concepts and cells are selected, in the words shown to the reader."""


def unusual(patient: ArrayLike, group: NDArray[np.floating], usable: ArrayLike | None = None) -> pd.DataFrame:
    """How far a patient's barcode lies above or below those of a group, latent by latent.

    Parameters
    ----------
    patient
        a_p[s], ``(n_latents,)``.
    group
        Barcodes of the reference group without this patient, ``(n_patients, n_latents)``, three patients at least.
    usable
        Latents to test, such as the discovered concepts, ``(n_latents,)``; all if None.

    Returns
    -------
    A row per latent: ``patient``, ``group`` (its mean), ``scale`` (one unit of t), ``t``, ``p`` (one-sided, that a
    member of the group has as much), ``fdr`` (Benjamini and Hochberg), ``above``: patients of the group who have at
    least as much. p and fdr are NaN where a latent was not tested.

    Notes
    -----
    ``t = (a - mean) / (s sqrt(1 + 1 / n))`` with n - 1 degrees of freedom (Crawford and Howell, 1998). To s is added
    the median of s over the tested latents, as in SAM (Tusher et al., 2001): a latent that nearly never varies would
    win by it alone.

    Raises
    ------
    ValueError
        Fewer than three patients in the group.
    """
    values, others = np.asarray(patient, np.float64), np.asarray(group, np.float64)
    n = len(others)
    if n < LEAST:
        raise ValueError(f"the group has {n} patients; {LEAST} at least are needed to say what is unusual")
    mean, deviation = others.mean(axis=0), others.std(axis=0, ddof=1)
    occurs = (values > 0) | ((others > 0).mean(axis=0) >= 0.1)
    tested = occurs & (np.ones(len(values), bool) if usable is None else np.asarray(usable, bool))
    floor = float(np.median(deviation[tested])) if tested.any() else 0.0
    scale = (deviation + floor) * np.sqrt(1 + 1 / n)
    score = np.divide(values - mean, scale, out=np.zeros_like(mean), where=scale > 0)
    p, fdr = np.full(len(values), np.nan), np.full(len(values), np.nan)
    p[tested] = t.sf(score[tested], n - 1)
    if tested.any():
        fdr[tested] = false_discovery_control(p[tested])
    table = pd.DataFrame({"patient": values, "group": mean, "scale": scale, "t": score, "p": p, "fdr": fdr})
    table["above"] = (others >= values).sum(axis=0)
    return table.rename_axis("latent")


def selected(table: pd.DataFrame, concepts: int = 8, fdr: float = 0.1) -> NDArray[np.int64]:
    """The latents to show, by `RULE`; none where nothing is unusual."""
    passing = table[(table["fdr"] <= fdr) & (table["t"] > 0)]
    return passing.sort_values("t", ascending=False, kind="stable").index.to_numpy(np.int64)[:concepts]


def cell_scores(counts: sp.csr_matrix, table: pd.DataFrame, latents: ArrayLike) -> NDArray[np.float64]:
    """What each cell adds to the excess of some concepts, ``(n_cells, n_concepts)``; sums over the concepts are the
    cells' scores.

    Parameters
    ----------
    counts
        a_i[s] of the patient's cells, ``(n_cells, n_latents)``.
    table
        Of `unusual`.
    latents
        The concepts.

    Notes
    -----
    The mean over the cells is the t of each concept, since a barcode is a mean over cells (Eq. 3).
    """
    chosen = np.asarray(latents, np.int64)
    rows = table.loc[chosen]
    return np.asarray((counts[:, chosen].toarray() - rows["group"].to_numpy()) / rows["scale"].to_numpy())
