"""How much raters agree. Pure functions: verdicts in, numbers out."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

VERDICTS: tuple[Literal["meaningful"], Literal["artefact"], Literal["cannot tell"]] = (
    "meaningful",
    "artefact",
    "cannot tell",
)

Verdicts = Mapping[str, Mapping[Hashable, str]]
"""By rater, then by item; items without a verdict are left out."""


class PairKappa(NamedTuple):
    """Agreement of two raters over the `n` items that both judged."""

    raters: tuple[str, str]
    kappa: float | None
    n: int


class FleissKappa(NamedTuple):
    """Agreement over the `items` that were judged by exactly `raters` raters each."""

    kappa: float | None
    raters: int
    items: int


def by_item(verdicts: Verdicts) -> dict[Hashable, list[str]]:
    """The verdicts on each item, in the order of the raters."""
    grouped: dict[Hashable, list[str]] = {}
    for given in verdicts.values():
        for item, verdict in given.items():
            grouped.setdefault(item, []).append(verdict)
    return grouped


def majority(verdicts: Verdicts, wanted: str = "meaningful") -> tuple[int, int]:
    """Items for which more than half of their raters gave the wanted verdict, and items with any verdict.

    A tie counts as not, and so does "cannot tell".
    """
    items = by_item(verdicts)
    return sum(2 * given.count(wanted) > len(given) for given in items.values()), len(items)


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Cohen's kappa (1960) of two raters over the same items; None where it is not defined.

    It is not defined without items, nor where both gave one and the same verdict throughout: then as much agreement
    is expected by chance as there is.
    """
    from sklearn.metrics import cohen_kappa_score  # a second to import

    if len(first) == 0 or len({*first, *second}) == 1:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kappa = float(cohen_kappa_score(first, second))
    return kappa if math.isfinite(kappa) else None


def pairwise(verdicts: Verdicts) -> list[PairKappa]:
    """Cohen's kappa of every pair of raters, over the items that both judged."""
    kappas = []
    for (a, first), (b, second) in combinations(verdicts.items(), 2):
        both = [item for item in first if item in second]
        kappa = cohen_kappa([first[item] for item in both], [second[item] for item in both])
        kappas.append(PairKappa((a, b), kappa, len(both)))
    return kappas


def fleiss_kappa(counts: ArrayLike) -> float | None:
    """Fleiss' kappa (1971); None where it is not defined.

    Parameters
    ----------
    counts
        Raters who gave an item a verdict, ``(n_items, n_verdicts)``; rows have the same sum, at least 2.

    Returns
    -------
    ``(P - P_e) / (1 - P_e)`` with P the mean share of agreeing pairs of raters of an item and P_e the sum of the squared
    shares of the verdicts; None without items, or where one verdict was given throughout.
    """
    table = np.asarray(counts, float)
    if table.size == 0:
        return None
    raters = table.sum(axis=1)
    if (raters != raters[0]).any() or raters[0] < 2:
        raise ValueError("every item needs the same number of raters, at least two")
    n = raters[0]
    observed = ((table**2).sum(axis=1) - n).mean() / (n * (n - 1))
    chance = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    return None if math.isclose(chance, 1) else float((observed - chance) / (1 - chance))


def fleiss(verdicts: Verdicts) -> FleissKappa | None:
    """Fleiss' kappa over the items judged by the most usual number of raters (of two such numbers, the larger).

    None where no item has been judged by two.
    """
    shared = [given for given in by_item(verdicts).values() if len(given) > 1]
    if not shared:
        return None
    sizes = Counter(map(len, shared))
    raters = max(sizes, key=lambda size: (sizes[size], size))
    chosen = [given for given in shared if len(given) == raters]
    counts = [[given.count(verdict) for verdict in VERDICTS] for given in chosen]
    return FleissKappa(fleiss_kappa(counts), raters, len(chosen))
