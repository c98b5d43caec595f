"""The cells on which the quality measures rest: scores of latents and of simpler directions, read in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.concepts.activations import cell_activations
from cytosae.concepts.evaluation.frozen import FROZEN, Frozen, draw_latents
from cytosae.concepts.quality.baselines import principal_directions, random_directions, token_directions
from cytosae.concepts.quality.downstream import Finish, pooled_output
from cytosae.concepts.quality.resampling import group_codes, halves
from cytosae.concepts.storage import read_activations, read_concepts, read_datasets
from cytosae.console import progress
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import EvaluateConfig
from cytosae.tokens import TokenSource

BATCH = 32
_FITTED = 64  # cells whose tokens give the principal components

LATENT_METHOD, TOKENS, PRINCIPAL, RANDOM = "latents", "mean token", "principal components", "random directions"
EXAMPLES, TOKEN_DIMENSIONS = "random tokens", "token dimensions"
"""Methods that are compared; all but the latents are baselines."""
DIRECTIONS = (PRINCIPAL, RANDOM, EXAMPLES)
BASELINES = (*DIRECTIONS, *FROZEN.values())
"""Those whose scores of a cell are compared with the latents'."""


@dataclass(frozen=True)
class Sample:
    """Some cells of a study; arrays follow their order."""

    cells: pd.DataFrame
    """Rows of the listing, with a column ``row``: the row of the tokens."""
    concepts: NDArray[np.int64]
    """Latents that are discovered concepts, ``(n_concepts,)``."""
    means: sp.csr_matrix
    """m_i[s] of these, ``(n_cells, n_concepts)``."""
    mean_tokens: NDArray[np.float32]
    """``(n_cells, d_model)``."""
    outputs: NDArray[np.float32] | None
    """The backbone's output, CLS and mean patch, ``(n_cells, 2 d_model)``; None without the later blocks."""
    baselines: dict[str, NDArray[np.float32]]
    """Directions among tokens by method, ``(d_model, n)``: principal components with both signs, and as many as there are
    concepts that are random or those of random tokens."""
    middle: NDArray[np.float32]
    """Mean token of the cells to which the directions were fitted, ``(d_model,)``."""
    projected: dict[str, NDArray[np.float32]]
    """Positive parts of the projections on these, mean over a cell's tokens, as m_i[s] is of the latents; and m_i[s] of the
    frozen baselines."""
    seed: int
    frozen: Mapping[str, Frozen] = field(default_factory=dict)
    """Autoencoders with a frozen matrix, by method."""

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """What is drawn whole: the patient where known, the cell otherwise; ``(n_cells,)``."""
        return group_codes(len(self.cells), pd.factorize(self.cells["patient"])[0])

    @cached_property
    def choosing(self) -> NDArray[np.bool_]:
        """The half of the cells on which is chosen; the other half tests. Patients are on one side."""
        return halves(len(self.cells), self.codes, self.seed)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Number of each cell's label among `label_names`, -1 where unknown."""
        return np.asarray(pd.factorize(self.cells["label"], sort=True)[0], dtype=np.int64)

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Labelled cells of the half that tests."""
        return ~self.choosing & (self.labels >= 0)

    @property
    def label_names(self) -> list[str]:
        """Labels in alphabetical order."""
        return sorted(self.cells["label"].dropna().unique())

    def draw_rows(self, count: int) -> NDArray[np.int64]:
        """A seeded choice of the cells, ascending."""
        return np.sort(np.random.default_rng(self.seed).permutation(len(self.cells))[:count])

    def scores(self, both_signs: bool = False) -> dict[str, NDArray[np.float32]]:
        """Scores of each method for each cell, ``(n_cells, n_scores)``.

        Parameters
        ----------
        both_signs
            Give dimensions of the mean token also negated, for measures that look at one score by itself.
        """
        tokens = np.hstack([self.mean_tokens, -self.mean_tokens]) if both_signs else self.mean_tokens
        return {LATENT_METHOD: self.means.toarray(), TOKENS: tokens, **self.projected}

    def directions(self) -> dict[str, NDArray[np.float32]]:
        """Directions among single tokens by method, ``(d_model, n)``; scores are projections of ``x - middle``."""
        eye = np.eye(len(self.middle), dtype=np.float32)
        return {TOKEN_DIMENSIONS: np.hstack([eye, -eye]), **self.baselines}


def draw_sample(
    source: TokenSource,
    folder: Path,
    concepts: NDArray[np.int64],
    config: EvaluateConfig,
    finish: Finish | None,
    frozen: Mapping[str, SAE] | None = None,
) -> Sample:
    """Draw cells of all data sets and read what is needed of them.

    Parameters
    ----------
    source
        Tokens and their cells.
    folder
        Concepts that were encoded from them.
    concepts
        Latents to look at.
    config
        How many cells, and the seed.
    finish
        The rest of the backbone, if there is one.
    frozen
        Autoencoders with a frozen matrix, by method.
    """
    rng = np.random.default_rng(config.seed)
    chosen = np.sort(rng.permutation(source.n_cells)[: config.cells])
    cells = source.cells.iloc[chosen].reset_index(drop=True).assign(row=chosen)
    means = _means(folder, cells, concepts)
    fitted = source.stream([np.sort(rng.permutation(chosen)[:_FITTED])])
    some = next(fitted).float().flatten(0, 1).numpy()
    fitted.close()
    middle = some.mean(axis=0)
    directions = {
        PRINCIPAL: principal_directions(some, config.seed),
        RANDOM: random_directions(some.shape[1], len(concepts), config.seed),
        EXAMPLES: token_directions(some, len(concepts), config.seed),
    }
    mean_tokens, outputs = [], []
    projected: dict[str, list[NDArray[np.float32]]] = {name: [] for name in directions}
    of_frozen: dict[str, list[sp.csr_matrix]] = {name: [] for name in frozen or {}}
    with progress("sample", len(cells), "cells") as bar:
        for tokens in _stream(source, chosen, bar.to):
            mean_tokens.append(tokens.mean(dim=1).numpy())
            centred = (tokens - torch.from_numpy(middle)).flatten(0, 1)
            for name, array in directions.items():
                positive = (centred @ torch.from_numpy(array)).clamp_min_(0)
                projected[name].append(positive.unflatten(0, tokens.shape[:2]).mean(dim=1).numpy())
            for name, sae in (frozen or {}).items():
                of_frozen[name].append(cell_activations(sae, tokens)[1])
            if finish is not None:
                outputs.append(pooled_output(finish, tokens))
    scores = {name: np.concatenate(arrays) for name, arrays in projected.items()}
    drawn: dict[str, Frozen] = {}
    for name, sae in (frozen or {}).items():
        whole = sp.vstack(of_frozen[name], format="csr")
        latents = draw_latents(np.asarray(whole.max(axis=0).todense()).ravel() > 0, len(concepts), config.seed)
        drawn[name], scores[name] = Frozen(sae, latents), whole[:, latents].toarray()
    return Sample(
        cells,
        concepts,
        means,
        np.concatenate(mean_tokens),
        np.concatenate(outputs) if outputs else None,
        directions,
        middle,
        scores,
        config.seed,
        drawn,
    )


def _stream(source: TokenSource, rows: NDArray[np.int64], done: Callable[[int], None]) -> Iterator[Tensor]:
    """Tokens of some cells in float32, batch by batch."""
    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    seen = 0
    for tokens in source.stream(batches):
        seen += len(tokens)
        yield tokens.float()
        done(seen)


def _means(folder: Path, cells: pd.DataFrame, concepts: NDArray[np.int64]) -> sp.csr_matrix:
    """m_i[s] of the cells, in their order."""
    matrices: list[sp.csr_matrix] = []
    positions: list[NDArray[np.int64]] = []
    for name in read_datasets(folder):
        indices = np.flatnonzero((cells["dataset"] == name).to_numpy())
        names = read_concepts(folder, name, matrices=False).obs_names
        rows = names.get_indexer(cells["cell_id"].iloc[indices])
        if (rows < 0).any():
            raise CytosaeError(
                f"{folder}: data set {name!r} lacks cells of the study. Run `cytosae run` or `cytosae encode` again."
            )
        matrices.append(read_activations(folder, name, rows, concepts)[1])
        positions.append(indices)
    stacked = sp.vstack(matrices, format="csr")
    return stacked[np.argsort(np.concatenate(positions), kind="stable")]
