"""Which concepts one group of patients has more of than another, by how much, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, rankdata

_BLOCK = 2048  # latents that are drawn together

Pairs = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Rows of the first and of the second group in each stratum."""


def make_strata(column: pd.Series | None, n: int, cuts: int = 3) -> NDArray[np.int64]:
    """Groups of patients that are compared only with one another, ``(n,)``.

    Parameters
    ----------
    column
        What to adjust for: text as it is, numbers with more than six values cut into thirds; missing is a group of
        its own. None puts all into one.

    Examples
    --------
    >>> make_strata(None, 3).tolist()
    [0, 0, 0]
    """
    if column is None:
        return np.zeros(n, np.int64)
    return np.asarray(pd.factorize(cut(column, cuts, above=2 * cuts), use_na_sentinel=False)[0], np.int64)


def cut(column: ArrayLike, cuts: int, above: int) -> pd.Series:
    """A column as it is, or, of numbers with more than `above` different values, cut into as many equal parts.

    An infinite number is in the outermost part.
    """
    values = pd.Series(np.asarray(column, dtype=object)).reset_index(drop=True)
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().sum() != values.notna().sum() or numbers.nunique() <= above:
        return values
    if np.isinf(numbers).any():
        numbers = numbers.rank()  # infinite ones have a rank, and no quantile
    return pd.qcut(numbers, cuts, duplicates="drop").astype(object)


def compare(
    barcodes: NDArray[np.floating],
    first: ArrayLike,
    strata: ArrayLike | None = None,
    *,
    patients: ArrayLike | None = None,
    occurring: NDArray[np.floating] | None = None,
    prevalence: float = 0.1,
    draws: int = 1000,
    permutations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare two groups of patients in every latent.

    With strata (laboratories), patients are compared within each and the results averaged with weights n_a n_b / (n_a
    + n_b), as in van Elteren (1960); strata that lack one of the groups tell nothing and drop out.

    Parameters
    ----------
    barcodes
        a_p[s] of the patients of both groups, ``(n_patients, n_latents)``.
    first
        Whether a patient is in the first group, ``(n_patients,)``.
    strata
        `make_strata`, ``(n_patients,)``; one for all if None.
    patients
        Number of each row's patient, ``(n_patients,)``; each row is one if None. Rows of one patient in a group and stratum,
        as from two data sets, count as one, their mean: as two they would make p values too small.
    occurring
        Barcodes by which it is decided where a latent occurs, if those compared have been adjusted,
        ``(n_patients, n_latents)``.
    prevalence
        A latent is tested where it occurs (a_p[s] > 0) in at least this share of the patients of both groups
        together: a filter that does not know the groups, so that it spoils no p value.
    draws, permutations
        Bootstrap draws of the patients of each group in each stratum, and permutations of the groups within the strata.

    Returns
    -------
    A row per latent: ``first`` and ``second``, the barcodes of both groups (without strata: a_d[s] of Eq. 3);
    ``difference`` with ``low`` and ``high``, the 95 % bootstrap interval; ``effect``, the difference in pooled
    deviations within groups and strata (Hedges' g, 1981); ``auroc``, that a patient of the first group has more than
    one of the second; ``prevalence``, ``tested``, ``p``, two-sided from permutations of the difference, and ``fdr``
    (Benjamini and Hochberg, 1995). p and fdr are NaN where a latent was not tested.

    Raises
    ------
    ValueError
        No stratum has patients of both groups.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    values, pairs, weights = contrast_patients(barcodes, first, strata, patients)
    given = values if occurring is None else contrast_patients(occurring, first, strata, patients)[0]
    used = np.concatenate([np.concatenate(pair) for pair in pairs])
    occurs = (given[used] > 0).mean(axis=0)
    tested = (occurs >= prevalence) & (np.ptp(values[used], axis=0) > 0)
    table = pd.DataFrame(dict(zip(("first", "second"), _means(values, pairs, weights), strict=True)))
    table["difference"] = table["first"] - table["second"]
    table["low"], table["high"] = _bootstrap(values, pairs, weights, draws, seed)
    table["effect"] = table["difference"] / _deviation(values, pairs) * _small_sample(pairs)
    table["auroc"] = _area(values, pairs)
    table["prevalence"], table["tested"] = occurs, tested
    p = np.full(len(table), np.nan)
    p[tested] = permutation_p(values[:, tested], pairs, weights, permutations, seed)
    table["p"], table["fdr"] = p, np.nan
    if tested.any() and permutations:
        table.loc[tested, "fdr"] = false_discovery_control(p[tested])
    return table.rename_axis("latent")


def group_means(
    barcodes: NDArray[np.floating], first: ArrayLike, strata: ArrayLike, *, patients: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The barcodes of both groups as `compare` has them, ``(n_latents,)`` each; parameters as there.

    Examples
    --------
    >>> barcodes = np.array([[1.0], [3.0], [5.0]])
    >>> means = group_means(barcodes, [True, True, False], np.zeros(3, int), patients=[0, 1, 2])
    >>> [mean.tolist() for mean in means]
    [[2.0], [5.0]]
    """
    return _means(*contrast_patients(barcodes, first, strata, patients))


def _means(
    values: NDArray[np.float32], pairs: Pairs, weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of the first and of the second group, averaged over the strata."""
    plus, minus = np.zeros(len(values)), np.zeros(len(values))
    for (a, b), weight in zip(pairs, weights, strict=True):
        plus[a], minus[b] = weight / len(a), weight / len(b)
    return plus @ values, minus @ values


def contrast_patients(
    barcodes: NDArray[np.floating], first: ArrayLike, strata: ArrayLike | None, patients: ArrayLike | None
) -> tuple[NDArray[np.float32], Pairs, NDArray[np.float64]]:
    """The barcodes, one row for a patient in a group and stratum, and who is compared with whom; see `contrasted`."""
    values, side = np.asarray(barcodes, np.float32), np.asarray(first, bool)
    codes = np.zeros(len(side), np.int64) if strata is None else np.asarray(strata)
    if patients is not None:
        values, side, codes = one_row_each(values, side, codes, np.asarray(patients))
    return values, *contrasted(side, codes)


def contrasted(side: NDArray[np.bool_], codes: NDArray[np.integer]) -> tuple[Pairs, NDArray[np.float64]]:
    """The patients of both groups in each stratum that has both, and the weight of the stratum (van Elteren, 1960).

    Raises
    ------
    ValueError
        No stratum has patients of both groups.
    """
    pairs = [(np.flatnonzero((codes == s) & side), np.flatnonzero((codes == s) & ~side)) for s in np.unique(codes)]
    pairs = [(a, b) for a, b in pairs if len(a) and len(b)]
    if not pairs:
        raise ValueError("no stratum has patients of both groups")
    weights = np.array([len(a) * len(b) / (len(a) + len(b)) for a, b in pairs])
    return pairs, weights / weights.sum()


def most_different(
    table: pd.DataFrame, count: int = 50, by: str = "difference"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The latents most in favour of each side, strongest first.

    Parameters
    ----------
    table
        Of `compare`.
    count
        Latents of each side, at most.
    by
        ``difference`` of the barcodes (section 3.3), ``effect``, that difference in deviations of the patients, or
        ``reach_z`` (`cytosae.cohort.compare_reach`); by these, latents that were not tested come last.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    values = table[by].to_numpy(np.float64)
    if by != "difference":
        values = np.where(table["tested"].to_numpy(bool) & np.isfinite(values), values, 0)
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    return order[ordered > 0][:count], order[ordered < 0][::-1][:count]


def one_row_each(
    values: NDArray[np.float32], side: NDArray[np.bool_], codes: NDArray[np.integer], patients: NDArray[np.integer]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.integer]]:
    """One row for the rows of a patient in the same group and stratum: their mean."""
    keys = np.stack([patients, side, codes], axis=1)
    _, first, person = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(values):
        return values, side, codes
    member = sp.csr_matrix((np.ones(len(values)), (person.ravel(), np.arange(len(values)))))
    means = (member @ values) / np.asarray(member.sum(axis=1))
    return means.astype(np.float32), side[first], codes[first]


def _small_sample(pairs: Pairs) -> float:
    """Hedges' correction of the effect size for few patients."""
    freedom = sum(len(a) + len(b) - 2 for a, b in pairs)
    return 1 - 3 / (4 * freedom - 1) if freedom > 0 else np.nan


def _deviation(values: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float64]:
    """Pooled standard deviation within groups and strata; NaN where nothing varies."""
    squares, freedom = np.zeros(values.shape[1]), 0
    for rows in (rows for pair in pairs for rows in pair):
        squares += len(rows) * values[rows].var(axis=0, dtype=np.float64)
        freedom += len(rows) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.sqrt(squares / freedom)
    return np.where(deviation > 0, deviation, np.nan)


def _area(values: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float64]:
    """AUROC over the pairs of patients of one stratum, ties counted half."""
    wins, total = np.zeros(values.shape[1]), 0
    for a, b in pairs:
        ranks = rankdata(values[np.concatenate([a, b])], axis=0)[: len(a)].sum(axis=0)
        wins += ranks - len(a) * (len(a) + 1) / 2
        total += len(a) * len(b)
    return wins / total


def _bootstrap(
    values: NDArray[np.float32], pairs: Pairs, weights: NDArray[np.float64], draws: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng([seed, 1])
    drawn = np.zeros((draws, len(values)), np.float32)
    for (a, b), weight in zip(pairs, weights, strict=True):
        for rows, sign in ((a, weight), (b, -weight)):
            drawn[:, rows] = sign * rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), draws) / len(rows)
    return _quantiles(drawn, values)


def _quantiles(
    drawn: NDArray[np.float32], values: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    for start in range(0, values.shape[1] if len(drawn) else 0, _BLOCK):
        block = slice(start, start + _BLOCK)
        means = np.sort((drawn @ values[:, block]).T.copy(), axis=1)
        low[block], high[block] = (np.quantile(means, q, axis=1) for q in (0.025, 0.975))
    return low, high


def permutation_p(
    values: NDArray[np.float32], pairs: Pairs, weights: NDArray[np.float64], permutations: int, seed: int
) -> NDArray[np.float64]:
    """Share of permutations within strata with a difference at least as large, the one at hand among them."""
    if not permutations:
        return np.full(values.shape[1], np.nan)
    rng = np.random.default_rng([seed, 2])
    contrast = np.zeros((1 + permutations, len(values)), np.float32)
    for (a, b), weight in zip(pairs, weights, strict=True):
        rows = np.concatenate([a, b])
        signs = np.repeat([weight / len(a), -weight / len(b)], [len(a), len(b)])
        contrast[:, rows] = signs
        contrast[1:, rows] = rng.permuted(contrast[1:, rows], axis=1)
    p = np.empty(values.shape[1])
    for start in range(0, values.shape[1], _BLOCK):
        block = values[:, start : start + _BLOCK]
        difference = np.abs(contrast @ (block - block.mean(axis=0)))
        p[start : start + _BLOCK] = (difference >= difference[0] * (1 - 1e-5)).mean(axis=0)
    return p


def as_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table with their index, for JSON.

    Examples
    --------
    >>> as_records(pd.DataFrame({"effect": [1.5]}, index=pd.Index([41], name="latent")))
    [{'latent': 41, 'effect': 1.5}]
    """
    return [{str(k): v for k, v in row.items()} for row in table.reset_index().to_dict("records")]
