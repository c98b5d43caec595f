"""Random cells of a study: what marks are compared with, read once for any number of concepts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.concepts.quality.resampling import group_codes
from cytosae.sae import SAE
from cytosae.sae.taught import TaughtSAE, token_frame
from cytosae.settings import TeachConfig
from cytosae.teaching.nuisance import BETWEEN_PATIENTS, Nuisance, Views, between_patients
from cytosae.tokens import TokenSource, centred

_BYTES = 1 << 28  # of their tokens in memory
_BATCH = 32


@dataclass(frozen=True)
class Background:
    """Random cells of a study and what is known of its dictionary."""

    source: TokenSource
    """Tokens as the autoencoder takes them."""
    rows: NDArray[np.int64]
    """The random cells, ascending, ``(n_random,)``."""
    tokens: NDArray[np.float16]
    """Their tokens, ``(n_random, n_tokens, d_model)``; token 0 is CLS."""
    encoder: NDArray[np.float32]
    """Encoder of the autoencoder's own latents, ``(n_latents, d_model)``."""
    frame: dict[str, Any]
    """See `cytosae.sae.taught.token_frame`."""
    views: Views | None = None
    """How tokens change with stain and turn, if that is known."""

    @classmethod
    def draw(
        cls,
        source: TokenSource,
        sae: SAE,
        *,
        cells: int = TeachConfig.random_cells,
        seed: int = 0,
        views: Views | None = None,
    ) -> Background:
        """Draw and read random cells; the same for the same seed.

        Parameters
        ----------
        source
            Tokens of the study, as the backbone gives them.
        sae
            Its autoencoder, with taught latents or without.
        cells
            How many, at most; fewer where their tokens would take more than 256 MiB.
        views
            How tokens change with stain and turn, if that is known.
        """
        layout = source.layout
        own = sae.untaught if isinstance(sae, TaughtSAE) else sae
        most = max(16, min(cells, _BYTES // (2 * layout.n_tokens * layout.d_model)))
        rows = np.sort(np.random.default_rng([seed, 11]).permutation(source.n_cells)[:most])
        as_encoded = centred(source, own.position_offset)
        batches = as_encoded.stream(rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH))
        tokens = torch.cat([batch.half() for batch in batches]).numpy()
        frame = token_frame(layout.backbone, own.position_offset)
        return cls(as_encoded, rows, tokens, own.W_enc.detach().T.cpu().numpy(), frame, views)

    @property
    def cells(self) -> pd.DataFrame:
        """All cells of the study, in the order of the tokens."""
        return self.source.cells

    @property
    def n_patches(self) -> int:
        """Patches of a cell."""
        return self.source.layout.n_tokens - 1

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """What stays together in cross-validation: the patient where known, the cell otherwise; ``(n_cells,)``."""
        cells = self.cells
        known = cells["patient"].notna().to_numpy()
        names = cells["dataset"].astype(str) + "\t" + cells["patient"].astype(str)
        codes = np.where(known, pd.factorize(names)[0], -1)
        return group_codes(len(cells), codes)

    @cached_property
    def nuisances(self) -> tuple[Nuisance, ...]:
        """What concepts shall not depend on: views, and what differs from patient to patient."""
        covariance = between_patients(self.tokens[:, 1:], self.units[self.rows])
        patients = [] if covariance is None else [(covariance, BETWEEN_PATIENTS)]
        return (*patients, *(self.views.nuisances if self.views is not None else ()))

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Tokens of some cells as the autoencoder takes them, ``(n_chosen, n_tokens, d_model)``."""
        batches = self.source.stream(rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH))
        read = [batch.float().numpy() for batch in batches]
        width = (self.n_patches + 1, self.source.layout.d_model)
        return np.concatenate(read) if read else np.zeros((0, *width), np.float32)
