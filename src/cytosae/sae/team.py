"""The processes that train one autoencoder together, as the training sees them; often one that is alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.backbones import choose_device
from cytosae.sae.checkpoint import TrainState
from cytosae.sae.split import Split
from cytosae.settings import TrainConfig

T = TypeVar("T")
Blank = Callable[[torch.device, int], TrainState]
"""Makes a state on a device, with one of so many parts of the latents."""


class Team:
    """A process that is alone; `cytosae.sae.distributed` has those of several.

    Parameters
    ----------
    device
        Where this process computes.
    """

    split = Split()
    first = True
    """Whether this process is the one that writes, logs and talks."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def check(self, config: TrainConfig, d_model: int) -> None:
        """Raise a `CytosaeError` where this training cannot be divided so."""

    def described(self) -> str:
        """How the work is divided, for people."""
        return str(self.device)

    def most(self, *numbers: int) -> list[int]:
        """The largest of each number that any process says."""
        return list(numbers)

    def agreed(self) -> AbstractContextManager[Any]:
        """A block in which nothing is exchanged; a `CytosaeError` of one process in it is raised in all."""
        return nullcontext()

    def each(self, items: Iterable[T]) -> Iterable[T]:
        """The items, equally many in all processes; a `CytosaeError` of one in getting its next is raised in all."""
        return items

    def share(self, batches: Iterator[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        """The cells of each batch whose tokens this process takes."""
        return batches

    def deal(self, begin: Callable[[torch.device], TrainState], blank: Blank) -> TrainState:
        """This process's part of the state that the first process begins with."""
        return begin(self.device)

    def collect(self, state: TrainState, blank: Blank) -> TrainState | None:
        """The whole of what `deal` dealt, in the first process; None in the others."""
        return state


def join(parallel: str = "data", device: str = "auto") -> AbstractContextManager[Team]:
    """The processes that torchrun started, this one among them; this one alone where it started no others.

    Parameters
    ----------
    parallel
        What is divided among them: ``data``, the images of a batch, or ``latents`` (`cytosae.sae.distributed`).
    device
        ``auto`` (CUDA where there is one), or a device of torch; of several processes each has a GPU of its own.

    Raises
    ------
    CytosaeError
        An unknown division or device, or fewer GPUs than processes on a host.
    """
    started = int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    if started == 1:
        return nullcontext(Team(torch.device(choose_device(device))))
    from cytosae.sae.distributed import joined  # only here: who is alone needs nothing of torch.distributed

    return joined(parallel, device)
