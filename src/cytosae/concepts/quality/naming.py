"""How good are sentences about concepts? Can they tell cells that show a concept from cells that do not?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def detection(scores: NDArray[np.floating], shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How well a score made of a sentence ranks the cells that show its concept before the others.

    Parameters
    ----------
    scores
        What the sentence gives each cell, ``(n_cells, n_concepts)``.
    shown
        Whether the cell shows the concept, ``(n_cells, n_concepts)``.

    Returns
    -------
    AUROC, ``(n_concepts,)``; NaN where all or no cells show the concept.

    Examples
    --------
    >>> detection(np.array([[0.1], [0.2], [0.9]]), np.array([[False], [False], [True]])).tolist()
    [1.0]
    """
    ranks = rankdata(scores, axis=0)
    positive = shown.sum(axis=0)
    wins = (ranks * shown).sum(axis=0) - positive * (positive + 1) / 2
    pairs = positive * (len(scores) - positive)
    return np.divide(wins, pairs, out=np.full(len(positive), np.nan), where=pairs > 0)


def intruder(
    scores: NDArray[np.floating], shown: NDArray[np.bool_], silent: NDArray[np.bool_], seed: int, trials: int = 50
) -> NDArray[np.float64]:
    """Of five cells four show a concept: is the fifth the one to which the sentence gives least?

    After the intruder test of topic models (Chang et al. 2009), with a score in the place of a person.

    Parameters
    ----------
    scores, shown
        See `detection`.
    silent
        Whether the concept is silent in the cell, ``(n_cells, n_concepts)``; the intruder is one of these.
    seed, trials
        Of the draws for each concept.

    Returns
    -------
    Share of the trials in which the intruder is found, ``(n_concepts,)``; the lowest of equals shares the trial. By chance
    0.2; NaN where fewer than four cells show the concept, or none is without.
    """
    rng = np.random.default_rng(seed)
    share = np.full(scores.shape[1], np.nan)
    for concept in range(scores.shape[1]):
        with_it, without = np.flatnonzero(shown[:, concept]), np.flatnonzero(silent[:, concept])
        if len(with_it) < 4 or not len(without):
            continue
        four = np.stack([rng.choice(with_it, 4, replace=False) for _ in range(trials)])
        five = scores[np.column_stack([four, rng.choice(without, trials)]), concept]
        lowest = five == five.min(axis=1, keepdims=True)
        share[concept] = np.mean(lowest[:, 4] / lowest.sum(axis=1))
    return share
