"""Names of the planted structures, their bits in a mask, and their share of each patch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONCEPT_MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "eosinophilic_granules": "large, round, orange-red granules of eosinophils",
        "basophilic_granules": "coarse, dark purple granules of basophils and of abnormal eosinophils",
        "azurophilic_granules": "magenta (primary) granules, as in promyelocytes",
        "auer_rod": "one needle of fused primary granules in the cytoplasm",
        "faggot": "a bundle of Auer rods",
        "vacuoles": "round clear holes in the cytoplasm",
        "nuclear_lobes": "a nucleus of two or more lobes (all its pixels)",
        "nuclear_indentation": "the notch of a band-, kidney- or cup-shaped nucleus, with its rim",
        "nucleoli": "pale bluish round bodies in the nucleus",
        "open_chromatin": "a nucleus of fine, evenly spread, pale chromatin (all its pixels)",
        "dense_chromatin": "a nucleus of clumped or pyknotic, dark chromatin (all its pixels)",
        "perinuclear_halo": "a pale zone of cytoplasm beside the nucleus (hof)",
        "cytoplasmic_basophilia": "deep blue cytoplasm, rich in RNA (all of the cytoplasm outside a halo)",
        "hypogranulation": "cytoplasm of a neutrophil without its granules (all of the cytoplasm)",
        "nucleus": "nucleus of the cell in the centre",
        "cytoplasm": "cytoplasm of the cell in the centre",
        "red_cell": "red cells, where no other cell covers them",
        "platelet": "platelets, in the centre or around",
        "background": "nothing of the above",
    }
)
"""Planted concept -> one line of meaning; the order gives the bits."""

CONCEPTS: tuple[str, ...] = tuple(CONCEPT_MEANINGS)
"""Names of the planted concepts; bit ``b`` of a mask stands for ``CONCEPTS[b]``."""

BITS: Mapping[str, np.uint32] = MappingProxyType({name: np.uint32(1 << bit) for bit, name in enumerate(CONCEPTS)})
"""Planted concept -> its bit as a number."""

_REGIONS = (
    "nuclear_lobes",
    "open_chromatin",
    "dense_chromatin",
    "cytoplasmic_basophilia",
    "hypogranulation",
    "nucleus",
    "cytoplasm",
    "red_cell",
    "background",
)  # all pixels of a nucleus, a cytoplasm, ...; the others are structures, many of them smaller than a patch


def has_concept(masks: NDArray[np.uint32], concept: str) -> NDArray[np.bool_]:
    """Where a concept is present.

    Parameters
    ----------
    masks
        Bit fields of any shape.
    concept
        One of `CONCEPTS`.

    Returns
    -------
    Boolean array of the same shape.
    """
    return (masks & BITS[concept]) != 0


def token_truth(masks: NDArray[Any], grid: int = 16) -> NDArray[np.float32]:
    """Share of each patch that each concept covers.

    Parameters
    ----------
    masks
        Bit fields, uint32, shape (..., height, width); both edges are multiples of `grid`.
    grid
        Patches along one edge: 16 for a ViT of patch 14 at 224 px.

    Returns
    -------
    float32 in [0, 1], shape (..., n_concepts, grid, grid).

    Raises
    ------
    ValueError
        An edge that is no multiple of `grid`.
    """
    *lead, height, width = masks.shape
    if height % grid or width % grid:
        raise ValueError(f"masks of {height}x{width} px do not divide into {grid}x{grid} patches")
    rows, columns = height // grid, width // grid
    patches = masks.reshape(*lead, grid, rows, grid, columns)
    cover = np.empty((*lead, len(CONCEPTS), grid, grid), dtype=np.float32)
    for bit, name in enumerate(CONCEPTS):
        cover[..., bit, :, :] = has_concept(patches, name).mean(axis=(-3, -1), dtype=np.float32)
    return cover


def patch_labels(masks: NDArray[Any], grid: int = 16) -> NDArray[np.bool_]:
    """Whether each patch shows each concept: a region that fills at least half of it, or a structure a tenth of it.

    Parameters
    ----------
    masks, grid
        See `token_truth`.

    Returns
    -------
    Boolean array of shape (..., n_concepts, grid, grid).
    """
    needed = np.array([0.5 if name in _REGIONS else 0.1 for name in CONCEPTS], dtype=np.float32)
    return np.asarray(token_truth(masks, grid) >= needed[:, None, None])
