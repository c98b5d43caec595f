"""Training, in steps that can be stopped and continued anywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from cytosae.artefacts import CONFIG, LEDGER, WEIGHTS, claim
from cytosae.backbones import choose_device
from cytosae.console import progress
from cytosae.errors import Interrupted
from cytosae.interrupts import StopFlag, deferred_signals
from cytosae.locks import locked
from cytosae.sae.checkpoint import CHECKPOINT, CHECKPOINT_BEFORE, is_checkpoint
from cytosae.sae.process_group import ProcessGroup
from cytosae.sae.tracking import METRICS
from cytosae.sae.trainer import Trainer
from cytosae.settings import TrainConfig
from cytosae.tokens import TokenSource, shuffled_batches


@contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """In the block, torch's random state on the CPU is that of a training; after it, it is the caller's again."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def train(
    source: TokenSource,
    folder: Path,
    config: TrainConfig | None = None,
    *,
    device: str = "auto",
    readers: int = 2,
    checkpoint_seconds: float = 300.0,
    track: Sequence[str] = (),
    stop: StopFlag | None = None,
    process_group: ProcessGroup | None = None,
    restart: bool = False,
) -> dict[str, Any]:
    """Train an autoencoder on tokens, or go on with a training that was interrupted.

    Leaves ``model.safetensors``, ``config.json``, ``metrics.jsonl`` and ``checkpoint.safetensors`` in `folder`. A
    checkpoint of the same training is continued, to the same weights as without the interruption; also with more
    `images` than before.

    Parameters
    ----------
    source
        Tokens and their cells.
    folder
        Where the autoencoder goes.
    config
        Settings; the paper's where left out.
    device
        ``auto`` (CUDA where there is one), or a device of torch; with `process_group` it is the group's.
    readers
        Threads that read tokens ahead.
    checkpoint_seconds
        Time between two checkpoints; has no influence on the result.
    track
        Further trackers: ``tensorboard``, ``wandb``.
    stop
        A flag that ends the training at the next step, with a checkpoint.
    process_group
        The processes that train together (`join`), each of which calls this function; this one alone if None.
    restart
        Train anew where another training has left its work in `folder`: it is moved to ``former/<digest>/`` there.

    Returns
    -------
    Figures on held-out cells (see `cytosae.sae.evaluate`), or where none is held out on training cells, as ``measured_on``
    says; steps, images, dead share; in the first process, and nothing
    in the others.

    Raises
    ------
    CytosaeError
        Damaged shards, NaN in the tokens, no cell left to train on, divergence, a full disk, another process that works in
        the folder, the work of another training there (see `restart`).
    Interrupted
        After a signal or `stop`; the checkpoint is on disk.

    Notes
    -----
    No example: needs a store of tokens, or a trained autoencoder; the README trains one.
    """
    config = config or TrainConfig()
    group = process_group or ProcessGroup(torch.device(choose_device(device)))
    with deferred_signals() as flag, own_random_numbers(config.seed), ExitStack() as held:
        with group.agreed():
            if group.first:
                held.enter_context(locked(folder))
                claim_training(folder)
        if stop:
            flag.signum = stop.signum
        trainer = Trainer(source, folder, config, group.device, track, process_group=group, restart=restart)
        figures = _train(trainer, readers, checkpoint_seconds, flag)
        if flag:
            raise Interrupted(flag.signum or 0, f"stopped; the training is finished and in {folder}")
        return figures


def claim_training(folder: Path, *further: str) -> None:
    """Claim the files of a training; that an earlier version has begun one there, its checkpoint alone tells."""
    unnamed = (CHECKPOINT, CHECKPOINT_BEFORE, METRICS, *further)
    begun = not (folder / LEDGER).exists() and is_checkpoint(folder / CHECKPOINT)
    claim(folder, "sae", (WEIGHTS, CONFIG, *unnamed), unnamed=unnamed, proven=unnamed if begun else ())


def _train(trainer: Trainer, readers: int, checkpoint_seconds: float, stop: StopFlag) -> dict[str, Any]:
    config, group = trainer.config, trainer.process_group
    batches = shuffled_batches(trainer.training, config.batch_images, config.seed, start=trainer.state.step)
    tokens = trainer.source.stream(group.local_shard(batches), readers=readers)
    coming = iter(group.each(tokens))
    saved = time.monotonic()
    try:
        with progress("sae", config.steps * config.batch_images, "images", trainer.images) as bar:
            while not trainer.ended:
                asked = (stop.signum or 0) if stop else 0
                signum, checkpoint_due = group.maximum(asked, time.monotonic() - saved > checkpoint_seconds)
                if signum:
                    trainer.save()
                    raise Interrupted(
                        signum,
                        f"stopped after step {trainer.state.step:,} of {config.steps:,}; {trainer.checkpoint} is written, "
                        "the same command goes on from there",
                    )
                if checkpoint_due:
                    trainer.save()
                    saved = time.monotonic()
                note = trainer.step(next(coming))
                if note:
                    bar.to(trainer.images, note)
                if trainer.evaluation_due:
                    trainer.evaluate(trainer.measured())
    finally:
        tokens.close()
        trainer.close()
    return trainer.finish()
