"""In the patients of which diagnosis is a concept more frequent? Patients are compared, not cells, within laboratories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import rankdata

from cytosae.concepts.description.associations import Associated, none_associated

_LEAST = 5
"""Patients with a diagnosis, and without it, in laboratories that have both; with fewer nothing is said."""
_PERMUTATIONS = 1000
_BLOCK = 512
_HALF_A_CELL = 0.5
_FEWER = 0.1
"""Share of the patients that may have fewer cells than are drawn of each, and are left out."""


@dataclass(frozen=True)
class Diagnosed:
    """The diagnosis in whose patients each concept is most ahead."""

    names: list[str]
    best: Associated
    """Its number, -1 where nothing can be compared; AUROC over patients; share of the shuffles in which any concept and
    diagnosis are as far ahead."""
    ratio: NDArray[np.float64]
    """How many times as often its patients' cells show the concept as those of others, ``(n_concepts,)``."""


def diagnosed(obs: pd.DataFrame, active: sp.csr_matrix, laboratory: str, seed: int) -> Diagnosed:
    """The diagnosis in whose patients each concept is more frequent than in all others, tested over patients.

    Of every patient the same number of cells counts, drawn by `seed`: else many cells would show what is rare, and few would
    not. Nine of ten patients have as many; those with fewer are left out. The AUROC is that of the share of a
    patient's cells that show the concept, between patients of one laboratory: a diagnosis that is all that its laboratory
    has says nothing. For the null, diagnoses are shuffled between the patients of a laboratory, and the largest standardised
    AUROC of all concepts and diagnoses is kept (Westfall and Young 1993), which corrects for all that were tried.

    Parameters
    ----------
    obs
        Cells; nothing is said without ``patient`` and ``diagnosis``. Patients with two diagnoses are left out.
    active
        Whether a cell has an active patch, ``(n_cells, n_concepts)``.
    laboratory
        Column of the cells; without it all are of one laboratory.
    seed
        Of the cells and of the shuffles.
    """
    nothing = Diagnosed([], none_associated(active.shape[1]), np.full(active.shape[1], np.nan))
    if not {"patient", "diagnosis"} <= {*obs}:
        return nothing
    people, rows = _patients(obs, laboratory, np.random.default_rng(seed))
    if people.empty:
        return nothing
    drawn = rows.size // len(people)
    codes, names = pd.factorize(people["diagnosis"], sort=True)
    strata = people["laboratory"].to_numpy(np.int64)
    member = codes[None] == np.arange(len(names))[:, None]
    inside, outside = (
        np.stack([group[:, strata == s].sum(axis=1) for s in np.unique(strata)]) for group in (member, ~member)
    )
    both = (inside > 0) & (outside > 0)
    usable = np.minimum((inside * both).sum(axis=0), (outside * both).sum(axis=0)) >= _LEAST
    if not usable.any():
        return nothing
    average = sp.csr_matrix(
        (np.full(rows.size, 1 / drawn), rows, np.arange(0, rows.size + 1, drawn)), (len(people), len(obs))
    )
    shares = (average @ active).toarray()
    pairs = (inside * outside).sum(axis=0)[usable]
    deviation = np.sqrt((inside * outside * (inside + outside + 1)).sum(axis=0)[usable] / 12)
    ranks = _centred_ranks(shares, strata)
    excess = member[usable] @ ranks
    best = (excess / deviation[:, None]).argmax(axis=0)
    ahead, column = excess[best, np.arange(len(best))], np.flatnonzero(usable)[best]
    null = _largest(ranks, member[usable], deviation, strata, seed)
    q = (1 + (null[:, None] >= (ahead / deviation[best])[None] - 1e-9).sum(axis=0)) / (1 + len(null))
    ratio = _ratios(shares, member, strata, inside, outside, column, _HALF_A_CELL / drawn)
    return Diagnosed([str(name) for name in names], Associated(column, 0.5 + ahead / pairs[best], q), ratio)


def _patients(obs: pd.DataFrame, laboratory: str, rng: np.random.Generator) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """``diagnosis`` and number of the ``laboratory`` of the patients that are compared, and rows of their cells in turn."""
    table = pd.DataFrame({name: obs[name].astype(object).to_numpy() for name in ("patient", "diagnosis")})
    labs = obs[laboratory].astype(object).to_numpy() if laboratory in obs else np.zeros(len(obs))
    table["laboratory"] = pd.factorize(labs)[0]
    table = table.iloc[rng.permutation(len(table))]
    of_patient = table.groupby("patient", sort=True)
    people = of_patient.agg(
        diagnosis=("diagnosis", "first"), laboratory=("laboratory", "first"), cells=("laboratory", "size")
    )
    clear = (of_patient["diagnosis"].nunique() == 1) & (of_patient["laboratory"].nunique() == 1)
    people = people[clear]
    if people.empty:
        return people, np.empty(0, np.int64)
    drawn = int(np.quantile(people["cells"], _FEWER, method="lower"))
    people = people[people["cells"] >= drawn]
    rows = [of_patient.indices[patient][:drawn] for patient in people.index]
    return people, table.index.to_numpy()[np.concatenate(rows)]


def _centred_ranks(shares: NDArray[np.float64], strata: NDArray[np.int64]) -> NDArray[np.float32]:
    """Ranks within each laboratory less their mean: summed over a diagnosis they are its U statistic less that of chance."""
    ranks = np.empty(shares.shape, np.float32)
    for stratum in np.unique(strata):
        mine = strata == stratum
        ranks[mine] = rankdata(shares[mine], axis=0) - (mine.sum() + 1) / 2
    return ranks


def _largest(
    ranks: NDArray[np.float32],
    member: NDArray[np.bool_],
    deviation: NDArray[np.float64],
    strata: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float64]:
    """The largest standardised excess of any concept and diagnosis in every shuffle, ``(n_permutations,)``."""
    rng = np.random.default_rng([seed, 1])
    shuffled = np.empty((_PERMUTATIONS, *member.shape), np.float32)
    for number in range(_PERMUTATIONS):
        order = np.lexsort((rng.random(len(strata)), strata))  # patients change places within their laboratory
        shuffled[number][:, np.argsort(strata, kind="stable")] = member[:, order]
    shuffled /= deviation[:, None].astype(np.float32)
    largest = np.full(_PERMUTATIONS, -np.inf)
    for start in range(0, ranks.shape[1], _BLOCK):
        excess = shuffled.reshape(-1, len(strata)) @ ranks[:, start : start + _BLOCK]
        largest = np.maximum(largest, excess.reshape(_PERMUTATIONS, -1).max(axis=1))
    return largest


def _ratios(
    shares: NDArray[np.float64],
    member: NDArray[np.bool_],
    strata: NDArray[np.int64],
    inside: NDArray[np.int64],
    outside: NDArray[np.int64],
    column: NDArray[np.int64],
    least: float,
) -> NDArray[np.float64]:
    """Share of the diagnosis's cells over that of others, laboratories weighted as by Mantel and Haenszel (1959).

    `least` is added on either side, so that nothing is divided by 0.
    """
    above, below = np.zeros(shares.shape[1]), np.zeros(shares.shape[1])
    for number, stratum in enumerate(np.unique(strata)):
        mine = strata == stratum
        had = member[:, mine].astype(np.float64) @ shares[mine]
        its = had[column, np.arange(len(column))]
        n_in, n_out = inside[number, column], outside[number, column]
        both = (n_in > 0) & (n_out > 0)
        above += np.where(both, (its + least) * n_out / mine.sum(), 0)
        below += np.where(both, (shares[mine].sum(axis=0) - its + least) * n_in / mine.sum(), 0)
    return above / below
