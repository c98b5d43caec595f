"""Which latents are concepts: the paper's threshold, and for other losses what tells a concept from scattered tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from cytosae.concepts.schema import CONCENTRATION, SHOWN, TAUGHT, WHY_NOT
from cytosae.concepts.statistics import is_concept
from cytosae.sae.objectives import Activation, ReLU
from cytosae.sae.taught import WithTaught
from cytosae.settings import EncodeConfig

WEAK, FEW, SCATTERED = "weak", "few cells", "scattered"
"""Why a latent is no concept."""


@dataclass(frozen=True)
class CountMoments:
    """Mergeable sums of a_i[s] over cells; whole numbers, so equal in any order and grouping."""

    shown: NDArray[np.int64]
    """Cells with a_i[s] > 0, ``(n_latents,)``."""
    total: NDArray[np.int64]
    """Sum of a_i[s], ``(n_latents,)``."""
    squares: NDArray[np.int64]
    """Sum of a_i[s]^2, ``(n_latents,)``."""

    @classmethod
    def empty(cls, n_latents: int) -> CountMoments:
        """Of no cells yet."""
        return cls(*np.zeros((3, n_latents), np.int64))

    def add(self, counts: sp.csr_matrix) -> None:
        """Take in more cells, a_i[s] ``(n_cells, n_latents)``."""
        values = counts.data.astype(np.int64)
        for sums, weights in ((self.shown, values > 0), (self.total, values), (self.squares, values**2)):
            # Sums of whole numbers below 2^53 are exact in float64.
            sums += np.bincount(counts.indices, weights=weights, minlength=len(sums)).astype(np.int64)

    def __add__(self, other: CountMoments) -> CountMoments:
        return CountMoments(self.shown + other.shown, self.total + other.total, self.squares + other.squares)


def concentration(total: ArrayLike, squares: ArrayLike, n_cells: int, n_tokens: int) -> NDArray[np.float64]:
    r"""Over how few cells the active patches of a latent lie, against the same patches shuffled over all cells.

    The variance of the counts over cells, divided by its expectation when the K active of all tokens are drawn by chance
    (hypergeometric):

    .. math::
        \frac{\frac{1}{N} \sum_i a_i^2 - \bar a^2}{n p (1 - p) (N n - n) / (N n - 1)}, \qquad p = K / (N n)

    with N cells of n tokens. 1 is chance; a latent that is on in the same number of patches of every cell has 0.

    Parameters
    ----------
    total, squares
        Sums over cells of a_i[s] and of its square, ``(n_latents,)``.
    n_cells, n_tokens
        N and n.

    Returns
    -------
    ``(n_latents,)``; NaN where a latent is active on no token or on all, or there is one cell. NaN for all where a cell has
    two tokens, a patch and CLS: the ratio is at most 2 then, which says nothing.

    Examples
    --------
    >>> concentration([10, 10], [100, 10], n_cells=100, n_tokens=10).round(1)
    array([10.1,  0.9])
    """
    k, n_all = np.asarray(total, np.float64), n_cells * n_tokens
    variance = np.asarray(squares, np.float64) / max(1, n_cells) - (k / max(1, n_cells)) ** 2
    p = k / max(1, n_all)
    by_chance = n_tokens * p * (1 - p) * (n_all - n_tokens) / max(1, n_all - 1)
    return np.divide(variance, by_chance, out=np.full(len(k), np.nan), where=(by_chance > 0) & (n_tokens > 2))


def papers_rule(activation: Activation, config: EncodeConfig) -> bool:
    """Whether a mean activation above the threshold is enough, as the paper has it for its loss.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    own = activation.own if isinstance(activation, WithTaught) else activation
    return config.concept_rule == "paper" or (config.concept_rule == "auto" and isinstance(own, ReLU))


def means_by_rule(var: pd.DataFrame, config: EncodeConfig, n_cells: int) -> NDArray[np.float64]:
    """Mean activations, 0 for latents that are no concept however high theirs is: what to compare with other thresholds.

    Parameters
    ----------
    var
        Of an encoding, with ``mean_activation, activation_frequency, is_concept, not_concept, concentration`` and in newer
        ones ``shown_cells``.
    config
        Settings of the encoding.
    n_cells
        Of the data set.

    Returns
    -------
    ``(n_latents,)``. Whether the encoding asked for more than the mean is seen from its concepts: if one of them would have
    been dismissed, it did not.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    mean = var["mean_activation"].to_numpy(np.float64)
    if WHY_NOT not in var or CONCENTRATION not in var or config.concept_rule == "paper":
        return mean
    shown = var[SHOWN].to_numpy() if SHOWN in var else var["activation_frequency"].to_numpy() * n_cells
    always = np.full(len(var), 10.0 ** (config.concept_threshold + 1))
    reasons = why_no_concept(always, shown, var[CONCENTRATION].to_numpy(), config, mean_alone=False)
    own = var[TAUGHT].isna().to_numpy() if TAUGHT in var else np.ones(len(var), bool)
    dismissed = reasons.notna() & own
    if (dismissed & var["is_concept"].to_numpy(bool)).any():
        return mean
    return np.where(dismissed, 0.0, mean)


def why_no_concept(
    mean_activation: ArrayLike,
    shown: ArrayLike,
    concentrated: ArrayLike,
    config: EncodeConfig,
    *,
    mean_alone: bool | NDArray[np.bool_],
) -> pd.Categorical[str]:
    """Why each latent is no discovered concept; missing where it is one.

    Parameters
    ----------
    mean_activation
        Of each latent, ``(n_latents,)``.
    shown
        Cells with an active patch, ``(n_latents,)``.
    concentrated
        `concentration`, ``(n_latents,)``; not asked for if no latent has one.
    config
        The thresholds.
    mean_alone
        Whether the mean activation is enough, of all or of each: see `papers_rule`.

    Returns
    -------
    The first of ``weak`` (mean activation), ``few cells`` and ``scattered`` that holds, ``(n_latents,)``.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    weak = ~is_concept(mean_activation, config.concept_threshold)
    few = np.asarray(shown) < config.concept_cells
    ratio = np.asarray(concentrated)
    scattered = ~((ratio > config.concept_concentration) | np.isnan(ratio).all())  # NaN of a single latent too
    more = ~np.asarray(mean_alone)
    reasons = np.select([weak, few & more, scattered & more], [0, 1, 2], -1)
    return pd.Categorical.from_codes(reasons.astype(np.int8), pd.Index([WEAK, FEW, SCATTERED]))
