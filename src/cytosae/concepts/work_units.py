"""The units of work of `cytosae.concepts.encode`: activations of a range of cells,
statistics of several ranges, maps of reference images.

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
from cytosae.concepts.cell_ranges import CellRanges
from cytosae.concepts.reduction import CellTable, Statistics
from cytosae.engines import Tick, Work
from cytosae.sae import SAE
from cytosae.sae.objectives import Activation
from cytosae.sae.pretrained import OFFSET
from cytosae.settings import EncodeConfig
from cytosae.tokens import TokenSource, centred

BATCH = 32  # cells read together


@dataclass(frozen=True)
class Encoder:
    """Tokens as an autoencoder takes them, and its encoding half, ready to be sent to another process."""

    source: TokenSource
    d_model: int
    n_latents: int
    activation: Activation
    weights: Mapping[str, NDArray[np.float32]]
    device: str
    precision: str
    """Of the encoder's product, the same wherever it is computed."""

    @classmethod
    def from_sae(cls, source: TokenSource, sae: SAE, device: str) -> Encoder:
        """Encoder of an autoencoder for replicas on `device`; with ``auto`` each replica chooses its own."""
        unused = {"W_dec", OFFSET}
        weights = {name: value.detach().cpu().numpy() for name, value in sae.tensors().items() if name not in unused}
        precision = choose_precision("auto", choose_device(device))
        tokens = centred(source, sae.position_offset)
        return cls(tokens, sae.d_model, sae.n_latents, sae.activation, weights, device, precision)

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
class ActivationMaker:
    """Writes counts and means of the cells of a range; a unit is a range of rows."""

    encoder: Encoder
    ranges: CellRanges
    threshold: float

    def __call__(self) -> Work:
        return partial(self._work, self.encoder.sae())

    def _work(self, sae: SAE, units: Iterable[range], tick: Tick) -> Iterator[int]:
        ranges = list(units)
        batches = [np.array(rows[i : i + BATCH]) for rows in ranges for i in range(0, len(rows), BATCH)]
        tokens = self.encoder.source.stream(batches)
        for rows in ranges:
            matrices = []
            for _ in range(0, len(rows), BATCH):
                batch = next(tokens)
                matrices.append(cell_activations(sae, batch, self.threshold, self.encoder.precision))
                tick(len(batch))
            counts, means = (sp.csr_matrix(sp.vstack(unit_cells)) for unit_cells in zip(*matrices, strict=True))
            self.ranges.write(rows.start, counts, means)
            yield rows.start


@dataclass(frozen=True)
class StatisticsMaker:
    """Statistics and reference images of consecutive ranges; a unit are rows and their part of the cell table."""

    ranges: CellRanges
    config: EncodeConfig
    per_patient: int

    def __call__(self) -> Work:
        return self._work

    def _work(self, units: Iterable[tuple[NDArray[np.int64], CellTable]], tick: Tick) -> Iterator[Statistics]:
        for rows, cell_table in units:
            statistics = Statistics.empty(self.ranges.n_latents, cell_table, self.config, self.per_patient)
            for position, counts, means in self.ranges.read(rows):
                statistics.add(counts, means, cell_table[position : position + means.shape[0]])
                tick(means.shape[0])
            yield statistics


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
    positions: NDArray[np.int64]
    """Where each wanted map belongs."""


@dataclass(frozen=True)
class MapMaker:
    """Maps of reference images, float16; a unit are some batches of them. Gives positions and maps."""

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
                all_maps = concept_maps(sae, next(tokens), latents, self.grid).numpy()
                maps.append(all_maps[batch.row, batch.column].astype(np.float16))
                tick(len(batch.cells))
            yield np.concatenate([batch.positions for batch in unit]), np.concatenate(maps)
