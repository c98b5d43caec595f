"""From tokens to what a cell says of each latent, without a dense array of the whole set."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from cytosae.sae import SAE
from cytosae.sae.active_latents import active_for_counts, by_cell
from cytosae.sae.threads import each

MAX_ELEMENTS = 1 << 26
"""Tokens x latents that are worked on at once, in elements; so large an array there only is on a GPU."""
CELLS = 4
"""Cells whose maps a thread makes at once."""


@torch.no_grad()
def cell_activations(
    sae: SAE, tokens: Tensor, threshold: float = 0.2, dtype: str = "float32"
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Counts a_i[s] and image activations m_i[s] of some cells (CytoSAE, Eq. 2 and 3).

    Parameters
    ----------
    sae
        The autoencoder.
    tokens
        ``(n_cells, n_tokens, d_model)``, CLS included.
    threshold
        tau: a patch is active where its activation is above it.
    dtype
        Of the encoder's product on a CPU (`cytosae.sae.active_latents.active`); activations are float32 in any case.

    Returns
    -------
    counts
        ``(n_cells, n_latents)``, int32: tokens with h > tau, on a CPU as float64 has it (`active_for_counts`).
    mean_activation
        ``(n_cells, n_latents)``, float32: mean of h over all tokens of the cell. Zero only where the latent is
        silent on the whole cell, so the pattern of `counts` is contained in its own.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    device = sae.b_dec.device
    n_tokens = tokens.shape[1]
    at_once = max(1, MAX_ELEMENTS // (n_tokens * sae.n_latents))
    pairs = []
    for some_cells in tokens.split(at_once):
        x = some_cells.to(device, torch.float32).flatten(0, 1)
        if x.device.type == "cpu":
            pairs.append(by_cell(active_for_counts(sae, x, threshold, dtype), n_tokens, threshold))
        else:
            h = sae.encode(x).unflatten(0, (len(some_cells), n_tokens))
            whole = (h > threshold).sum(dim=1, dtype=torch.int32), h.mean(dim=1)
            pairs.append(tuple(sp.csr_matrix(matrix.cpu().numpy()) for matrix in whole))
    counts, means = (sp.vstack(matrices, format="csr") for matrices in zip(*pairs, strict=True))
    return counts, means


@torch.no_grad()
def concept_maps(sae: SAE, tokens: Tensor, latents: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """Activation of some latents on every patch of some cells.

    Parameters
    ----------
    sae
        The autoencoder.
    tokens
        ``(n_cells, 1 + rows * columns, d_model)``; token 0 is CLS and is left out.
    latents
        Indices, ``(n_chosen,)``.
    grid
        Rows and columns of patches.

    Returns
    -------
    ``(n_cells, n_chosen, rows, columns)``, float32 on the CPU.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    rows, columns = grid
    if tokens.shape[1] != 1 + rows * columns:
        raise ValueError(f"{tokens.shape[1]} tokens do not make CLS and a grid of {rows} x {columns}")
    chosen = torch.as_tensor(latents, device=sae.b_dec.device)
    patches = tokens[:, 1:].to(sae.b_dec.device, torch.float32)
    if patches.device.type == "cpu":
        # Some cells at a time in one thread of torch: one that several share has other last bits.
        h = torch.cat(each(torch.no_grad()(sae.encode_some), ((cells, chosen) for cells in patches.split(CELLS))))
    else:
        h = sae.encode_some(patches, chosen)
    return h.transpose(1, 2).unflatten(2, grid).cpu()
