"""Training, in steps that can be stopped and continued anywhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.artefacts import CONFIG, LEDGER, VERSIONS, WEIGHTS, FileRecord, Manifest, claim, digest, disk_errors
from cytosae.backbones import choose_device, choose_precision
from cytosae.cells import held_out
from cytosae.console import progress, say
from cytosae.errors import CytosaeError, Interrupted
from cytosae.interrupts import StopFlag, deferred_signals
from cytosae.locks import locked
from cytosae.sae import sparse
from cytosae.sae.activations import BatchTopK, ReLU
from cytosae.sae.archetypes import Archetypes
from cytosae.sae.checkpoint import CHECKPOINT, MOMENTS, TrainState, is_checkpoint, load_checkpoint, save_checkpoint
from cytosae.sae.former import TrainedWork, former_folder, put_aside, refusal
from cytosae.sae.metrics import HELD_OUT, PREFIXES, TRAINING, evaluate
from cytosae.sae.model import SAE
from cytosae.sae.objectives import OBJECTIVES, BatchFigures, backward
from cytosae.sae.start import start_from_tokens, start_of_bias, tie_encoder
from cytosae.sae.team import Team
from cytosae.sae.tracking import METRICS, open_trackers
from cytosae.settings import TrainConfig
from cytosae.tokens import TokenSource, shuffled_batches


def training_inputs(source: TokenSource, config: TrainConfig) -> dict[str, str]:
    """Digests of what a training depends on."""
    return {"tokens": source.fingerprint, "split": split_digest(source.cells, config)}


def split_digest(cells: pd.DataFrame, config: TrainConfig) -> str:
    """Digest of which cells are kept out of the training."""
    return digest(np.flatnonzero(held_out(cells, config.holdout, config.seed)).tolist())


@contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """In the block, torch's random state on the CPU is that of a training; after it, it is the caller's again."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def new_state(config: TrainConfig, d_model: int, device: torch.device, parts: int = 1) -> TrainState:
    """Freshly drawn weights, optimiser and bookkeeping, with the latents of one of so many equal parts."""
    n_latents = config.expansion * d_model // parts
    sae = SAE(d_model, n_latents, activation=OBJECTIVES[config.objective].activation(config))
    generator = torch.Generator().manual_seed(config.seed)
    sae.initialise(generator)
    archetypes = None
    if config.objective == "archetypal":
        archetypes = Archetypes(sae.n_latents, config.points, d_model, config.relaxation, generator).to(device)
    sae.to(device)
    learned = [*sae.parameters(), *(archetypes.parameters() if archetypes else ())]
    optimiser = torch.optim.Adam(learned, lr=config.learning_rate, fused=device.type in {"cpu", "cuda"})
    since_fired = torch.zeros(sae.n_latents, dtype=torch.int32, device=device)
    if archetypes:
        archetypes.give_directions(sae.W_dec)
    rested = torch.zeros_like(since_fired) if config.dead_every > 1 else None
    return TrainState(sae, optimiser, since_fired, rested, archetypes=archetypes)


def step(state: TrainState, x: Tensor, config: TrainConfig) -> BatchFigures:
    """One optimiser step on the tokens of a batch, ``(n_tokens, d_model)``.

    Where the tokens are divided among processes, `x` are those of this one.

    Raises
    ------
    CytosaeError
        The loss is not finite; the weights are left as they were.
    """
    sae, split = state.sae, state.sae.split
    along_active = state.l0 <= sparse.DENSE * sae.n_latents * split.latents.size and sae.activation.along_active
    # Which latents are active in a batch, or which of the dead come nearest, is agreed upon in the plain step alone.
    if split.tokens.size * split.latents.size > 1 and isinstance(sae.activation, BatchTopK):
        along_active = False
    if split.latents.size > 1 and config.revival == "auxk":
        along_active = False
    # The sparse step holds no gradient as a whole, which it has to be where that of other tokens is added.
    if along_active and state.archetypes is None and split.tokens.size == 1 and x.device.type == "cpu":
        figures = _sparse_step(state, x, config)
    else:
        figures = _plain_step(state, x, config, along_active)
    state.sae.activation.after_step(state.sae, figures.limit, state.step + 1)
    state.since_fired.add_(1).masked_fill_(figures.fired, 0)
    if state.rested is not None:
        state.rested.masked_fill_(figures.fired, 0)
    state.l0 = figures.l0
    state.step += 1
    return figures


def _plain_step(state: TrainState, x: Tensor, config: TrainConfig, along_active: bool = False) -> BatchFigures:
    """The step as the equations read; `along_active` has the gradients follow the active latents alone, where they can."""
    dead = _to_revive(state, config)
    state.optimiser.zero_grad(set_to_none=True)
    loss = _loss(config, dead)
    if along_active and x.device.type == "cuda":
        figures = _gradients_on_gpu(state.sae, x, config.encoder, **loss)
    elif along_active and x.device.type == "cpu":
        figures = sparse.backward(state.sae, x, **loss, dtype=choose_precision(config.encoder, "cpu"))
    else:
        figures = backward(state.sae, x, **loss)
    figures = _of_all(state.sae, figures, len(x))
    _check_finite(figures, state)
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(state.step, config)
    if state.archetypes is not None:
        state.archetypes.take_gradient(state.sae.W_dec)
    state.sae.remove_parallel_gradient()
    state.optimiser.step()
    if state.archetypes is None:
        state.sae.normalise_decoder()
    else:
        state.archetypes.give_directions(state.sae.W_dec)
    state.optimiser.zero_grad(set_to_none=True)
    return figures


@torch.no_grad()
def _of_all(sae: SAE, figures: BatchFigures, n_tokens: int) -> BatchFigures:
    """Gradients and figures of the whole batch, from those of every part of it."""
    split = sae.split
    split.latents.sum_(sparse.gradient_of(sae.b_dec))
    if split.tokens.size == 1:
        return figures
    share = n_tokens / float(split.tokens.sum(torch.tensor(n_tokens)))
    for parameter in sae.parameters():
        if parameter.grad is not None:
            split.tokens.sum_(parameter.grad.mul_(share))
    names = ("loss", "reconstruction", "l1", "revival", "mse", "l0")
    here = torch.tensor([getattr(figures, name) for name in names], dtype=torch.float64)
    means = split.tokens.sum(share * here)
    fired = split.tokens.highest(figures.fired.int()) > 0
    return replace(figures, **dict(zip(names, means.tolist(), strict=True)), fired=fired)


def _loss(config: TrainConfig, dead: Tensor | None) -> dict[str, Any]:
    """Arguments of every way to compute the loss; `dead` are the latents to revive, if any."""
    return {
        "objective": config.objective,
        "l1": config.l1,
        "dead": dead,
        "nested": config.nested,
        "revival": config.revival,
    }


def _gradients_on_gpu(sae: SAE, x: Tensor, encoder: str, **loss: Any) -> BatchFigures:
    from cytosae.sae import gpu  # only here: it imports Triton

    if not gpu.available() or not isinstance(sae.activation, ReLU):
        return backward(sae, x, **loss)
    return gpu.backward(sae, x, **loss, dtype=choose_precision(encoder, "cuda"))


def _sparse_step(state: TrainState, x: Tensor, config: TrainConfig) -> BatchFigures:
    """The same along the active latents; the dead take part in one of `dead_every` steps, also for those they rested in."""
    sae, dead = state.sae, dead_latents(state, config)
    latents, lengths = np.arange(sae.n_latents), np.ones(sae.n_latents, np.int64)
    rested = state.rested
    visited = rested is None or state.step % config.dead_every == 0
    if rested is not None and visited:
        lengths += rested.numpy()
        rested.zero_()
    elif rested is not None:
        latents = np.delete(latents, dead.numpy())
        lengths = lengths[latents]
        rested[dead] += 1
    revived = _to_revive(state, config) if visited else None
    dtype = choose_precision(config.encoder, "cpu")
    found = sparse.forward(sae, x, **_loss(config, revived), dtype=dtype, latents=None if visited else latents)
    _check_finite(found.figures, state)
    for parameter in sae.parameters():
        moments = state.optimiser.state[parameter]
        for name in MOMENTS:
            if name not in moments:
                moments[name] = torch.zeros_like(parameter)
        moments["step"] = torch.tensor(float(state.step + 1))
    adam = sparse.Adam(state.optimiser.state, state.step + 1, learning_rate(state.step, config))
    sparse.update(sae, found, adam, revived, latents, lengths)
    return found.figures


def _check_finite(figures: BatchFigures, state: TrainState) -> None:
    if not math.isfinite(figures.loss):
        raise CytosaeError(
            f"Training diverged: the loss is {figures.loss} at step {state.step + 1}. Lower --learning-rate or check "
            "the tokens."
        )


def dead_latents(state: TrainState, config: TrainConfig) -> Tensor:
    """Indices of the latents that fired on no token of the last `dead_after` batches."""
    return (state.since_fired >= config.dead_after).nonzero().squeeze(1)


def _to_revive(state: TrainState, config: TrainConfig) -> Tensor | None:
    """The dead latents if they are to be revived and there are any, here or in another part of the latents."""
    dead = dead_latents(state, config)
    anywhere = config.revival != "none" and state.sae.split.latents.sum(torch.tensor(len(dead)))
    return dead if anywhere else None


def learning_rate(done: int, config: TrainConfig) -> float:
    """Learning rate of the step after `done` steps: linear warm-up, then constant."""
    return config.learning_rate * min(1.0, (done + 1) / max(1, config.warmup_steps))


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
    team: Team | None = None,
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
        ``auto`` (CUDA where there is one), or a device of torch; with `team` it is the team's.
    readers
        Threads that read tokens ahead.
    checkpoint_seconds
        Time between two checkpoints; has no influence on the result.
    track
        Further trackers: ``tensorboard``, ``wandb``.
    stop
        A flag that ends the training at the next step, with a checkpoint.
    team
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
    """
    config = config or TrainConfig()
    team = team or Team(torch.device(choose_device(device)))
    with deferred_signals() as flag, own_random_numbers(config.seed), ExitStack() as held:
        with team.agreed():
            if team.first:
                held.enter_context(locked(folder))
                claim_training(folder)
        if stop:
            flag.signum = stop.signum
        course = Course(source, folder, config, team.device, track, team=team, restart=restart)
        figures = _train(course, readers, checkpoint_seconds, flag)
        if flag:
            raise Interrupted(flag.signum or 0, f"stopped; the training is finished and in {folder}")
        return figures


def claim_training(folder: Path, *further: str) -> None:
    """Claim the files of a training; that an earlier version has begun one there, its checkpoint alone tells."""
    unnamed = (CHECKPOINT, METRICS, *further)
    begun = not (folder / LEDGER).exists() and is_checkpoint(folder / CHECKPOINT)
    claim(folder, "sae", (WEIGHTS, CONFIG, *unnamed), unnamed=unnamed, proven=unnamed if begun else ())


def _train(course: Course, readers: int, checkpoint_seconds: float, stop: StopFlag) -> dict[str, Any]:
    config, team = course.config, course.team
    batches = shuffled_batches(course.training, config.batch_images, config.seed, start=course.state.step)
    tokens = course.source.stream(team.share(batches), readers=readers)
    coming = iter(team.each(tokens))
    saved = time.monotonic()
    try:
        with progress("sae", config.steps * config.batch_images, "images", course.images) as bar:
            while not course.ended:
                asked = (stop.signum or 0) if stop else 0
                signum, due = team.most(asked, time.monotonic() - saved > checkpoint_seconds)
                if signum:
                    course.save()
                    raise Interrupted(
                        signum,
                        f"stopped after step {course.state.step:,} of {config.steps:,}; {course.checkpoint} is written, the "
                        "same command goes on from there",
                    )
                if due:
                    course.save()
                    saved = time.monotonic()
                note = course.step(next(coming).to(team.device, torch.float32).flatten(0, 1))
                if note:
                    bar.to(course.images, note)
                if course.evaluation_due:
                    course.evaluate(course.measured())
    finally:
        tokens.close()
        course.close()
    return course.finish()


class Course:
    """One training in its folder: started or continued, stepped, evaluated, saved and finished.

    Whoever holds it brings the tokens: alone (`train`), or for several at once (`cytosae.sae.joint`).

    Parameters
    ----------
    source, folder, config, track
        See `train`.
    device
        Of torch.
    start
        Gives the tokens from which it starts, `start_tokens` of the same arguments.
    verified
        The tokens were checked against their checksums already.
    team
        The processes that train it together, each of which holds a course; only the first leaves anything in the folder.
    restart
        See `train`.
    """

    def __init__(
        self,
        source: TokenSource,
        folder: Path,
        config: TrainConfig,
        device: torch.device,
        track: Sequence[str] = (),
        *,
        start: Callable[[TokenSource, NDArray[np.int64], TrainConfig], Tensor] | None = None,
        verified: bool = False,
        team: Team | None = None,
        restart: bool = False,
    ) -> None:
        self.source, self.folder, self.config = source, folder, config
        self.team = team or Team(device)
        with self.team.agreed():
            self.team.check(config, source.layout.d_model)
            self.training, self.evaluation, self.measured_on = _split(source, config)
            inputs = training_inputs(source, config)
        self.checkpoint = folder / CHECKPOINT
        self.identity = {"parameters": config.recorded(), "inputs": inputs, "version": VERSIONS["sae"]}
        self.held: dict[str, float] = {}
        self._blank = partial(new_state, config, source.layout.d_model)

        def begun(device: torch.device) -> TrainState:
            state = self._blank(device)
            if not _continued(folder, state, inputs, config, restart):
                if not verified:
                    source.verify()
                begin(state, (start or start_tokens)(source, self.training, config), config)
                save_checkpoint(self.checkpoint, state, self.identity)
            return state

        self.state = self.team.deal(begun, self._blank)
        say(
            f"sae: {config.expansion * source.layout.d_model:,} latents on {self.team.described()}, "
            f"{len(self.training):,} cells to train on, measured on {len(self.evaluation):,} {self.measured_on}, step "
            f"{self.state.step:,} of {config.steps:,}"
        )
        self._trackers = open_trackers(track, folder, self.state.step, config.recorded()) if self.team.first else []

    @property
    def ended(self) -> bool:
        """Whether all steps are done."""
        return self.state.step >= self.config.steps

    @property
    def images(self) -> int:
        """Images seen."""
        return self.state.step * self.config.batch_images

    @property
    def evaluation_due(self) -> bool:
        """Whether the last step is one after which the autoencoder is measured."""
        return self.ended or self.state.step % self.config.evaluate_every == 0

    def step(self, x: Tensor) -> str:
        """One step on the tokens of a batch, ``(n_tokens, d_model)``; a few words for the progress bar if it was logged."""
        figures = step(self.state, x, self.config)
        if not (self.ended or self.state.step % self.config.log_every == 0):
            return ""
        line = _line(self.state, x, figures, self.config)
        self._log(line)
        return f"EV {line['explained_variance']:.3f}, L0 {figures.l0:.0f}, dead {line['dead']:.0%}"

    def measured(self) -> Iterator[Tensor]:
        """Tokens of the cells to measure on."""
        return _in_pieces(self.source, self.evaluation, self.config)

    def evaluate(self, batches: Iterable[Tensor]) -> None:
        """Figures on the tokens of the cells to measure on, for the log and for the end."""
        self.held = self._figures(batches)
        self._log({f"{PREFIXES[self.measured_on]}/{name}": value for name, value in self.held.items()})

    def _figures(self, batches: Iterable[Tensor]) -> dict[str, float]:
        dtype = choose_precision(self.config.encoder, "cpu")
        return evaluate(self.state.sae, self.team.each(batches), self.config.objective, dtype=dtype)

    def _log(self, figures: dict[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log(self.state.step, figures)

    def save(self) -> None:
        """Write the checkpoint."""
        whole = self.team.collect(self.state, self._blank)
        with self.team.agreed():
            if whole is not None:
                save_checkpoint(self.checkpoint, whole, self.identity)

    def close(self) -> None:
        """End the log."""
        for tracker in self._trackers:
            tracker.close()

    def finish(self) -> dict[str, Any]:
        """Write the autoencoder and its manifest; its figures."""
        if not self.held:
            self.held = self._figures(self.measured())
        whole = self.team.collect(self.state, self._blank)
        with self.team.agreed():
            if whole is not None:
                return _finish(self.source, self.folder, self.config, whole, self.identity, self.held, self.measured_on)
        return {}


def _split(source: TokenSource, config: TrainConfig) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """Rows to train on; a seeded draw of the held-out rows to measure on, or of the training's; and which of both it is."""
    kept_out = held_out(source.cells, config.holdout, config.seed)
    training, held = np.flatnonzero(~kept_out), np.flatnonzero(kept_out)
    if len(training) == 0:
        raise CytosaeError(
            f"No cell is left to train on: all {len(kept_out)} cells are held out. Check the column 'split'."
        )
    whose = HELD_OUT if len(held) else TRAINING
    if not len(held):
        held = training
        say(f"sae: no cell is held out ({_why_none(source, config)}): all figures are those of training cells")
    order = np.random.default_rng([config.seed, 2]).permutation(len(held))[: config.evaluate_images]
    return training, np.sort(held[order]), whose


def _why_none(source: TokenSource, config: TrainConfig) -> str:
    """Why no cell is held out."""
    splits = sorted(map(str, source.cells["split"].dropna().unique()))
    if splits:
        return f"the column 'split' has {', '.join(splits[:5])} and neither val nor test"
    return "there is one cell" if source.n_cells == 1 else f"--holdout {config.holdout:g}"


def _continued(folder: Path, state: TrainState, inputs: Mapping[str, str], config: TrainConfig, restart: bool) -> bool:
    """Load the checkpoint if it belongs to this training; work of another one is refused or put aside."""
    work = TrainedWork.load(folder)
    if work is None:
        return False
    if (reason := work.why_replaced(config, inputs)) is None:
        load_checkpoint(folder / CHECKPOINT, state)
        return True
    if not restart:
        raise refusal(work, reason, config, former_folder(folder, work), "To keep it, choose another folder.")
    say(f"sae: training starts anew ({reason}); the former autoencoder is kept in {put_aside(work)}")
    return False


def start_tokens(source: TokenSource, training: NDArray[np.int64], config: TrainConfig) -> Tensor:
    """Tokens of a seeded draw of cells, from which a training starts, ``(n_tokens, d_model)``."""
    first = np.random.default_rng([config.seed, 3]).permutation(training)[: config.init_images]
    (sample,) = source.stream([np.sort(first)])
    return sample.flatten(0, 1).float()


@torch.no_grad()
def begin(state: TrainState, x: Tensor, config: TrainConfig) -> None:
    """Bias and directions from a sample of tokens."""
    sae = state.sae
    sae.b_dec.copy_(start_of_bias(x, config.b_dec_init))
    if state.archetypes is not None:
        generator = torch.Generator().manual_seed(config.seed)
        state.archetypes.start_from(x, sae.b_dec, generator)
        state.archetypes.give_directions(sae.W_dec)
        tie_encoder(sae, x.to(sae.b_dec.device) - sae.b_dec, generator)
    elif config.directions_init == "tokens":
        start_from_tokens(sae, x, config.seed)


def _in_pieces(source: TokenSource, rows: NDArray[np.int64], config: TrainConfig) -> Iterator[Tensor]:
    return source.stream(rows[i : i + config.batch_images] for i in range(0, len(rows), config.batch_images))


@torch.no_grad()
def _line(state: TrainState, x: Tensor, figures: BatchFigures, config: TrainConfig) -> dict[str, float]:
    """The figures of a training batch, for the log."""
    split, x = state.sae.split, x.double()
    n = split.tokens.sum(torch.tensor(len(x), device=x.device))
    mean = split.tokens.sum(x.sum(0)) / n
    spread = float(split.tokens.sum((x - mean).square().sum()))
    error = figures.mse * float(n) * state.sae.d_model
    n_dead = split.latents.sum(torch.tensor(len(dead_latents(state, config))))
    return {
        "images": state.step * config.batch_images,
        "loss": figures.loss,
        "reconstruction": figures.reconstruction,
        "mse": figures.mse,
        "l1": figures.l1,
        "l0": figures.l0,
        "explained_variance": 1 - error / spread if spread > 0 else float("nan"),
        "dead": float(n_dead) / (state.sae.n_latents * split.latents.size),
        "revival": figures.revival,
        "learning_rate": learning_rate(state.step - 1, config),
    }


def _finish(
    source: TokenSource,
    folder: Path,
    config: TrainConfig,
    state: TrainState,
    identity: dict[str, Any],
    held: dict[str, float],
    whose: str,
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        **held,
        "dead": len(dead_latents(state, config)) / state.sae.n_latents,
        "n_latents": state.sae.n_latents,
        "steps": state.step,
        "images": state.step * config.batch_images,
        "measured_on": whose,
    }
    layout = source.layout
    state.sae.metadata = {
        "training": config.recorded(),
        "inputs": identity["inputs"],
        "backbone": layout.backbone,
        "n_tokens": layout.n_tokens,
        "store_dtype": layout.dtype,
        PREFIXES[whose]: summary,
    }
    with disk_errors(folder):
        save_checkpoint(folder / CHECKPOINT, state, identity)
        state.sae.save_pretrained(folder)
        outputs = {name: FileRecord.of(folder / name) for name in (WEIGHTS, CONFIG)}
        logs = {METRICS: FileRecord.of(folder / METRICS)} if (folder / METRICS).is_file() else {}
        Manifest("sae", identity["parameters"], identity["inputs"], outputs, summary, logs=logs).save(folder)
    return summary
