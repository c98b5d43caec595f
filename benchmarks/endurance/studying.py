"""A small study with patients, and what is equal in two of them."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import shutil
import sys
import traceback
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from benchmarks.endurance.outcome import BROKEN, FINISHED, REFUSED, done
from cytosae.artefacts import LEDGER, sha256_file
from cytosae.errors import CytosaeError
from cytosae.locks import HOLDER, LOCK
from cytosae.settings import BackboneConfig, StoreConfig, TrainConfig
from cytosae.study import RunConfig, Study

PATIENTS, CELLS = 4, 6
BACKBONE = "backbone"
"""Folder of the backbone, beside the study."""
TIMES = re.compile(
    rb'"(mtime_ns|time|seconds|file_mtime_ns)": ?[0-9.e+]+|"digest": ?"[0-9a-f]{64}"|"logs": ?\{[^}]*\}\s*\}'
)
"""In manifests and logs: all that may differ between two studies of the same images, and the digests of what says so."""


def make_source(folder: Path) -> None:
    """Drawn cells of a few patients, and beside their folder a backbone of 17 tokens."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    shape = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=56)
    with contextlib.redirect_stderr(io.StringIO()):  # a bar of progress
        Dinov2Model(shape).save_pretrained(folder.parent / BACKBONE)
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for patient in range(PATIENTS):
        for cell in range(CELLS):
            pixels = np.clip(rng.normal(120, 30, (24, 24, 3)) + 60 * (cell % 2), 0, 255).astype(np.uint8)
            name = f"{patient}-{cell}.png"
            Image.fromarray(pixels).save(folder / name)
            diagnosis = ("AML", "healthy")[patient % 2]
            rows.append((name, ("blast", "monocyte")[cell % 2], f"P{patient}", diagnosis))
    pd.DataFrame(rows, columns=["path", "label", "patient", "diagnosis"]).to_csv(folder / "cells.csv", index=False)


def study_of(folder: Path) -> Study:
    """The study, with all of its stages small."""
    training = TrainConfig(
        expansion=4, images=96, batch_images=8, init_images=8, warmup_steps=2, evaluate_images=4, log_every=2
    )
    config = RunConfig(
        BackboneConfig(str(folder.parent / BACKBONE)), StoreConfig(cells_per_shard=4, batch_size=4), training
    )
    return Study(folder, config, workers=0)


def run_study(log: Path, table: Path, folder: Path, limits: dict[str, int] | None = None) -> None:
    """In a process of its own: the whole study; ends with `FINISHED`, `REFUSED` or `BROKEN`.

    Parameters
    ----------
    limits
        ``bytes`` of the largest file that it may write, ``user`` as which it runs.
    """
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 2)
        os.dup2(file.fileno(), 1)
    torch.set_num_threads(1)
    if limits and "user" in limits:
        os.setgid(limits["user"])
        os.setuid(limits["user"])
    if limits and "bytes" in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits["bytes"], limits["bytes"]))
    code = FINISHED
    try:
        study_of(folder).run(table, checkpoint_seconds=0.05)
    except CytosaeError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = REFUSED
    except BaseException:
        traceback.print_exc()
        code = BROKEN
    sys.stderr.flush()
    os._exit(code)


@dataclass(frozen=True)
class Ground:
    """Where the campaign takes place: images, a finished study of them, and a copy of it that nobody touches.

    Raises
    ------
    RuntimeError
        The study did not end well, though nothing disturbed it.
    """

    folder: Path

    def __post_init__(self) -> None:
        self.folder.chmod(0o755)  # for the user without rights
        make_source(self.images)
        code, said = done(run_study, self.log, self.table, self.study)
        if code != FINISHED:
            raise RuntimeError(f"the undisturbed study ended with {code}: {said}")
        shutil.copytree(self.study, self._pristine)

    @property
    def images(self) -> Path:
        """Folder of the images."""
        return self.folder / "images"

    @property
    def table(self) -> Path:
        """Table of the cells."""
        return self.images / "cells.csv"

    @property
    def study(self) -> Path:
        """Folder in which the study is disturbed; also moved elsewhere it would name another backbone."""
        return self.folder / "study"

    @property
    def log(self) -> Path:
        """What a process said."""
        return self.folder / "log"

    @property
    def _pristine(self) -> Path:
        return self.folder / "pristine"

    @cached_property
    def expected(self) -> dict[str, str]:
        """What is in the undisturbed study, by `contents`."""
        return contents(self._pristine)

    def reset(self) -> None:
        """Put the finished study in place again."""
        shutil.rmtree(self.study, ignore_errors=True)
        shutil.copytree(self._pristine, self.study)


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file of a study by its path; JSON, the log and the listing without times.

    Locks and the lists of own files are left out: they say what was done, and are no result.
    """
    found = {}
    for path in sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name not in (LEDGER, LOCK, HOLDER)
    ):
        if path.suffix in {".json", ".jsonl"}:
            found[str(path.relative_to(folder))] = TIMES.sub(b"", path.read_bytes()).decode(errors="replace")
        elif path.name == "cells.parquet":
            found[str(path.relative_to(folder))] = _table(path)
        else:
            found[str(path.relative_to(folder))] = sha256_file(path)
    return found


def _table(path: Path) -> str:
    """A listing of cells without the times of its images."""
    try:
        return str(pd.read_parquet(path).drop(columns="file_mtime_ns").to_json())
    except (OSError, ValueError, KeyError):
        return sha256_file(path)


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Files that only one of two studies has, or that are not equal in both."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
