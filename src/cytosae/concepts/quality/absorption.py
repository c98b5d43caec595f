"""Feature absorption: a label's own latents stay silent, a more special one speaks for them (Chanin et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import f1_score

from cytosae.concepts.quality.probing import MIN_CELLS, fitted_probe, standardised, strongest_differences

GAIN = 0.03
"""A further latent is one of the label's own if it raises the F1 of the sparse probe by so much."""
ALIGNED = 0.1
"""Cosine between an absorbing latent's direction and the probe, at least."""
AHEAD = 2.0
"""How many times the contribution of the next latent the absorbing one's must be."""
MOST = 10
"""Latents of a label's own, at most."""


@dataclass(frozen=True)
class Absorption:
    """Figures of one label."""

    own: NDArray[np.int64]
    """The latents that stand for the label."""
    missed: int
    """Cells of the label that a probe on tokens recognises while all of these are silent."""
    absorbed: int
    """Those of them in which one other latent, along the probe's direction, outweighs all others."""
    cells: int
    """Cells of the label that the probe recognises."""

    @property
    def rate(self) -> float:
        """Share of the recognised cells whose label is absorbed; NaN where none is recognised."""
        return self.absorbed / self.cells if self.cells else float("nan")


def absorption(
    mean_activation: NDArray[np.floating],
    mean_tokens: NDArray[np.floating],
    directions: NDArray[np.floating],
    positive: ArrayLike,
    choosing: ArrayLike,
) -> Absorption | None:
    """How often another latent speaks in place of a label's own.

    After Chanin et al. (2024), for images: the mean token of a cell is the sum of its latents' directions times m_i[s], so
    a latent contributes ``m_i[s] d_s . p`` along the direction p of a logistic probe on mean tokens. The label's own
    latents are those of a k-sparse probe, as many as each raise its F1 by `GAIN`. A cell counts as absorbed where the
    probe recognises the label, all own latents are silent, and the latent with the largest contribution lies along p
    (cosine above `ALIGNED`) and contributes `AHEAD` times as much as the next. Probes and latents are chosen on the
    choosing cells, all is counted on the others.

    Parameters
    ----------
    mean_activation
        m_i[s], ``(n_cells, n_latents)``.
    mean_tokens
        ``(n_cells, d_model)``.
    directions
        Rows of the decoder, ``(n_latents, d_model)``.
    positive
        Whether a cell has the label, ``(n_cells,)``.
    choosing
        Which cells choose, ``(n_cells,)``.

    Returns
    -------
    None where either side has too few cells of the label or without it.
    """
    is_label, chosen = np.asarray(positive, bool), np.asarray(choosing, bool)
    sides = (chosen, ~chosen)
    if min((is_label[s] == v).sum() for s in sides for v in (True, False)) < MIN_CELLS:
        return None
    latents = standardised(mean_activation, chosen)
    order = strongest_differences(latents[chosen], is_label[chosen])
    rises = latents[chosen & is_label].mean(axis=0) > latents[chosen & ~is_label].mean(axis=0)
    order = order[rises[order]]
    own, reached = 0, 0.0
    for k in range(1, min(MOST, len(order)) + 1):
        x = latents[chosen][:, order[:k]]
        figure = f1_score(is_label[chosen], fitted_probe(x, is_label[chosen]).predict(x))
        if own and figure < reached + GAIN:
            break
        own, reached = k, figure
    main_latents = np.sort(order[:own])
    tokens = standardised(mean_tokens, chosen)
    probe = fitted_probe(tokens[chosen], is_label[chosen])
    recognised = np.flatnonzero(~chosen & is_label)
    recognised = recognised[probe.predict(tokens[recognised])]
    silent = recognised[(mean_activation[recognised][:, main_latents] <= 0).all(axis=1)]
    deviation = np.maximum(np.asarray(mean_tokens)[chosen].std(axis=0), 1e-12)
    along = probe.coef_[0] / deviation  # the probe's direction among tokens as they are
    unit = along / max(np.linalg.norm(along), 1e-12)
    cosines = directions @ unit / np.maximum(np.linalg.norm(directions, axis=1), 1e-12)
    contributions = mean_activation[silent] * (directions @ unit)
    absorbed = 0
    if len(silent) and contributions.shape[1] > 1:
        two = np.partition(contributions, -2, axis=1)[:, -2:]
        first = contributions.argmax(axis=1)
        absorbed = int(
            ((cosines[first] > ALIGNED) & (two[:, 1] > 0) & (two[:, 1] >= AHEAD * np.maximum(two[:, 0], 0))).sum()
        )
    return Absorption(main_latents, len(silent), absorbed, len(recognised))
