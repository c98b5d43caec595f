"""What a sentence expects of a cell: the facts that it names, read off cells that it was not made from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from cytosae.concepts.description.places import ALL_PLACES, TISSUES, tissue_means
from cytosae.morphometry import LOOKS


def expected_by(
    facts: pd.DataFrame,
    latents: NDArray[np.int64],
    measured: pd.DataFrame,
    attributes: Mapping[str, pd.Series],
    places: NDArray[np.uint8],
    looks: NDArray[np.uint8],
) -> NDArray[np.float64]:
    """How much of what a sentence names each cell has: the mean of the named facts' ranks; no strength is used.

    Parameters
    ----------
    facts
        Of `facts_of`; those that pass are named.
    latents
        Concepts, ``(n_concepts,)``.
    measured
        Measurements of the cells.
    attributes
        ``cell type`` and the expert attributes of the cells, where known.
    places, looks
        Maps of the cells (`cytosae.morphometry.read_places`).

    Returns
    -------
    ``(n_cells, n_concepts)``, from 0 to 1; 0.5 everywhere for a concept of which nothing is known.
    """
    shares, tissues = tissue_means(places, looks)
    known: dict[tuple[str, str, bool], NDArray[np.float64]] = {}

    def values(kind: str, subject: str, high: bool) -> NDArray[np.float64]:
        if kind == "place":
            raw = shares[:, ALL_PLACES.index(subject)]
        elif kind in ("look", "appearance"):
            tissue, look = subject.split(": ")
            raw = tissues[:, TISSUES.index(tissue), LOOKS.index(look)]
        elif kind == "measurement":
            raw = measured[subject].to_numpy(np.float64)
        else:
            column, _, value = subject.rpartition(" = ")
            texts = attributes[column.replace(" ", "_") if column else "cell type"]
            raw = np.where(texts.isna(), np.nan, (texts.astype(str) == value).to_numpy(float))
        return _ranks(raw if high else -raw)

    scores = np.full((len(measured), len(latents)), 0.5)
    named = dict(iter(facts[facts["passes"]].groupby("latent")))
    for number, latent in enumerate(latents.tolist()):
        if latent not in named:
            continue
        terms = []
        for row in named[latent].itertuples():
            key = (str(row.kind), str(row.subject), bool(row.high))
            if key not in known:
                known[key] = values(*key)
            terms.append(known[key])
        scores[:, number] = np.mean(terms, axis=0)
    return scores


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0 to 1; the middle where nothing is known."""
    known = np.isfinite(values)
    ranks = np.full(len(values), 0.5)
    if known.sum() > 1:
        ranks[known] = (rankdata(values[known]) - 0.5) / known.sum()
    return ranks
