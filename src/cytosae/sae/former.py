"""Trained work is never overwritten without the user's word: what is there, whether it fits, and where it is put aside."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cytosae.artefacts import (
    CONFIG,
    MANIFEST,
    WEIGHTS,
    Manifest,
    changes,
    disk_errors,
    make_folder,
    outdated,
    sha256_file,
    whole_file,
)
from cytosae.console import duration, say
from cytosae.errors import CytosaeError
from cytosae.sae.checkpoint import CHECKPOINT, CHECKPOINT_BEFORE, read_identity
from cytosae.sae.objectives import recorded
from cytosae.sae.tracking import METRICS, read_metrics
from cytosae.settings import TrainConfig, from_stored
from cytosae.storage import StoredPath, remove_tree

FORMER = "former"
"""Folder of autoencoders that were replaced, each under the first 12 digits of its digest."""
DURATION_ONLY = ("images", "evaluate_every", "evaluate_images", "log_every", "seeds_cosine")
"""Settings that do not change any step; the number of images does where the learning rate falls at the end."""
REPRODUCIBILITY, SEEDS = "reproducibility.parquet", "seeds"
"""Beside a dictionary pooled from several trainings: how often each of their latents was found, and the trainings."""


@dataclass(frozen=True)
class TrainedWork:
    """An autoencoder in a folder, finished or not.

    Attributes
    ----------
    folder
        Where it is.
    steps
        Steps that were done, as its checkpoint says, or else its manifest; 0 where neither does.
    parameters, inputs, version
        What it was trained with (see `Manifest`); empty where that is not known.
    manifest
        Of the finished training, if it is finished.
    """

    folder: Path
    steps: int
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]
    version: int
    manifest: Manifest | None

    @classmethod
    def load(cls, folder: Path, *, fetch: bool = True) -> TrainedWork | None:
        """What is in a folder; None where nothing is, or a training that has not done a step.

        Without `fetch` the checkpoint of a finished training at a URL is not fetched: its manifest says what it was.
        """
        checkpoint, weights, manifest = folder / CHECKPOINT, folder / WEIGHTS, Manifest.load(folder)
        if manifest is not None and "steps" in manifest.summary and not fetch and isinstance(folder, StoredPath):
            steps = int(manifest.summary["steps"])
            return cls(folder, steps, manifest.parameters, manifest.inputs, manifest.version, manifest)
        if checkpoint.is_file():
            identity, steps, _ = read_identity(checkpoint)
            if not steps and not weights.is_file():
                return None
            try:
                inputs, parameters = dict(identity["inputs"]), dict(identity["parameters"])
                return cls(folder, steps, parameters, inputs, identity.get("version", 1), manifest)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise CytosaeError(
                    f"{checkpoint}: does not say of which training it is, or is damaged ({error}). Remove it to train from "
                    "the start."
                ) from error
        if not weights.is_file():
            return cls._unfinished_seeds(folder)
        if manifest is None:
            return cls(folder, 0, {}, {}, 1, None)
        steps = int(manifest.summary.get("steps", 0))
        return cls(folder, steps, manifest.parameters, manifest.inputs, manifest.version, manifest)

    @classmethod
    def _unfinished_seeds(cls, folder: Path) -> TrainedWork | None:
        """Several trainings that are not pooled yet: the first of them, with their number."""
        first = folder / SEEDS / "0"
        work = cls.load(first) if first.is_dir() else None
        if work is None:
            return None
        number = sum(path.is_dir() for path in (folder / SEEDS).iterdir())
        return replace(work, folder=folder, parameters={**work.parameters, "seeds": number}, manifest=None)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights; of the checkpoint where the training is not finished."""
        weights = self.folder / WEIGHTS
        if not weights.is_file():
            checkpoints = (self.folder / CHECKPOINT, self.folder / SEEDS / "0" / CHECKPOINT)
            return sha256_file(next(path for path in checkpoints if path.is_file()))
        record = self.manifest and self.manifest.outputs.get(WEIGHTS)
        return record.sha256 if record and record.matches(weights) else sha256_file(weights)

    def why_replaced(self, config: TrainConfig, inputs: Mapping[str, str]) -> str | None:
        """Why a training with these settings and inputs could not go on from here; None if it could.

        An input that is not in `inputs` is not compared.
        """
        pooled = int(self.parameters.get("seeds", 1)) > 1  # its checkpoints are those of the trainings
        if not pooled and not (self.folder / CHECKPOINT).is_file():
            if self.parameters.get("given"):
                return "it was given with --sae, not trained here"
            return "it was not trained here, or its checkpoint is missing"
        if reason := outdated("sae", self.version):
            return reason
        before, after = (
            {**asdict(TrainConfig()), **from_stored(TrainConfig, stored)}
            for stored in (self.parameters, recorded(config))
        )
        for name in DURATION_ONLY:
            if not (config.decay and name == "images"):
                del before[name], after[name]
        if reason := changes("setting", before, after):
            return reason
        if reason := changes("input", {name: self.inputs.get(name) for name in inputs}, inputs):
            return reason
        if self.steps > config.steps:
            return f"it has done {self.steps:,} steps, more than the {config.steps:,} that are asked for"
        weights, record = self.folder / WEIGHTS, self.manifest and self.manifest.outputs.get(WEIGHTS)
        if record and weights.is_file() and not record.matches(weights):
            return f"{WEIGHTS} was changed after the training"
        return None

    def described(self) -> str:
        """What it is and what it took, in a few words."""
        if not self.steps:
            return f"an autoencoder ({self.digest[:12]})"
        images = self.steps * int(self.parameters["batch_images"])
        lines = read_metrics(self.folder)
        took = f", {duration(lines[-1]['seconds'])} of training" if lines else ""
        return f"an autoencoder ({self.digest[:12]}; {images:,} images{took})"

    def cost(self, config: TrainConfig) -> str:
        """What a training with other settings would take, at the rate of this one."""
        lines = read_metrics(self.folder)
        if not lines or not self.steps:
            return f"A new training sees {config.images:,} images."
        each = lines[-1]["seconds"] / (self.steps * int(self.parameters["batch_images"]))
        wider = config.expansion / int(self.parameters["expansion"])
        seconds = each * config.images * wider
        return f"A new training sees {config.images:,} images: about {duration(seconds)} at the former rate."


def refusal(work: TrainedWork, reason: str, config: TrainConfig, former: Path, keep: str) -> CytosaeError:
    """The error that asks for the user's word; `keep` says how to keep the autoencoder in use."""
    return CytosaeError(
        f"{work.folder}: holds {work.described()} that this command would replace ({reason}). It was not touched. "
        f"{keep} To train a new one, add --restart: the former one is then kept in {former}. {work.cost(config)}"
    )


def goes_on(folder: Path, config: TrainConfig, inputs: Mapping[str, str], restart: bool) -> bool:
    """Whether the work in a folder is of this training; that of another one is refused, or put aside at the user's word."""
    work = TrainedWork.load(folder)
    if work is None:
        return False
    if (reason := work.why_replaced(config, inputs)) is None:
        return True
    if not restart:
        raise refusal(work, reason, config, former_folder(folder, work), "To keep it, choose another folder.")
    say(f"sae: training starts anew ({reason}); the former autoencoder is kept in {put_aside(work)}")
    return False


def former_folder(folder: Path, work: TrainedWork) -> Path:
    """Where an autoencoder of a folder is put aside: a name with its digest that is still free."""
    name, number = work.digest[:12], 1
    while (target := folder / FORMER / (name if number == 1 else f"{name}-{number}")).exists():
        if not (target / WEIGHTS).exists() and not (target / "sae").exists():
            break  # begun, and killed before the autoencoder followed
        number += 1
    return target


def put_aside(work: TrainedWork) -> Path:
    """Move the files of a training from its folder to ``former/<digest>/`` below it; the weights last."""
    target = make_folder(former_folder(work.folder, work))
    for name in (METRICS, MANIFEST, CONFIG, CHECKPOINT_BEFORE, CHECKPOINT, REPRODUCIBILITY, SEEDS, WEIGHTS):
        if (work.folder / name).exists():
            transfer(work.folder / name, target / name)
    return target


def transfer(source: Path, target: Path, *, copy: bool = False, without: tuple[str, ...] = ()) -> None:
    """Move or copy a file or folder; at a URL file by file, a manifest last.

    Parameters
    ----------
    without
        Names of files that are not copied.
    """
    with disk_errors(target):
        if not copy and not isinstance(source, StoredPath):
            make_folder(target.parent)
            source.rename(target)
            return
        files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: (path.name == MANIFEST, str(path))):
            if path.name in without:
                continue
            with whole_file(target if path == source else target / path.relative_to(source)) as temporary:
                shutil.copyfile(path, temporary)
        if not copy:
            source.unlink() if source.is_file() else remove_tree(source)
