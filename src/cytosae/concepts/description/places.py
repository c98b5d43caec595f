"""Where concepts lie in their reference images, and what is there that is not elsewhere in the same tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytosae.morphometry import LOOKS, PLACES, patch_looks, patch_places

WHOLE = "cell"
"""The cell with its nucleus, where no part of it stands out."""
ALL_PLACES = (*PLACES, "image border", WHOLE)
TISSUES = ("nucleus", "cytoplasm")
_BLOCK = 64
_INSIDE = {
    "nucleus": [PLACES.index("nucleus"), PLACES.index("nuclear border")],
    "cytoplasm": [PLACES.index(place) for place in ("cytoplasm", "cell border", "nuclear notch")],
}


@dataclass(frozen=True)
class Located:
    """Where concepts lie; arrays have the concepts first."""

    share: NDArray[np.float64]
    """Share of the activation in each of `ALL_PLACES`, ``(n_concepts, n_places)``; the last two overlap with the others."""
    null: NDArray[np.float64]
    """Share of the area of the same pictures that each place has."""
    excess: NDArray[np.float64]
    """How far share is ahead of null, of the most that is possible: (share - null) / (1 - null)."""
    low: NDArray[np.float64]
    """Lower end of its 95 % interval, reference images drawn again."""
    patches: NDArray[np.float64]
    """Active patches in a reference image, of all patches, ``(n_concepts,)``; weighted by activation (participation)."""
    look: NDArray[np.float64]
    """How much more of each look the concept's patches of a tissue have than the tissue's others in the same pictures, in
    standard deviations, ``(n_concepts, n_tissues, n_looks)``."""
    look_low: NDArray[np.float64]
    look_high: NDArray[np.float64]
    appearance: NDArray[np.float64]
    """The same against the patches of the tissue in other cells: what fills a tissue stands out in no patch of it."""
    appearance_low: NDArray[np.float64]
    appearance_high: NDArray[np.float64]
    redness: NDArray[np.float64]
    """Eosin less azure over their sum in the patches of the cytoplasm, weighted by activation, ``(n_concepts,)``."""


def locate(
    maps: NDArray[np.floating],
    cells: NDArray[np.int64],
    places: NDArray[np.uint8],
    looks: NDArray[np.uint8],
    usual: Usual,
    draws: int = 200,
    seed: int = 0,
) -> Located:
    """Places and looks of concepts.

    Parameters
    ----------
    maps
        Activations of the reference images, ``(n_concepts, k, rows, columns)``.
    cells
        Which of the cells each is, ``(n_concepts, k)``; -1 where there are fewer than k.
    places, looks
        Maps of these cells (`cytosae.morphometry.read_places`).
    usual
        Looks of the tissues in other cells (`usual_looks`).
    draws, seed
        Of the bootstrap over reference images.
    """
    k = maps.shape[1]
    weights = np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), size=draws).astype(np.float64)
    blocks = []
    for start in range(0, len(maps), _BLOCK):
        rows = slice(start, start + _BLOCK)
        needed, local = np.unique(cells[rows], return_inverse=True)
        local = np.where(cells[rows] >= 0, local.reshape(cells[rows].shape), -1)
        at, look = _at_patches(places[np.maximum(needed, 0)], looks[np.maximum(needed, 0)], maps.shape[2:])
        blocks.append(_block(maps[rows].reshape(len(local), k, -1), local, at, look, usual, weights))
    return Located(*(np.concatenate(arrays) for arrays in zip(*blocks, strict=True)))


@dataclass(frozen=True)
class Usual:
    """Looks of the patches of each tissue in many cells, ``(n_tissues, n_looks)``."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]


def usual_looks(places: NDArray[np.uint8], looks: NDArray[np.uint8], grid: tuple[int, ...]) -> Usual:
    """Mean and standard deviation of the looks over the patches of some cells, weighted by their share of the tissue."""
    at, look = _at_patches(places, looks, grid)
    tissues = np.stack([at[:, _INSIDE[tissue]].sum(axis=1) for tissue in TISSUES], axis=1)
    tissues = np.where(tissues >= 0.5, tissues, 0).astype(np.float64)
    total = tissues.sum(axis=(0, 2))[:, None]
    mean = _divide(np.einsum("ntp,nlp->tl", tissues, look), total)
    square = _divide(np.einsum("ntp,nlp->tl", tissues, look.astype(np.float64) ** 2), total)
    return Usual(mean, np.sqrt(np.maximum(square - mean**2, 1e-8)))


def tissue_means(
    places: NDArray[np.uint8], looks: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What every cell has of each place and look.

    Parameters
    ----------
    places, looks
        Maps of the cells (`cytosae.morphometry.read_places`).

    Returns
    -------
    Share of the area of each of `ALL_PLACES`, ``(n_cells, n_places)``; mean of each look in each tissue, ``(n_cells,
    n_tissues, n_looks)``, NaN in a cell without that tissue.
    """
    at, look = _at_patches(places, looks, looks.shape[2:])
    tissues = np.stack([at[:, _INSIDE[tissue]].sum(axis=1) for tissue in TISSUES], axis=1)
    sums = np.einsum("ntp,nlp->ntl", tissues, look)
    amount = tissues.sum(axis=2)[..., None]
    means = np.divide(sums, amount, out=np.full(sums.shape, np.nan, np.float32), where=amount > 0)
    return at.mean(axis=2, dtype=np.float64), means.astype(np.float64)


def _at_patches(
    places: NDArray[np.uint8], looks: NDArray[np.uint8], grid: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Shares of `ALL_PLACES` and looks of every patch, ``(n_cells, n, n_patches)``."""
    rows, columns = grid
    edge = np.zeros((rows, columns), np.float32)
    edge[[0, -1]] = edge[:, [0, -1]] = 1
    at, look = patch_places(places, (rows, columns)), patch_looks(looks, (rows, columns))
    cell = at[:, [part for parts in _INSIDE.values() for part in parts]].sum(axis=1, keepdims=True)
    at = np.concatenate([at, np.broadcast_to(edge, (len(at), 1, rows, columns)), cell], axis=1)
    return at.reshape(*at.shape[:2], -1), look.reshape(*look.shape[:2], -1)


def _block(
    maps: NDArray[np.floating],
    cells: NDArray[np.int64],
    at: NDArray[np.float32],
    look: NDArray[np.float32],
    usual: Usual,
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], ...]:
    known = cells >= 0
    h = np.where(known[..., None], maps.astype(np.float32), 0)  # (n, k, patches)
    tissues = at[np.maximum(cells, 0)]  # (n, k, places, patches)
    mass = np.einsum("nkp,nkcp->nkc", h, tissues).astype(np.float64)
    area = np.where(known[..., None], tissues.mean(axis=3), 0).astype(np.float64)
    total, count = h.sum(axis=2).astype(np.float64), known.astype(np.float64)

    def ratio(w: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Share and null with the reference images weighted by the last axis of `w`, ``(..., k)``."""
        share = _divide(np.einsum("...k,nkc->...nc", w, mass), np.einsum("...k,nk->...n", w, total)[..., None])
        null = _divide(np.einsum("...k,nkc->...nc", w, area), np.einsum("...k,nk->...n", w, count)[..., None])
        return share, null

    share, null = ratio(np.ones(h.shape[1]))
    drawn = ratio(weights)
    excess = _divide(share - null, 1 - null)
    low = np.quantile(_divide(drawn[0] - drawn[1], 1 - drawn[1]), 0.025, axis=0)
    participation = _divide(h.sum(axis=2) ** 2, (h**2).sum(axis=2)) / h.shape[2]
    patches = _divide((participation * known).sum(axis=1), count.sum(axis=1))
    looks = [
        _looks(
            h,
            tissues[:, :, _INSIDE[tissue]].sum(axis=2),
            look[np.maximum(cells, 0)],
            (usual.mean[number], usual.spread[number]),
            weights,
        )
        for number, tissue in enumerate(TISSUES)
    ]
    shifts = (np.stack([one[i] for one in looks], axis=1) for i in range(6))
    red = looks[TISSUES.index("cytoplasm")][6]
    return share, null, excess, low, patches, *shifts, red


def _looks(
    h: NDArray[np.float32],
    tissue: NDArray[np.float32],
    look: NDArray[np.float32],
    usual: tuple[NDArray[np.float64], NDArray[np.float64]],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], ...]:
    """Differences of looks from the rest of the tissue and from other cells', in standard deviations, with their intervals,
    ``(n, n_looks)`` each; and redness, ``(n,)``."""
    inside = np.where(tissue >= 0.5, tissue, 0)
    active = h * inside
    mean = _divide(np.einsum("nkp,nklp->nkl", inside, look), inside.sum(axis=2)[..., None])
    square = _divide(np.einsum("nkp,nklp->nkl", inside, look**2), inside.sum(axis=2)[..., None])
    spread = np.sqrt(np.maximum(square - mean**2, 1e-8))
    looks = _divide(np.einsum("nkp,nklp->nkl", active, look), active.sum(axis=2)[..., None])
    usable = (active.sum(axis=2) > 0) & (inside.sum(axis=2) >= 3)
    shifts: list[NDArray[np.float64]] = []
    for shift in ((looks - mean) / spread, (looks - usual[0]) / usual[1]):
        shift = np.where(usable[..., None], shift, 0)
        drawn = _divide(
            np.einsum("dk,nkl->dnl", weights, shift), np.einsum("dk,nk->dn", weights, usable.astype(float))[..., None]
        )
        value = _divide(shift.sum(axis=1), usable.sum(axis=1)[:, None].astype(float))
        shifts += [value, *np.nanquantile(drawn, [0.025, 0.975], axis=0)]
    azure, eosin = (np.where(usable, looks[..., LOOKS.index(name)], 0).sum(axis=1) for name in ("azure", "eosin"))
    return *shifts, _divide(eosin - azure, eosin + azure)


def _divide(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return np.divide(a, b, out=np.zeros(a.shape), where=b > 0)
