"""From a patch or a cell to its concepts, and from a concept to where it lies in a cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cytosae.cells import TISSUES
from cytosae.concepts.activations import concept_maps
from cytosae.sae import SAE


@torch.no_grad()
def patch_concepts(sae: SAE, token: Tensor, is_common: ArrayLike) -> pd.DataFrame:
    """Active latents of a patch, strongest first (section 3.2 of CytoSAE).

    Parameters
    ----------
    sae
        The autoencoder.
    token
        Of the patch, ``(d_model,)``.
    is_common
        Latents that say little since nearly every image has them (`is_common`), ``(n_latents,)``.

    Returns
    -------
    ``latent, activation, common``; what is left without the common ones is the patch's attribution.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    h = sae.encode(token.to(sae.b_dec.device, torch.float32)[None])[0].cpu().numpy()
    return _ranked(h, is_common, "activation")


def _ranked(values: NDArray[np.float32], is_common: ArrayLike, name: str) -> pd.DataFrame:
    latents = np.flatnonzero(values > 0)
    latents = latents[np.argsort(-values[latents], kind="stable")]
    return pd.DataFrame({"latent": latents, name: values[latents], "common": np.asarray(is_common, bool)[latents]})


@dataclass(frozen=True)
class CellConcepts:
    """The concepts of a cell, strongest first."""

    table: pd.DataFrame
    """``latent, mean_activation, patches, common``: m_i[s], and on how many patches the latent is active at all."""
    maps: NDArray[np.float32]
    """Activation of each on every patch, ``(n_found, rows, columns)``."""


@torch.no_grad()
def cell_concepts(
    sae: SAE,
    tokens: Tensor,
    grid: tuple[int, int],
    is_common: ArrayLike,
    *,
    top: int | None = None,
    all_latents: bool = False,
) -> CellConcepts:
    """Concepts of a cell by their image activation m_i[s], with their maps.

    Parameters
    ----------
    sae
        The autoencoder.
    tokens
        Of the cell, ``(1 + rows * columns, d_model)``; token 0 is CLS.
    grid
        Rows and columns of patches.
    is_common
        Latents that nearly every image has, ``(n_latents,)``.
    top
        So many at most; all if None.
    all_latents
        Common latents too; without it they are left out.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    x = tokens.to(sae.b_dec.device, torch.float32)
    table = _ranked(sae.encode(x).mean(dim=0).cpu().numpy(), is_common, "mean_activation")
    if not all_latents:
        table = table[~table["common"]]
    table = table.head(len(table) if top is None else top).reset_index(drop=True)
    maps = concept_maps(sae, x[None], table["latent"].to_numpy(), grid)[0].numpy()
    table.insert(2, "patches", (maps > 0).sum(axis=(1, 2)))
    return CellConcepts(table, maps)


def tissue_fractions(maps: ArrayLike, tissues: ArrayLike) -> pd.DataFrame:
    """Where concepts lie: the share of each map's activation on nucleus, cytoplasm and background.

    Parameters
    ----------
    maps
        ``(n_maps, rows, columns)``, none negative.
    tissues
        Share of each patch that is covered by each tissue, ``(3, rows, columns)`` (`cytosae.cells.patch_tissues`).

    Returns
    -------
    A row per map and a column per tissue, with a sum of 1; NaN for a map that is zero throughout.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    values, cover = np.asarray(maps, np.float64), np.asarray(tissues, np.float64)
    mass = np.einsum("nrc,trc->nt", values, cover)
    total = values.sum(axis=(1, 2))[:, None]
    return pd.DataFrame(np.divide(mass, total, out=np.full_like(mass, np.nan), where=total > 0), columns=list(TISSUES))
