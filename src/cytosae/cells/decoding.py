"""Decoding that runs ahead of the model, in worker processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.cells.framing import Reading
from cytosae.cells.images import UnreadableImage, decode, read_many, squashed
from cytosae.errors import CytosaeError
from cytosae.storage import resolve_path


def default_workers() -> int:
    """Decoding processes: one a core that this process may use, at most eight.

    Examples
    --------
    >>> 1 <= default_workers() <= 8
    True
    """
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class _Batches(torch.utils.data.Dataset["NDArray[np.uint8] | str"]):
    """Batches of decoded images; a failure travels as text, so that the parent reports it in one message."""

    def __init__(
        self, paths: Sequence[str], batches: Sequence[NDArray[np.int64]], size: int, readings: Sequence[Reading]
    ) -> None:
        self.paths, self.batches, self.size, self.readings = paths, batches, size, readings

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> NDArray[np.uint8] | str:
        paths = [resolve_path(self.paths[cell]) for cell in self.batches[index]]
        images: list[NDArray[np.uint8]] = []
        try:
            for cell, data in zip(self.batches[index], read_many(paths), strict=True):
                if isinstance(data, UnreadableImage):
                    raise data
                reading = self.readings[cell]
                images.append(squashed(decode(data, reading.intensity), self.size, reading.frame))
        except UnreadableImage as reason:
            return f"{paths[len(images)]}: {reason}. It was readable when the cells were listed; list them again."
        except CytosaeError as error:
            return str(error)
        return np.stack(images)


def _as_it_is(batch: Any) -> Any:
    # Arrays travel through a pipe. Tensors would need shared memory, which containers keep small, and a thread in
    # every worker that complains when the parent stops in between.
    return batch


def _in_worker(parent: int, index: int) -> None:
    # The parent decides when to stop; a Ctrl-C in the terminal reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent has gone, also when a full pipe to the parent keeps it from noticing."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def decoded(
    paths: Sequence[str],
    batches: Sequence[NDArray[np.int64]],
    size: int,
    workers: int | None = None,
    readings: Sequence[Reading] | None = None,
) -> Generator[torch.Tensor, None, None]:
    """Yield batches of images in the order asked for, decoded ahead in worker processes.

    Parameters
    ----------
    paths
        Image file of every cell.
    batches
        Row numbers of the cells of each batch.
    size
        Edge in pixels to which every image, or what is shown of it, is squashed.
    workers
        Processes; 0 decodes in this one. Order and pixels do not depend on it.
    readings
        Of each cell, see `cytosae.cells.readings`.

    Yields
    ------
    uint8 tensors of shape ``(n_cells, size, size, 3)``. Close the generator (`contextlib.closing`) to end the
    processes before the last one.

    Raises
    ------
    CytosaeError
        Naming the file that cannot be decoded.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    batched = _Batches(paths, batches, size, readings or [Reading()] * len(paths))
    with closing(ahead(batched, len(batches), workers)) as arrays:
        for batch in arrays:
            if isinstance(batch, str):
                raise CytosaeError(batch)
            yield torch.from_numpy(batch)


def ahead(items: torch.utils.data.Dataset[Any], count: int, workers: int | None = None) -> Generator[Any, None, None]:
    """The `count` items of a data set in order, made ahead in worker processes (0: in this one)."""
    processes = default_workers() if workers is None else workers
    loader = torch.utils.data.DataLoader(
        items,
        batch_size=None,
        num_workers=min(processes, count),
        prefetch_factor=4 if processes and count else None,
        collate_fn=_as_it_is,
        worker_init_fn=partial(_in_worker, os.getpid()),
        generator=torch.Generator(),  # or the loader would draw from the random state that training depends on
    )
    iterator = iter(loader)
    try:
        yield from iterator
    finally:
        del iterator  # ends the processes
