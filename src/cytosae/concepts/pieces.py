"""The units of work of `cytosae.concepts.encode`: pieces of cells, runs of their statistics, maps of reference images.

Each is a factory for an engine (`cytosae.engines`): it goes to another process, and loads there what it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.backbones import choose_device, choose_precision
from cytosae.concepts.activations import cell_activations, concept_maps
from cytosae.concepts.parts import Parts
from cytosae.concepts.reduction import Partial, Roster
from cytosae.engines import Tick, Work
from cytosae.sae import SAE
from cytosae.sae.objectives import Activation
from cytosae.settings import EncodeConfig
from cytosae.tokens import TokenSource

BATCH = 32  # cells read together


@dataclass(frozen=True)
class Encoder:
    """Tokens and the encoding half of an autoencoder, ready to be sent to another process."""

    source: TokenSource
    d_model: int
    n_latents: int
    activation: Activation
    weights: Mapping[str, NDArray[np.float32]]
    device: str
    precision: str
    """Of the encoder's product, the same wherever it is computed."""

    @classmethod
    def of(cls, source: TokenSource, sae: SAE, device: str) -> Encoder:
        """Of an autoencoder; `device` is that of the replicas, each of which chooses for itself if it is ``auto``."""
        weights = {name: value.detach().cpu().numpy() for name, value in sae.tensors().items() if name != "W_dec"}
        precision = choose_precision("auto", choose_device(device))
        return cls(source, sae.d_model, sae.n_latents, sae.activation, weights, device, precision)

    def sae(self) -> SAE:
        """The autoencoder, without its decoder."""
        with torch.device("meta"):
            sae = SAE(self.d_model, self.n_latents, activation=self.activation)
        sae.W_dec = torch.nn.Parameter(torch.empty(0, self.d_model))
        # An engine may have them in several processes.
        arrays = {name: np.require(values, requirements="W") for name, values in self.weights.items()}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        sae.take({**tensors, "W_dec": sae.W_dec}, assign=True)
        return sae.requires_grad_(False).to(choose_device(self.device))


@dataclass(frozen=True)
class PieceMaker:
    """Counts and means of the cells of a piece, written; a unit is a range of rows."""

    encoder: Encoder
    parts: Parts
    threshold: float

    def __call__(self) -> Work:
        return partial(self._work, self.encoder.sae())

    def _work(self, sae: SAE, units: Iterable[range], tick: Tick) -> Iterator[int]:
        ranges = list(units)
        batches = [np.array(rows[i : i + BATCH]) for rows in ranges for i in range(0, len(rows), BATCH)]
        tokens = self.encoder.source.stream(batches)
        for rows in ranges:
            pieces = []
            for _ in range(0, len(rows), BATCH):
                batch = next(tokens)
                pieces.append(cell_activations(sae, batch, self.threshold, self.encoder.precision))
                tick(len(batch))
            counts, means = (sp.csr_matrix(sp.vstack(matrices)) for matrices in zip(*pieces, strict=True))
            self.parts.write(rows.start, counts, means)
            yield rows.start


@dataclass(frozen=True)
class Reducer:
    """Statistics and reference images of a run of pieces; a unit are rows and what the statistics know of these cells."""

    parts: Parts
    config: EncodeConfig
    per_patient: int

    def __call__(self) -> Work:
        return self._work

    def _work(self, units: Iterable[tuple[NDArray[np.int64], Roster]], tick: Tick) -> Iterator[Partial]:
        for rows, roster in units:
            reduced = Partial.empty(self.parts.n_latents, roster, self.config, self.per_patient)
            for position, _, means in self.parts.read(rows):
                reduced.add(means, roster[position : position + means.shape[0]])
                tick(means.shape[0])
            yield reduced


@dataclass(frozen=True)
class MapBatch:
    """Reference images whose maps are drawn together."""

    cells: NDArray[np.int64]
    """Rows of their tokens."""
    latents: NDArray[np.int64]
    """All latents that one of them stands for."""
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    """Which of the cells and which of the latents each wanted map is of."""
    places: NDArray[np.int64]
    """Where each wanted map belongs."""


@dataclass(frozen=True)
class MapMaker:
    """Maps of reference images, float16; a unit are some batches of them. Gives places and maps."""

    encoder: Encoder
    grid: tuple[int, int]

    def __call__(self) -> Work:
        return partial(self._work, self.encoder.sae())

    def _work(self, sae: SAE, units: Iterable[list[MapBatch]], tick: Tick) -> Iterator[tuple[Any, Any]]:
        planned = list(units)
        tokens = self.encoder.source.stream(batch.cells for unit in planned for batch in unit)
        for unit in planned:
            maps = []
            for batch in unit:
                latents = np.require(batch.latents, requirements="W")
                found = concept_maps(sae, next(tokens), latents, self.grid).numpy()
                maps.append(found[batch.row, batch.column].astype(np.float16))
                tick(len(batch.cells))
            yield np.concatenate([batch.places for batch in unit]), np.concatenate(maps)
