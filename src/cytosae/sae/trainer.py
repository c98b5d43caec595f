"""One training in its folder: begun or continued, stepped, evaluated, saved and finished."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.artefacts import CONFIG, VERSIONS, WEIGHTS, FileRecord, Manifest, digest, disk_errors, whole_file
from cytosae.backbones import choose_precision
from cytosae.cells import held_out
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.learned import why_not_learned
from cytosae.sae import backends
from cytosae.sae.checkpoint import CHECKPOINT, CHECKPOINT_BEFORE, load_checkpoint, read_silence, save_checkpoint
from cytosae.sae.former import goes_on
from cytosae.sae.loss import BatchFigures
from cytosae.sae.metrics import HELD_OUT, PREFIXES, TRAINING, evaluate
from cytosae.sae.objectives import recorded
from cytosae.sae.process_group import ProcessGroup
from cytosae.sae.start import Start, begin_from, read_start
from cytosae.sae.state import TrainState, dead_latents, learning_rate, new_state
from cytosae.sae.step import step
from cytosae.sae.tracking import METRICS, open_trackers
from cytosae.settings import TrainConfig
from cytosae.tokens import TokenSource

RISE, JUMP = 0.02, 0.1
"""Rise of the dead share from one checkpoint to the next that lets the former be kept, and rise since that is reported."""


def training_inputs(source: TokenSource, config: TrainConfig) -> dict[str, str]:
    """Digests of what a training depends on.

    No example: needs a store of tokens, or a trained autoencoder; the README trains one.
    """
    return {"tokens": source.fingerprint, "split": split_digest(source.cells, config)}


def split_digest(cells: pd.DataFrame, config: TrainConfig) -> str:
    """Digest of which cells are kept out of the training."""
    return digest(np.flatnonzero(held_out(cells, config.holdout, config.seed)).tolist())


class Trainer:
    """One training in its folder: started or continued, stepped, evaluated, saved and finished.

    Whoever holds it brings the tokens: alone (`train`), or for several at once (`cytosae.sae.joint`).

    Parameters
    ----------
    source, folder, config, track
        See `train`.
    device
        Of torch.
    start
        Gives what it starts from, `read_start` of the same arguments.
    verified
        The tokens were checked against their checksums already.
    process_group
        The processes that train it together, each of which holds a trainer; only the first leaves anything in the folder.
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
        start: Callable[[TokenSource, NDArray[np.int64], TrainConfig], Start] | None = None,
        verified: bool = False,
        process_group: ProcessGroup | None = None,
        restart: bool = False,
    ) -> None:
        if config.seeds > 1:
            raise CytosaeError(
                f"--seeds {config.seeds}: only `cytosae train` and `cytosae run` pool several trainings."
            )
        config = config.scaled_to(source.n_cells, source.layout.n_tokens)
        self.source, self.folder, self.config = source, folder, config
        self.process_group = process_group or ProcessGroup(device)
        with self.process_group.agreed():
            self.process_group.check(config, source.layout.d_model)
            self.training, self.evaluation, self.measured_on = split_rows(source, config)
            inputs = training_inputs(source, config)
        self.checkpoint = folder / CHECKPOINT
        self.identity = {"parameters": recorded(config), "inputs": inputs, "version": VERSIONS["sae"]}
        self.held: dict[str, float] = {}
        self._empty_state = partial(new_state, config, source.layout.d_model, n_tokens=source.layout.n_tokens)

        def begun(device: torch.device) -> TrainState:
            state = self._empty_state(device)
            if not _continued(folder, state, inputs, config, restart):
                if not verified:
                    source.verify()
                begin_from((start or read_start)(source, self.training, config), state, config)
                save_checkpoint(self.checkpoint, state, self.identity)
            return state

        self.state = self.process_group.scatter(begun, self._empty_state)
        self.backend = backends.choose(self.state, config)
        self._saved = self.state.step, self._dead_share()
        self._held = self._held_before()
        self._jump_reported = self._held is not None and self._saved[1] >= self._held[1] + JUMP
        say(
            f"sae: {config.expansion * source.layout.d_model:,} latents on {self.process_group.description()}, "
            f"{len(self.training):,} cells to train on, measured on {len(self.evaluation):,} {self.measured_on}, step "
            f"{self.state.step:,} of {config.steps:,}"
        )
        self._trackers = (
            open_trackers(track, folder, self.state.step, recorded(config)) if self.process_group.first else []
        )

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

    def step(self, tokens: Tensor) -> str:
        """One step on a batch, ``(n_cells, n_tokens, d_model)``; a few words for the progress bar if it was logged."""
        x = self.state.sae.centred(tokens.to(self.process_group.device)).flatten(0, 1)
        figures = step(self.state, x, self.config, self.backend)
        if not (self.ended or self.state.step % self.config.log_every == 0):
            return ""
        line = _line(self.state, x, figures, self._dead_share(), self.config)
        self._log(line)
        self._report_jump(line["dead"])
        return f"EV {line['explained_variance']:.3f}, L0 {figures.l0:.0f}, dead {line['dead']:.0%}"

    def _dead_share(self) -> float:
        """Share of the latents that are dead, over all shards."""
        group = self.state.sae.sharding.latents
        n_dead = group.sum(torch.tensor(len(dead_latents(self.state, self.config))))
        return float(n_dead) / (self.state.sae.n_latents * group.size)

    def _held_before(self) -> tuple[int, float] | None:
        """Step and dead share of the checkpoint that was kept before an interruption."""
        path = self.folder / CHECKPOINT_BEFORE
        if not self.state.step or not path.is_file():
            return None
        step, silence = read_silence(path)
        return step, float((silence >= self.config.dead_after_tokens).double().mean())

    def _report_jump(self, dead: float) -> None:
        """Say once that many latents have died, and keep the checkpoint from before."""
        step, before = self._held or self._saved
        if self._jump_reported or dead < before + JUMP:
            return
        self._jump_reported = True
        self._hold()
        say(
            f"sae: {before:.0%} of the latents were dead at step {step:,}, {dead:.0%} are at step {self.state.step:,}; "
            f"the checkpoint of step {step:,} is kept as {CHECKPOINT_BEFORE}. A lower --learning-rate or another "
            "--dead-latent-loss may help"
        )

    def _hold(self) -> None:
        """Keep the last checkpoint beside those that follow, unless an earlier one is kept."""
        if self._held is None:
            self._held = self._saved
            if self.process_group.first:
                with disk_errors(self.folder), whole_file(self.folder / CHECKPOINT_BEFORE) as temporary:
                    shutil.copyfile(self.checkpoint, temporary)

    def _release(self) -> None:
        """No longer keep it, as the latents live again."""
        self._held = None
        if self.process_group.first:
            (self.folder / CHECKPOINT_BEFORE).unlink(missing_ok=True)

    def measured(self) -> Iterator[Tensor]:
        """Tokens of the cells to measure on."""
        return measured_batches(self.source, self.evaluation, self.config)

    def evaluate(self, batches: Iterable[Tensor]) -> None:
        """Figures on the tokens of the cells to measure on, for the log and for the end."""
        self.held = self._figures(batches)
        self._log({f"{PREFIXES[self.measured_on]}/{name}": value for name, value in self.held.items()})

    def _figures(self, batches: Iterable[Tensor]) -> dict[str, float]:
        dtype = choose_precision(self.config.encoder, "cpu")
        centred = (self.state.sae.centred(tokens.to(self.process_group.device)) for tokens in batches)
        return evaluate(self.state.sae, self.process_group.each(centred), self.config.objective, dtype=dtype)

    def _log(self, figures: dict[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log(self.state.step, figures)

    def save(self) -> None:
        """Write the checkpoint; the last one stays beside it while latents die."""
        dead = self._dead_share()
        if dead > self._saved[1] + RISE:
            self._hold()
        elif self._held and not self._jump_reported and dead <= self._held[1] + RISE:
            self._release()
        whole = self.process_group.gather(self.state, self._empty_state)
        with self.process_group.agreed():
            if whole is not None:
                save_checkpoint(self.checkpoint, whole, self.identity)
        self._saved = self.state.step, dead

    def close(self) -> None:
        """End the log."""
        for tracker in self._trackers:
            tracker.close()

    def finish(self) -> dict[str, Any]:
        """Write the autoencoder and its manifest; its figures."""
        if not self.held:
            self.held = self._figures(self.measured())
        whole = self.process_group.gather(self.state, self._empty_state)
        with self.process_group.agreed():
            if whole is not None:
                return _finish(self.source, self.folder, self.config, whole, self.identity, self.held, self.measured_on)
        return {}


def split_rows(source: TokenSource, config: TrainConfig) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """Rows to train on; a seeded draw of the held-out rows to measure on, or of the training's; and which of both it is."""
    is_held_out = held_out(source.cells, config.holdout, config.seed)
    training, held = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    if len(training) == 0:
        raise CytosaeError(
            f"No cell is left to train on: all {len(is_held_out)} cells are held out. Check the column 'split'."
        )
    measured_on = HELD_OUT if len(held) else TRAINING
    if not len(held):
        held = training
        say(f"sae: no cell is held out ({_why_none(source, config)}): all figures are those of training cells")
    order = np.random.default_rng([config.seed, 2]).permutation(len(held))[: config.evaluate_images]
    return training, np.sort(held[order]), measured_on


def _why_none(source: TokenSource, config: TrainConfig) -> str:
    """Why no cell is held out."""
    splits = sorted(map(str, source.cells["split"].dropna().unique()))
    if splits:
        return f"the column 'split' has {', '.join(splits[:5])} and neither val nor test"
    return "there is one cell" if source.n_cells == 1 else f"--holdout {config.holdout:g}"


def _continued(folder: Path, state: TrainState, inputs: Mapping[str, str], config: TrainConfig, restart: bool) -> bool:
    """Load the checkpoint if it belongs to this training."""
    if not goes_on(folder, config, inputs, restart):
        return False
    load_checkpoint(folder / CHECKPOINT, state)
    return True


def measured_batches(source: TokenSource, rows: NDArray[np.int64], config: TrainConfig) -> Iterator[Tensor]:
    """Tokens of some cells, a batch of the training at a time."""
    return source.stream(rows[i : i + config.batch_images] for i in range(0, len(rows), config.batch_images))


@torch.no_grad()
def _line(state: TrainState, x: Tensor, figures: BatchFigures, dead: float, config: TrainConfig) -> dict[str, float]:
    """The figures of a training batch, for the log."""
    sharding, x = state.sae.sharding, x.double()
    n = sharding.tokens.sum(torch.tensor(len(x), device=x.device))
    mean = sharding.tokens.sum(x.sum(0)) / n
    spread = float(sharding.tokens.sum((x - mean).square().sum()))
    error = figures.mse * float(n) * state.sae.d_model
    return {
        "images": state.step * config.batch_images,
        "loss": figures.loss,
        "reconstruction": figures.reconstruction,
        "mse": figures.mse,
        "l1": figures.l1,
        "l0": figures.l0,
        "explained_variance": 1 - error / spread if spread > 0 else float("nan"),
        "dead": dead,
        "revival": figures.dead_latent_loss,
        "learning_rate": learning_rate(state.step - 1, config),
    }


def _finish(
    source: TokenSource,
    folder: Path,
    config: TrainConfig,
    state: TrainState,
    identity: dict[str, Any],
    held: dict[str, float],
    measured_on: str,
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        **held,
        "dead": len(dead_latents(state, config)) / state.sae.n_latents,
        "n_latents": state.sae.n_latents,
        "steps": state.step,
        "images": state.step * config.batch_images,
        "measured_on": measured_on,
    }
    layout = source.layout
    state.sae.metadata = {
        "training": recorded(config),
        "inputs": identity["inputs"],
        "backbone": layout.backbone,
        "n_tokens": layout.n_tokens,
        "store_dtype": layout.dtype,
        **({} if layout.frame is None else {"frame": layout.frame}),
        **({} if layout.harmonisation is None else {"harmonisation": layout.harmonisation}),
        PREFIXES[measured_on]: summary,
    }
    with disk_errors(folder):
        save_checkpoint(folder / CHECKPOINT, state, identity)
        state.sae.save_pretrained(folder)
        outputs = {name: FileRecord.from_file(folder / name) for name in (WEIGHTS, CONFIG)}
        logs = {METRICS: FileRecord.from_file(folder / METRICS)} if (folder / METRICS).is_file() else {}
        Manifest("sae", identity["parameters"], identity["inputs"], outputs, summary, logs=logs).save(folder)
    if (why := why_not_learned(summary)) is not None:
        say(
            f"sae: this autoencoder has not learned: {why}. Do not read its latents as concepts. Train longer (--images; it "
            f"saw {summary['images']:,} in {state.step:,} steps) or with --preset recommended"
        )
    return summary
