"""What each process of tests/sae/test_distributed.py runs: some trainings one after the other, in one launch of torchrun.

``torchrun_cases.py STORE OUT`` reads ``OUT/cases.json`` and leaves, for each case, the folder of the autoencoder and what
every process saw of it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from cytosae.errors import CytosaeError, Interrupted
from cytosae.sae import backends, distributed, join, sparse, trainer, training
from cytosae.sae.loss import BatchFigures
from cytosae.settings import TrainConfig
from cytosae.tokens import TokenStore

exchanged: list[tuple[str, int, int]] = []
"""Name, elements and bytes of every exchange since the case began."""


def watch(name: str) -> None:
    exchange = getattr(dist, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        tensor = arguments[1] if name == "all_gather" else arguments[0]
        exchanged.append((name, tensor.numel(), tensor.nbytes))
        return exchange(*arguments, **options)

    setattr(dist, name, watched)


def signalled(case: dict[str, Any], rank: int) -> Any:
    """A step that is interrupted in one of the processes."""
    step = trainer.Trainer.step

    def stepped(one: trainer.Trainer, x: torch.Tensor) -> str:
        if rank == case.get("rank") and one.state.step == case["at"]:
            os.kill(os.getpid(), getattr(signal, case["signal"]))
        if one.state.step == case.get("at", 25):
            exchanged.append(("step", x.shape[:-1].numel(), 0))
        return step(one, x)

    return stepped


def take_the_step_of_a_gpu(seen: dict[str, Any]) -> None:
    """Always follow the active latents, by the kernels for GPUs."""
    from cytosae.sae import gpu

    def backward(*arguments: Any, **options: Any) -> BatchFigures:
        seen["kernels"] += 1
        return gpu.backward(*arguments, **options)

    seen["kernels"] = 0
    sparse.backward = backward
    backends.fused = backends.active


def run(store: Path, out: Path, case: dict[str, Any], rank: int) -> dict[str, Any]:
    original = trainer.Trainer.step
    trainer.Trainer.step = signalled(case, rank)  # type: ignore[method-assign]
    seen: dict[str, Any] = {}
    if case.get("gpu"):
        take_the_step_of_a_gpu(seen)
    exchanged.clear()
    try:
        seen["figures"] = training.train(
            TokenStore(store / case.get("store", "tokens")),
            out / case["name"],
            TrainConfig(**case["config"]),
            process_group=distributed._TorchrunGroup(
                case["parallel"], "cpu"
            ),  # of the same processes: joining takes longer than training
            checkpoint_seconds=case.get("checkpoint_seconds", 300.0),
        )
    except (CytosaeError, Interrupted) as error:
        seen["error"] = f"{type(error).__name__}: {error}"
    finally:
        trainer.Trainer.step = original  # type: ignore[method-assign]
    seen["exchanged"] = exchanged
    return seen


def main() -> None:
    store, out = map(Path, sys.argv[1:])
    for name in ("all_reduce", "all_gather"):
        watch(name)
    with join("data", "cpu") as group:
        rank = dist.get_rank()
        for case in json.loads((out / "cases.json").read_text()):
            seen = run(store, out, case, rank)
            (out / f"{case['name']}.{rank}.json").write_text(json.dumps(seen))
        assert group.first == (rank == 0)
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    assert not any("gloo" in name for name in names), names  # they would abort a process that ends


if __name__ == "__main__":
    main()
