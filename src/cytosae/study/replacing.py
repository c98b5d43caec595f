"""Trained work is not replaced unasked: it is kept, in a study of its own, with all that depends on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cytosae.artefacts import ANNOTATIONS, make_folder, sae_weights_digest
from cytosae.cells import read_cells, write_cells
from cytosae.cohort import COHORT
from cytosae.concepts import TAUGHT_FOLDER, check_fit
from cytosae.concepts.description import DESCRIPTIONS
from cytosae.console import say
from cytosae.remembered import FILE as SETTINGS
from cytosae.sae import SAE
from cytosae.sae.checkpoint import CHECKPOINT, CHECKPOINT_BEFORE
from cytosae.sae.former import TrainedWork, former_folder, refusal, transfer
from cytosae.sae.trainer import split_digest
from cytosae.settings import TrainConfig
from cytosae.study.listing import Listed
from cytosae.tokens import Layout

_DEPENDENT = (
    "concepts",
    TAUGHT_FOLDER,
    COHORT,
    DESCRIPTIONS,
    "quality",
    "report",
    ANNOTATIONS,
    f"{ANNOTATIONS}-wal",
    f"{ANNOTATIONS}-shm",
)
"""What means nothing without the autoencoder that it was made with."""


def make_way(
    study: Path,
    config: TrainConfig,
    layout: Callable[[], Layout],
    listed: Listed,
    tokens: str | None,
    *,
    given: Path | None,
    restart: bool,
) -> None:
    """Before anything is changed: refuse to replace trained work, or put it aside where the user has said so.

    Parameters
    ----------
    study
        Its folder.
    config, layout
        Of the training and of the tokens that will be.
    listed
        The cells as they are now.
    tokens
        Fingerprint that their tokens will have; None where only making them can tell.
    given
        Folder of an autoencoder that is taken instead of training one.
    restart
        Whether the user has said so.

    Raises
    ------
    CytosaeError
        The autoencoder that is there is of other settings, cells or tokens, and `restart` is not set.
    """
    folder = study / "sae"
    work = TrainedWork.load(folder, fetch=False)
    if work is None:
        return
    if given is not None:
        same = sae_weights_digest(given) == work.digest
        if not same:
            check_fit(layout(), SAE.from_pretrained(given))  # before the one that is there has to go
        reason = None if same else f"--sae {given} is another autoencoder"
    else:
        inputs = {"split": split_digest(listed.cells, config)}
        reason = work.why_replaced(config, inputs if tokens is None else {**inputs, "tokens": tokens})
        if reason and listed.reason and listed.previous is not None:
            reason += f"; {listed.reason}"
    if reason is None:
        longer = given is None and work.manifest is not None and work.steps < config.steps
        if longer and (study / ANNOTATIONS).is_file():
            say(f"sae: the training goes on; the annotated autoencoder is kept in {_put_aside(study, work, copy=True)}")
        return
    if not restart:
        keep = f"To keep it for these settings and cells, add --sae {folder}; or choose another --study."
        raise refusal(work, reason, config, former_folder(study, work), keep)
    say(f"sae: replaced ({reason}); the former autoencoder is kept in {_put_aside(study, work)}")


def _put_aside(study: Path, work: TrainedWork, *, copy: bool = False) -> Path:
    """Move an autoencoder and all that depends on it into a study of its own; it goes last, so that a run that is
    killed meanwhile goes on with it. With `copy` the training stays too.
    """
    target = make_folder(former_folder(study, work))
    for name in _DEPENDENT:
        if (study / name).exists():
            transfer(study / name, target / name)
    for name in ("backbone.json", SETTINGS):
        if (study / name).is_file():
            transfer(study / name, target / name, copy=True)
    if (study / "cells.parquet").is_file():
        write_cells(read_cells(study / "cells.parquet"), target / "cells.parquet")
    transfer(study / "sae", target / "sae", copy=copy, without=(CHECKPOINT, CHECKPOINT_BEFORE))
    return target
