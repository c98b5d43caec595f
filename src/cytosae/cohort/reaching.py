"""In how many patients of each group does a concept reach a level? The level is the one at which the groups differ most.

A mean hides a mark that few cells carry, and the strongest cells of a patient are no normal variable: half of the patients
may have one cell with a mark, while some of the others have another cell with as much. So patients are counted who reach a
level, at every level, and the groups compared at the level where they differ most: a maximally selected statistic (Miller
and Siegmund, 1982; Lausen and Schumacher, 1992). Permutations select the level anew.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from cytosae.cohort.differences import Pairs, contrast_patients
from cytosae.cohort.kernels import largest_excess, reaches_as_far

REACH_Z = "reach_z"
"""Column by which latents are ordered."""


def compare_reach(
    barcodes: NDArray[np.floating],
    first: ArrayLike,
    strata: ArrayLike | None = None,
    *,
    patients: ArrayLike | None = None,
    tested: ArrayLike | None = None,
    permutations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare how many patients of two groups reach a level, in every latent.

    Parameters
    ----------
    barcodes
        A block of the barcodes, ``(n_patients, n_latents)``; transforms that keep the order change levels alone.
    first, strata, patients
        See `cytosae.cohort.compare`.
    tested
        Latents to test, ``(n_latents,)``; all if None.
    permutations, seed
        Permutations of the groups within the strata.

    Returns
    -------
    A row per latent: ``reach_level``, the level at which the groups differ most; ``reach_first`` and ``reach_second``, the
    share of the patients of each group who reach it (in each stratum, averaged as in `cytosae.cohort.compare`);
    ``reach_z``, by how many standard deviations the first group has more of those than a random choice of patients within
    the strata would have (Cochran, Mantel and Haenszel), negative where it has fewer; ``reach_p``, two-sided from
    permutations that select the level anew, and ``reach_fdr`` (Benjamini and Hochberg, 1995). p and fdr are NaN where a
    latent was not tested.

    Raises
    ------
    ValueError
        No stratum has patients of both groups.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    values, pairs, weights = contrast_patients(barcodes, first, strata, patients)
    used = np.concatenate([np.concatenate(pair) for pair in pairs])
    values = values[used]
    centred, stratum, spread = _labels(pairs)
    order = np.argsort(-values, axis=0, kind="stable").T.copy()
    z, at = largest_excess(order, values, centred, stratum, spread)
    level = np.take_along_axis(values, np.take_along_axis(order, at[:, None], axis=1).T, axis=0)[0]
    reached = values >= level
    shares, start = np.zeros((2, values.shape[1])), 0
    for (a, b), weight in zip(pairs, weights, strict=True):
        of_first, of_second = reached[start : start + len(a)], reached[start + len(a) : start + len(a) + len(b)]
        shares += weight * np.stack([of_first.mean(axis=0), of_second.mean(axis=0)])
        start += len(a) + len(b)
    table = pd.DataFrame({"reach_level": level, "reach_first": shares[0], "reach_second": shares[1], REACH_Z: z})
    some = np.ones(len(table), bool) if tested is None else np.asarray(tested, bool)
    some = some & (np.ptp(values, axis=0) > 0)
    table["reach_p"], table["reach_fdr"] = np.nan, np.nan
    if some.any() and permutations:
        drawn = _permuted(pairs, permutations, seed)
        chosen = np.flatnonzero(some)
        as_far = reaches_as_far(order[chosen], values[:, chosen], drawn, stratum, spread, np.abs(z[chosen]))
        p = (1 + as_far) / (1 + permutations)
        table.loc[some, "reach_p"], table.loc[some, "reach_fdr"] = p, false_discovery_control(p)
    return table.rename_axis("latent")


def _labels(pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Of the patients, pair by pair: 1 or 0 (first group or not) less the first group's share of the stratum; the stratum;
    and of each stratum its patients and the variance of a label, ``(n_strata, 2)``.
    """
    centred, stratum, spread = [], [], []
    for number, (a, b) in enumerate(pairs):
        n = len(a) + len(b)
        share = len(a) / n
        centred.append(np.repeat([1 - share, -share], [len(a), len(b)]))
        stratum.append(np.full(n, number))
        spread.append([n, share * (1 - share)])
    return np.concatenate(centred), np.concatenate(stratum), np.array(spread, np.float64)


def _permuted(pairs: Pairs, permutations: int, seed: int) -> NDArray[np.float32]:
    """Labels of `_labels` permuted within the strata, ``(n_permutations, n_patients)``."""
    rng = np.random.default_rng([seed, 3])
    parts = []
    for a, b in pairs:
        share = len(a) / (len(a) + len(b))
        labels = np.repeat(np.array([1 - share, -share], np.float32), [len(a), len(b)])
        parts.append(rng.permuted(np.tile(labels, (permutations, 1)), axis=1))
    return np.concatenate(parts, axis=1)
