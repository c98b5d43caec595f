"""Several autoencoders trained over one stream of tokens: each to the same weights as alone.

What is equal for all of them is done once: the tokens are checked, read, looked at for NaN and turned into float32, also
those of the start and of the evaluations, and each of the members takes its step on them. On a CPU every thread works
at a member of its own, so that what cannot be divided in a step of one is done beside a step of another.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.artefacts import read_json, write_json
from cytosae.backbones import choose_device
from cytosae.console import progress, say
from cytosae.errors import CytosaeError, Interrupted
from cytosae.interrupts import StopFlag, deferred_signals
from cytosae.locks import locked
from cytosae.sae.start import Start, read_start
from cytosae.sae.threads import alone, begin
from cytosae.sae.trainer import Trainer
from cytosae.sae.training import claim_training, own_random_numbers
from cytosae.settings import TrainConfig
from cytosae.tokens import TokenSource, shuffled_batches

_STREAM = ("seed", "holdout", "batch_images")
"""Settings that say which tokens come in which order; beside them also those of the evaluations are equal in a stream."""


DIVERGED = "diverged.json"
"""In the folder of a member that was stopped: why, and with which settings and tokens."""


@dataclass(frozen=True)
class Member:
    """One of the autoencoders."""

    name: str
    folder: Path
    config: TrainConfig


@dataclass
class Trained:
    """What became of the members, by name."""

    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """See `cytosae.sae.train`."""
    diverged: dict[str, str] = field(default_factory=dict)
    """Why it was stopped."""


def streams(members: Iterable[Member]) -> list[list[Member]]:
    """Members that see the same tokens in the same order, together; the order depends on the seed, as it does alone."""
    by_tokens: dict[tuple[Any, ...], list[Member]] = {}
    for member in members:
        by_tokens.setdefault(tuple(getattr(member.config, name) for name in _STREAM), []).append(member)
    return list(by_tokens.values())


def train_together(
    source: TokenSource,
    members: Sequence[Member],
    *,
    device: str = "auto",
    readers: int = 2,
    checkpoint_seconds: float = 300.0,
    stop: StopFlag | None = None,
    restart: bool = False,
) -> Trained:
    """Train autoencoders on the same tokens, or go on with those that were interrupted, each where it was.

    Leaves in the folder of each what `cytosae.sae.train` leaves there, with the same weights within the rounding of
    another number of threads. One whose loss is not finite any more is stopped; the others go on.

    Parameters
    ----------
    source
        Tokens and their cells.
    members
        The autoencoders; those of one of `streams` are trained together, the streams one after the other.
    device, readers, checkpoint_seconds, stop, restart
        See `cytosae.sae.train`.

    Raises
    ------
    CytosaeError
        Damaged shards, NaN in the tokens, no cell left to train on, a full disk.
    Interrupted
        After a signal or `stop`; the checkpoints of all are on disk.
    """
    trained = Trained()
    if not members:
        return trained  # before all tokens are read to verify them
    where = torch.device(choose_device(device))
    with deferred_signals() as flag:
        if stop:
            flag.signum = stop.signum
        source.verify()
        for stream in streams(members):
            with own_random_numbers(stream[0].config.seed):
                _train_stream(source, stream, where, readers, checkpoint_seconds, flag, trained, restart)
    return trained


def _train_stream(
    source: TokenSource,
    members: Sequence[Member],
    device: torch.device,
    readers: int,
    checkpoint_seconds: float,
    stop: StopFlag,
    trained: Trained,
    restart: bool,
) -> None:
    trainers: dict[str, Trainer] = {}
    starts: dict[tuple[int, str], Start] = {}

    def start(source: TokenSource, training: NDArray[np.int64], config: TrainConfig) -> Start:
        key = config.init_images, config.centring
        if key not in starts:
            starts[key] = read_start(source, training, config)
        return starts[key]

    with ExitStack() as closing:
        for member in members:
            closing.enter_context(locked(member.folder))
            claim_training(member.folder, DIVERGED)
            trainer = Trainer(source, member.folder, member.config, device, start=start, verified=True, restart=restart)
            closing.callback(trainer.close)
            if why := _known_to_diverge(trainer):
                trained.diverged[member.name] = why
            else:
                trainers[member.name] = trainer
        starts.clear()
        if not trainers:
            return
        run = closing.enter_context(_side_by_side(len(members), device))
        bar = closing.enter_context(progress("sae", _total(trainers), "steps", _total_steps(trainers)))
        saved = time.monotonic()
        for names, x in _batches(source, trainers, device, readers, closing):
            if stop:
                for trainer in trainers.values():
                    trainer.save()
                raise Interrupted(
                    stop.signum or 0,
                    f"stopped with {len(trainers)} autoencoders in training; the checkpoint of each is written, the same "
                    "command goes on from there",
                )
            notes = run(lambda trainer, x=x: _stepped(trainer, x), [trainers[name] for name in names])
            for name, note in zip(names, notes, strict=True):
                if isinstance(note, CytosaeError):
                    trained.diverged[name] = str(note)
                    say(f"sae {name}: stopped: {note}")
                    trainer = trainers.pop(name)
                    write_json(trainer.folder / DIVERGED, {"why": str(note), **trainer.identity})
            _evaluate([trainers[name] for name in names if name in trainers], run)
            for name in [name for name in names if name in trainers and trainers[name].ended]:
                trained.figures[name] = trainers.pop(name).finish()
            bar.to(bar.done + len(names), f"{len(trainers)} in training")
            if time.monotonic() - saved > checkpoint_seconds:
                for trainer in trainers.values():
                    trainer.save()
                saved = time.monotonic()
        for name, trainer in trainers.items():  # those that had no step left
            trained.figures[name] = trainer.finish()


def _known_to_diverge(trainer: Trainer) -> str | None:
    """Why the same training was stopped before."""
    path = trainer.folder / DIVERGED
    if not path.is_file():
        return None
    known = read_json(path)
    if {key: known.get(key) for key in trainer.identity} == json.loads(json.dumps(trainer.identity)):
        return str(known["why"])
    path.unlink()
    return None


def _total(trainers: dict[str, Trainer]) -> int:
    return sum(trainer.config.steps for trainer in trainers.values())


def _total_steps(trainers: dict[str, Trainer]) -> int:
    return sum(trainer.state.step for trainer in trainers.values())


def _batches(
    source: TokenSource, trainers: dict[str, Trainer], device: torch.device, readers: int, closing: ExitStack
) -> Iterator[tuple[list[str], torch.Tensor]]:
    """Every batch that a member still needs, with the names of those that need it.

    A member that was interrupted earlier than others takes its steps alone until it has come up with them.
    """
    first = next(iter(trainers.values()))
    number = min(trainer.state.step for trainer in trainers.values())
    rows = shuffled_batches(first.training, first.config.batch_images, first.config.seed, start=number)
    tokens = source.stream(rows, readers=readers)
    closing.callback(tokens.close)
    while any(not trainer.ended for trainer in trainers.values()):
        names = [name for name, trainer in trainers.items() if trainer.state.step == number and not trainer.ended]
        x = next(tokens)
        number += 1
        if names:
            yield names, x.to(device, torch.float32)


def _stepped(trainer: Trainer, x: torch.Tensor) -> str | CytosaeError:
    try:
        return trainer.step(x)
    except CytosaeError as error:
        return error


def _evaluate(trainers: Sequence[Trainer], run: Callable[..., list[Any]]) -> None:
    """Those that are due, those measured on the same cells on one reading of them."""
    groups: dict[tuple[int, ...], list[Trainer]] = {}
    for trainer in trainers:
        if trainer.evaluation_due:
            groups.setdefault((*trainer.evaluation.tolist(),), []).append(trainer)
    for together in groups.values():
        tokens = list(together[0].measured())
        run(lambda trainer, tokens=tokens: trainer.evaluate(tokens), together)


@contextmanager
def _side_by_side(members: int, device: torch.device) -> Iterator[Callable[..., list[Any]]]:
    """What calls a function with every trainer, in threads where that is faster, and gives the results in order."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or min(threads, members) < 2:
        yield lambda function, trainers: [function(trainer) for trainer in trainers]
        return

    def run_alone(function: Callable[[Trainer], Any], trainer: Trainer) -> Any:
        with alone():
            return function(trainer)

    with ThreadPoolExecutor(threads, "sae-member", initializer=begin) as pool:

        def run(function: Callable[[Trainer], Any], trainers: Sequence[Trainer]) -> list[Any]:
            if len(trainers) == 1:
                return [function(trainers[0])]
            torch.set_num_threads(1)
            try:
                # The largest first, so that no thread is left with it at the end.
                order = sorted(range(len(trainers)), key=lambda i: -trainers[i].state.sae.n_latents)
                begun = {i: pool.submit(run_alone, function, trainers[i]) for i in order}
                return [begun[i].result() for i in range(len(trainers))]
            finally:
                torch.set_num_threads(threads)

        yield run
