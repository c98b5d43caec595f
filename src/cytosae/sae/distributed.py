"""Training in several processes that torchrun started, on GPUs (NCCL) or CPUs (gloo), on one host or many.

Either axis of ``(n_tokens, n_latents)`` is divided (`cytosae.sae.sharding`):

- the tokens ("data"): every process has all weights and takes its share of the images of each batch; gradients are summed;
- the latents ("latents"): every process has an equal part of them, with its weights, moments and what is known of its dead,
  and takes all tokens of each batch. Partial reconstructions are summed, ``(n_tokens, d_model)``, and no gradient of a
  weight; only that of ``b_dec`` is, which all hold (Gao et al., "Scaling and evaluating sparse autoencoders", 2024, app. D).

Both take the step that one process takes, within the rounding of sums in another order. The first process begins the
training, scatters its state, and gathers it for the checkpoint, which is the same file in every case. What is computed on
GPUs goes by NCCL; what is on the CPU (counts, messages, the state at start and for a checkpoint) goes by gloo.
"""

from __future__ import annotations

import importlib
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from cytosae.backbones import choose_device
from cytosae.console import console
from cytosae.errors import CytosaeError
from cytosae.sae.pretrained import OFFSET
from cytosae.sae.process_group import EmptyState, ProcessGroup, T
from cytosae.sae.sharding import AxisGroup, Sharding
from cytosae.sae.state import TrainState
from cytosae.settings import TrainConfig

PARALLEL = ("data", "latents")
"""What can be divided."""
_PATIENCE = timedelta(days=1)
"""How long a process waits for others: the first checks all tokens before a training starts. A death is noticed at once."""
_WHOLE = ("b_dec", "points", OFFSET)
"""Last parts of the names of tensors that are not divided with the latents."""
_CPU = torch.device("cpu")
_GONE = re.compile(
    r"connection (was )?(closed|reset|refused|aborted)|by peer|broken pipe|pair closure|remote process (has )?exited"
    r"|ncclRemoteError|timed out|timeout|socket closed|(send|recv)(Bytes)? failed|failed to (send|recv)|no route to host",
    re.IGNORECASE,
)
"""How gloo, NCCL and the store say that nobody is at the other end; they have no kind of error of their own for it."""


class _Lost(CytosaeError):
    """Another process is not there any more, so that nothing can be agreed upon."""


@contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or not _GONE.search(str(error)):
            raise  # of this process itself: memory, a device, a mistake in this program
        traceback.clear_frames(error.__traceback__)  # they hold the group, which could not end
        raise _Lost(
            "another process of this training has ended, so that this one cannot go on; see what it or torchrun says "
            f"of it. The same command goes on from the last checkpoint ({str(error).splitlines()[0][:200]})."
        ) from error


def _reduce(whole: Tensor, how: Any = dist.ReduceOp.SUM) -> Tensor:
    """In place, for any tensor whose memory has no gaps."""
    with _exchange():
        dist.all_reduce(whole if whole.is_contiguous() else whole.T, how)
    return whole


class _Sum(torch.autograd.Function):
    """See `AxisGroup.sum`."""

    @staticmethod
    def forward(ctx: Any, shard: Tensor) -> Tensor:
        return _reduce(shard.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class _All(AxisGroup):
    """All processes."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def sum(self, shard: Tensor) -> Tensor:
        return torch.as_tensor(_Sum.apply(shard))

    def sum_(self, shard: Tensor) -> None:
        _reduce(shard)

    def highest(self, shard: Tensor) -> Tensor:
        return _reduce(shard.clone(memory_format=torch.contiguous_format), dist.ReduceOp.MAX)

    def gather(self, shard: Tensor) -> list[Tensor]:
        shards = [torch.empty_like(shard, memory_format=torch.contiguous_format) for _ in range(self.size)]
        with _exchange():
            dist.all_gather(shards, shard.contiguous())
        return shards


class _TorchrunGroup(ProcessGroup):
    """This process and the others; see `ProcessGroup`."""

    def __init__(self, parallel: str, device: str) -> None:
        super().__init__(_CPU)
        self.all = _All()
        self.first = self.all.rank == 0
        with self.agreed():
            if parallel not in PARALLEL:
                raise CytosaeError(f"--parallel {parallel}: unknown; choose one of {', '.join(PARALLEL)}.")
            self.device = _own_device(choose_device(device), int(os.environ["LOCAL_RANK"]))
        self.sharding = Sharding(tokens=self.all) if parallel == "data" else Sharding(latents=self.all)

    def check(self, config: TrainConfig, d_model: int) -> None:
        size, n_latents = self.all.size, config.expansion * d_model
        if n_latents % self.sharding.latents.size:
            raise CytosaeError(
                f"--parallel latents: {n_latents:,} latents cannot be divided among {size} processes. Start a number "
                "of processes that divides them, or use --parallel data."
            )
        if config.batch_images < self.sharding.tokens.size:
            raise CytosaeError(
                f"--parallel data: {size} processes, but a batch has {config.batch_images} images. Start fewer "
                "processes, or use --parallel latents."
            )
        if self.sharding.tokens.size > 1 and config.dead_every > 1:
            raise CytosaeError(
                f"--parallel data: --dead-every {config.dead_every} has no effect, because every step has all "
                "gradients. Leave it out, or use --parallel latents."
            )

    def description(self) -> str:
        divided = "tokens" if self.sharding.tokens.size > 1 else "latents"
        return f"{self.all.size} processes ({self.device.type}) that share the {divided}"

    def maximum(self, *numbers: int) -> list[int]:
        return [int(number) for number in self.all.highest(torch.tensor([int(number) for number in numbers]))]

    @contextmanager
    def agreed(self) -> Iterator[None]:
        message = b""
        try:
            yield
        except _Lost:
            raise
        except CytosaeError as error:
            message = str(error).encode()
        speaker, length = self.maximum((self.all.size - self.all.rank) * bool(message), len(message))
        if speaker:  # of several the first
            received = torch.zeros(length, dtype=torch.uint8)
            received[: len(message)] = torch.tensor(list(message), dtype=torch.uint8)
            with _exchange():
                dist.broadcast(received, self.all.size - speaker)
            raise CytosaeError(bytes(received.tolist()).rstrip(b"\0").decode())

    def each(self, items: Iterable[T]) -> Iterator[T]:
        coming, end = iter(items), object()
        while True:
            with self.agreed():
                item: Any = next(coming, end)
            if item is end:
                return
            yield item

    def local_shard(self, batches: Iterator[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        group = self.sharding.tokens
        return (np.array_split(batch, group.size)[group.rank] for batch in batches)

    def scatter(self, begin: Callable[[torch.device], TrainState], blank: EmptyState) -> TrainState:
        n_shards, whole = self.sharding.latents.size, None
        with self.agreed():
            if self.first:  # all latents may be too many for a GPU
                whole = begin(_CPU if n_shards > 1 else self.device)
        own = whole if whole is not None and n_shards == 1 else blank(self.device, n_shards)
        tensors = whole.tensors() if whole is not None else {}
        for name, tensor in own.tensors().items():
            tensor.copy_(_scattered(tensors.get(name), tensor, _axis(name, n_shards)))
        counters = torch.tensor([whole.step, whole.l0] if whole is not None else [0, 0], dtype=torch.float64)
        step, l0 = _scattered(counters, counters, None).tolist()
        own.move_to(int(step), l0)
        own.sae.sharding = self.sharding
        return own

    def gather(self, state: TrainState, blank: EmptyState) -> TrainState | None:
        n_shards = self.sharding.latents.size
        if n_shards == 1:
            return state if self.first else None
        whole = blank(_CPU, 1) if self.first else None
        tensors = whole.tensors() if whole is not None else {}
        for name, tensor in state.tensors().items():
            axis = _axis(name, n_shards)
            if axis is not None:
                if gathered := _gathered(tensor):
                    torch.cat(gathered, axis, out=tensors[name])
            elif tensors:
                tensors[name].copy_(tensor)
        if whole is not None:
            whole.move_to(state.step, state.l0)
        return whole


def _axis(name: str, n_shards: int) -> int | None:
    """Axis along which a tensor of the state is divided."""
    last = name.rpartition(".")[2]
    if n_shards == 1 or last in _WHOLE:
        return None
    return 1 if last == "W_enc" else 0


def _scattered(whole: Tensor | None, like: Tensor, axis: int | None) -> Tensor:
    """What the first process has: all of it, or this process's part."""
    own = torch.empty(like.shape, dtype=like.dtype)
    with _exchange():
        if axis is None:
            if whole is not None:
                own.copy_(whole)
            dist.broadcast(own, 0)
        else:
            shards = whole.chunk(dist.get_world_size(), axis) if whole is not None else ()
            dist.scatter(own, [shard.contiguous() for shard in shards] or None, 0)
    return own


def _gathered(shard: Tensor) -> list[Tensor]:
    """The parts of all processes in the first, nothing in the others."""
    shard = shard.cpu().contiguous()
    shards = [torch.empty_like(shard) for _ in range(dist.get_world_size())] if dist.get_rank() == 0 else []
    with _exchange():
        dist.gather(shard, shards or None, 0)
    return shards


def join(parallel: str = "data", device: str = "auto") -> AbstractContextManager[ProcessGroup]:
    """The processes that torchrun started, this one among them; this one alone where it started no others.

    Parameters
    ----------
    parallel
        What is divided among them: ``data``, the images of a batch, or ``latents``.
    device
        ``auto`` (CUDA where there is one), or a device of torch; of several processes each has a GPU of its own.

    Raises
    ------
    CytosaeError
        An unknown division or device, or fewer GPUs than processes on a host.

    Notes
    -----
    No example: needs processes that torchrun starts.
    """
    started = int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    if started == 1:
        return nullcontext(ProcessGroup(torch.device(choose_device(device))))
    return _torchrun_group(parallel, device)


@contextmanager
def _torchrun_group(parallel: str, device: str) -> Iterator[ProcessGroup]:
    """Be one of the processes that torchrun started; only the first talks."""
    # Its functions have the group of that moment as a default. Imported later, as Adam does, they would keep this one alive
    # beyond its end, and its threads would abort the process where they outlive the interpreter.
    importlib.import_module("torch.distributed.nn.functional")
    console.quiet = int(os.environ["RANK"]) > 0
    backend = "cpu:gloo,cuda:nccl" if device != "cpu" and torch.cuda.is_available() else "gloo"
    with _exchange():
        store, rank, size = next(rendezvous("env://"))
        # The store outlives restarts by torchrun, and would give the addresses of processes that are gone.
        store = dist.PrefixStore(f"cytosae/{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    try:
        yield _TorchrunGroup(parallel, device)
    except _Lost:
        # Threads of gloo that outlive the interpreter abort the process; NCCL would wait for those that are gone.
        if backend == "gloo":
            dist.destroy_process_group()
        raise
    except BaseException:
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def _own_device(device: str, number: int) -> torch.device:
    if device == "cpu":
        return _CPU
    if device != "cuda":
        raise CytosaeError(f"--device {device}: with several processes each uses its own GPU; write cuda, cpu or auto.")
    if number >= torch.cuda.device_count():
        raise CytosaeError(
            f"--device cuda: torch sees {torch.cuda.device_count()} GPUs on this host, fewer than the processes that "
            "were started on it. Lower --nproc-per-node of torchrun, or use --device cpu."
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
