"""Tokens without what is due to their place in the picture alone."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.tokens.harmonisation import Harmonisation
from cytosae.tokens.layout import Layout
from cytosae.tokens.live import LiveTokens
from cytosae.tokens.store import TokenStore

MOST_CELLS = 2048
"""Cells from which the mean of each position is taken, at most: its error is then 2 % of the spread among cells."""
_BATCH = 64


def position_offset(
    source: TokenStore | LiveTokens | CentredTokens, rows: NDArray[np.int64], seed: int = 0
) -> torch.Tensor:
    """What the tokens of each position have beyond the mean of all patches, ``(n_tokens, d_model)``, float32.

    A vision transformer tells its patches where they lie, and what it tells them is a fifth of their variance. Taken away,
    the mean token of every position, CLS too, is the mean of all patches.

    Parameters
    ----------
    source
        Tokens and their cells.
    rows
        Cells of the training; a draw of `MOST_CELLS` of them is read.
    seed
        Fixes the draw.

    Notes
    -----
    No example: needs a store of tokens; the README embeds cells and reads them.
    """
    chosen = np.sort(np.random.default_rng([seed, 8]).permutation(rows)[:MOST_CELLS])
    total = torch.zeros(source.layout.n_tokens, source.layout.d_model, dtype=torch.float64)
    for tokens in source.stream(chosen[i : i + _BATCH] for i in range(0, len(chosen), _BATCH)):
        total += tokens.double().sum(dim=0)
    mean = total / len(chosen)
    patches = mean[1:] if len(mean) > 1 else mean
    return (mean - patches.mean(dim=0)).float()


@dataclass(frozen=True)
class CentredTokens:
    """The tokens of a source less an offset at each position, in float32."""

    source: TokenStore | LiveTokens | CentredTokens
    offset: torch.Tensor
    """``(n_tokens, d_model)``."""

    @property
    def cells(self) -> pd.DataFrame:
        """The cells, in the order of the rows."""
        return self.source.cells

    @property
    def layout(self) -> Layout:
        """Of the source."""
        return self.source.layout

    @property
    def harmonisation(self) -> Harmonisation | None:
        """Of the source."""
        return self.source.harmonisation

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.source.n_cells

    @property
    def fingerprint(self) -> str:
        """Digest of the source: the offset is part of the autoencoder, and so of its own digest."""
        return self.source.fingerprint

    def verify(self, shards: Iterable[int] | None = None) -> None:
        """Check the source's shards against their checksums."""
        self.source.verify(shards)

    def stream(self, batches: Iterable[NDArray[np.int64]], *, readers: int = 2) -> Generator[torch.Tensor, None, None]:
        """Yield the tokens of each batch, in order."""
        tokens = self.source.stream(batches, readers=readers)
        try:
            for batch in tokens:
                yield batch.float() - self.offset
        finally:
            tokens.close()

    def close(self) -> None:
        """Close the source."""
        self.source.close()


def centred(
    source: TokenStore | LiveTokens | CentredTokens, offset: torch.Tensor | None
) -> TokenStore | LiveTokens | CentredTokens:
    """The tokens as an autoencoder encodes them: less its offset, if it has one.

    No example: needs a store of tokens; the README embeds cells and reads them.
    """
    return source if offset is None else CentredTokens(source, offset)
