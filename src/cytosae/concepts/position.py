"""How much of a latent's variance is that of the place in the picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.concepts.work_units import BATCH, Encoder
from cytosae.sae import SAE
from cytosae.sae.active_latents import active
from cytosae.tokens import TokenSource

MOST_CELLS = 256
"""Cells of a data set from which the position shares in ``var`` are taken, at most."""


def position_share(cells: Iterable[sp.csc_matrix], seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position share of every latent, and the same with the patches of each image shuffled.

    Eta squared of the patch position: the variance over positions of the mean over images, over the variance of all
    activations. A latent that says what a cell looks like has about 1 / n_images, as the shuffled ones do; one that fires
    in a corner of every picture has 1.

    Parameters
    ----------
    cells
        Activations on the patches of each image in turn, the same number in each, ``(n_patches, n_latents)``.
    seed
        Fixes the shuffling.

    Returns
    -------
    Both ``(n_latents,)``, NaN where a latent does not vary.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> corner = np.zeros((4, 1)); corner[0] = 1
    >>> position_share([sp.csc_matrix(corner)] * 3)[0]
    array([1.])
    """
    rng, n_cells = np.random.default_rng(seed), 0
    places: NDArray[np.float64] | None = None
    for patches in cells:
        if places is None:
            places, shuffled = (np.zeros(patches.shape) for _ in range(2))
            squares = np.zeros(patches.shape[1])
        rows = patches.tocoo()
        places[rows.row, rows.col] += rows.data
        shuffled[rng.permutation(patches.shape[0])[rows.row], rows.col] += rows.data
        squares += np.asarray(patches.multiply(patches).sum(axis=0)).ravel()
        n_cells += 1
    if places is None:
        return np.empty(0), np.empty(0)
    total = squares / (n_cells * len(places)) - (places.mean(axis=0) / n_cells) ** 2
    varies = total > 1e-12 * np.maximum(squares, 1e-30)
    shares = [
        np.divide((sums / n_cells).var(axis=0), total, out=np.full(len(total), np.nan), where=varies)
        for sums in (places, shuffled)
    ]
    return shares[0], shares[1]


@torch.no_grad()
def patches_of(
    source: TokenSource, sae: SAE, rows: NDArray[np.int64], precision: str, latents: NDArray[np.int64] | None = None
) -> Iterator[sp.csc_matrix]:
    """Activations on the patches of each of some cells, ``(n_patches, n_latents)``; `precision` is the encoder's.

    With `latents`, the others may be left silent.
    """
    for batch in source.stream([rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]):
        for tokens in batch[:, 1:].to(sae.b_dec.device, torch.float32):
            if tokens.device.type == "cpu":
                h = active(sae, tokens, precision, latents)
                yield sp.csc_matrix((h.values, h.tokens, h.starts), shape=(len(tokens), sae.n_latents))
            else:
                yield sp.csc_matrix(sae.encode(tokens).cpu().numpy())


def position_shares(encoder: Encoder, rows: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Position share of every latent in a data set, from a seeded draw of its cells, ``(n_latents,)``.

    Parameters
    ----------
    rows
        Cells of the data set.
    """
    drawn = np.sort(np.random.default_rng([seed, 9]).permutation(rows)[:MOST_CELLS])
    return position_share(patches_of(encoder.source, encoder.sae(), drawn, encoder.precision))[0].astype(np.float32)
