"""Cells that are not in a study, as its autoencoder sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.concepts import cell_activations, cell_summaries
from cytosae.concepts.work_units import BATCH, Encoder
from cytosae.sae import SAE
from cytosae.tokens import LiveTokens


class EncodedCells(NamedTuple):
    """What is known of some cells."""

    counts: sp.csr_matrix
    """a_i[s], ``(n_cells, n_latents)``."""
    means: sp.csr_matrix
    """m_i[s], ``(n_cells, n_latents)``."""
    summaries: NDArray[np.float32]
    """`cytosae.concepts.cell_summaries`."""


def encoded_groups(
    source: LiveTokens,
    groups: Sequence[NDArray[np.int64]],
    sae: SAE,
    threshold: float,
    device: str,
    on_progress: Callable[[int], None],
) -> Iterator[EncodedCells]:
    """Groups of cells one after the other, so that the cells of one are in memory at a time.

    Parameters
    ----------
    source
        Tokens of the cells.
    groups
        Rows of each group.
    threshold
        tau, above which a patch is counted.
    device
        Where the autoencoder runs.
    on_progress
        Called with the number of cells that are done.
    """
    encoder = Encoder.from_sae(source, sae, device)
    sae = encoder.sae()
    tokens = encoder.source.stream(rows[i : i + BATCH] for rows in groups for i in range(0, len(rows), BATCH))
    done = 0
    for rows in groups:
        activations, summaries = [], []
        for _ in range(0, len(rows), BATCH):
            some = next(tokens)
            activations.append(cell_activations(sae, some, threshold, encoder.precision))
            summaries.append(cell_summaries(some))
            done += len(some)
            on_progress(done)
        counts, means = (sp.csr_matrix(sp.vstack(parts)) for parts in zip(*activations, strict=True))
        yield EncodedCells(counts, means, np.concatenate(summaries))
