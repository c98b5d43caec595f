"""Are the concepts that mark a planted disease among those that its barcode has most in excess?"""

from __future__ import annotations

from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from cytosae.cohort import compare, make_strata, most_different, read_barcodes
from cytosae.concepts.quality.alignment import auroc
from cytosae.synthetic import CONCEPTS, disease_concepts

STANDING, TOP = 3, 50
"""Latents that stand for a planted concept, and latents in favour of a disease (section 3.3 of the paper)."""
_CANDIDATES, _PATCHES = 15, 60_000


def standing_for(scores: NDArray[np.float32], truth: NDArray[np.bool_], seed: int = 0) -> dict[str, list[int]]:
    """The latents with the best average precision for the patches of each planted concept.

    Not the best AUROC: a latent that lights up on every nucleus ranks the patches of nuclear lobes nearly as well as one for
    lobes alone.

    Parameters
    ----------
    scores
        Activations on patches of other patients, ``(n_patches, n_latents)``.
    truth
        Planted concepts of these patches, ``(n_patches, n_concepts)``.
    """
    rows = np.random.default_rng(seed).permutation(len(scores))[:_PATCHES]
    scores, truth = scores[rows], truth[rows]
    areas = np.nan_to_num(auroc(scores, truth))
    best = {}
    for place, name in enumerate(CONCEPTS):
        if truth[:, place].any():
            candidates = np.argsort(-areas[:, place], kind="stable")[:_CANDIDATES]
            precision = [average_precision_score(truth[:, place], scores[:, s]) for s in candidates]
            best[name] = [int(s) for s in candidates[np.argsort(precision)[::-1][:STANDING]]]
    return best


def planted_diseases(barcodes: Path, standing: dict[str, list[int]]) -> dict[str, Any]:
    """Share of the planted marks of the diseases that are found in the top 50 latents of one disease against the rest.

    A mark is found where one of the latents that stand for it is among the 50; chance is a draw of 50 of the discovered
    concepts.
    """
    data = read_barcodes(barcodes)
    strata = make_strata(data.obs["laboratory"].astype(str), data.n_obs)
    found = {}
    for disease, marks in disease_concepts.items():
        first = (data.obs["diagnosis"] == disease).to_numpy()
        table = compare(np.asarray(data.X), first, strata, draws=20, permutations=0)
        top = set(most_different(table, TOP)[0].tolist())
        found[disease] = {mark: bool(top & set(standing[mark])) for mark in marks if mark in standing}
    hits = [hit for disease in found.values() for hit in disease.values()]
    concepts = int(data.var["is_concept"].sum())
    return {
        "found": found,
        "share": float(np.mean(hits)),
        "marks": len(hits),
        "chance": 1 - comb(concepts - STANDING, TOP) / comb(concepts, TOP),
    }
