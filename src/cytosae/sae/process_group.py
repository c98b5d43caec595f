"""The processes that train one autoencoder together, as the training sees them; often one that is alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.sae.sharding import Sharding
from cytosae.sae.state import TrainState
from cytosae.settings import TrainConfig

T = TypeVar("T")
EmptyState = Callable[[torch.device, int], TrainState]
"""Makes a state on a device, for one of so many equal shards of the latents, to be filled."""


class ProcessGroup:
    """A process that is alone; `cytosae.sae.distributed` has those of several.

    Parameters
    ----------
    device
        Where this process computes.
    """

    sharding = Sharding()
    first = True
    """Whether this process is the one that writes, logs and talks."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def check(self, config: TrainConfig, d_model: int) -> None:
        """Raise a `CytosaeError` where this training cannot be divided so."""

    def description(self) -> str:
        """How the work is divided, for people."""
        return str(self.device)

    def maximum(self, *numbers: int) -> list[int]:
        """The largest of each number that any process says."""
        return list(numbers)

    def agreed(self) -> AbstractContextManager[Any]:
        """A block in which nothing is exchanged; a `CytosaeError` of one process in it is raised in all."""
        return nullcontext()

    def each(self, items: Iterable[T]) -> Iterable[T]:
        """The items, equally many in all processes; a `CytosaeError` of one in getting its next is raised in all."""
        return items

    def local_shard(self, batches: Iterator[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        """The cells of each batch whose tokens this process takes."""
        return batches

    def scatter(self, begin: Callable[[torch.device], TrainState], blank: EmptyState) -> TrainState:
        """This process's shard of the state that the first process begins with."""
        return begin(self.device)

    def gather(self, state: TrainState, blank: EmptyState) -> TrainState | None:
        """The whole of what `scatter` divided, in the first process; None in the others."""
        return state
