"""Several trainings from other initial weights, and one dictionary of the latents that most of them find.

Single trainings disagree about many of their latents. A latent of the pooled dictionary is one of a single training as it
was trained, direction, encoder, bias and threshold; what is pooled is the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.artefacts import CONFIG, MANIFEST, WEIGHTS, FileRecord, Manifest, claim, disk_errors, whole_file
from cytosae.backbones import choose_precision
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.interrupts import StopFlag
from cytosae.locks import locked
from cytosae.sae.former import REPRODUCIBILITY, SEEDS, goes_on
from cytosae.sae.joint import Member, train_together
from cytosae.sae.matching import reproducibility, returning
from cytosae.sae.metrics import PREFIXES, evaluate
from cytosae.sae.model import SAE
from cytosae.sae.objectives import recorded
from cytosae.sae.process_group import ProcessGroup
from cytosae.sae.trainer import measured_batches, split_rows, training_inputs
from cytosae.settings import TrainConfig
from cytosae.tokens import TokenSource

RULE = "each is the other's nearest, cosine at least {above:g}, in more than half of {seeds} trainings"


def train_seeds(
    source: TokenSource,
    folder: Path,
    config: TrainConfig,
    *,
    device: str = "auto",
    readers: int = 2,
    checkpoint_seconds: float = 300.0,
    track: Sequence[str] = (),
    stop: StopFlag | None = None,
    process_group: ProcessGroup | None = None,
    restart: bool = False,
) -> dict[str, Any]:
    """Train ``config.seeds`` autoencoders together, and keep the latents that most of them find as one dictionary.

    The trainings differ in their initial weights alone (`weights_draw`): the same cells are held out, and the tokens are
    read once for all. Each is left in ``seeds/<number>/`` as `cytosae.sae.train` leaves one; goes on where it was stopped.
    The pooled dictionary is an autoencoder like any other; ``reproducibility.parquet`` has a row for each latent of each
    training: ``training, latent``; ``share`` of the other trainings in which it comes back, and the mean ``cosine`` with
    the nearest there (`cytosae.sae.matching.reproducibility`); ``pooled``, its number in the dictionary, or -1.

    Parameters
    ----------
    source, folder, config, device, readers, checkpoint_seconds, stop, restart
        See `cytosae.sae.train`.
    track, process_group
        None and one that is alone: neither follows several trainings.

    Returns
    -------
    Figures of the pooled dictionary as of `cytosae.sae.train`, with ``trainings``, those of each training, and
    ``reproducibility``, the mean share in the other trainings.

    Raises
    ------
    CytosaeError
        A tracker or several processes; one of the trainings diverged; fewer than two latents come back; what
        `cytosae.sae.train` raises.
    Interrupted
        After a signal or `stop`; the checkpoints of all are on disk.

    Notes
    -----
    No example: needs a store of tokens, or a trained autoencoder; the README trains one.
    """
    if track or (process_group and process_group.sharding.tokens.size * process_group.sharding.latents.size > 1):
        raise CytosaeError(f"--seeds {config.seeds}: works without --track and outside torchrun alone.")
    config = config.scaled_to(source.n_cells, source.layout.n_tokens)
    inputs = training_inputs(source, config)
    with locked(folder):
        goes_on(folder, config, inputs, restart)  # what is done already the trainings know
        claim(folder, "sae", (WEIGHTS, CONFIG, REPRODUCIBILITY))
        alone = replace(config, seeds=1, seeds_cosine=TrainConfig.seeds_cosine)
        members = [
            Member(f"{number}", folder / SEEDS / f"{number}", replace(alone, weights_draw=number))
            for number in range(config.seeds)
        ]
        options: dict[str, Any] = {"readers": readers, "checkpoint_seconds": checkpoint_seconds, "stop": stop}
        where = str(process_group.device) if process_group else device
        trained = train_together(source, members, device=where, **options)
        if trained.diverged:
            name, why = next(iter(trained.diverged.items()))
            raise CytosaeError(f"{folder / SEEDS / name}: {why}")
        saes = [SAE.from_pretrained(member.folder) for member in members]
        training, latent, n_members = returning([sae.W_dec.detach().numpy() for sae in saes], config.seeds_cosine)
        if len(latent) < 2:
            raise CytosaeError(
                f"{folder}: {len(latent)} latents come back ({_rule(config)}), too few for a dictionary. The trainings "
                f"are in {folder / SEEDS}. Train longer (--images), or with fewer latents (--expansion), or lower "
                "--seeds-cosine."
            )
        pooled = pool(saes, training, latent)
        return _finish(source, folder, config, inputs, saes, pooled, (training, latent, n_members), trained.figures)


def _rule(config: TrainConfig) -> str:
    return RULE.format(above=config.seeds_cosine, seeds=config.seeds)


@torch.no_grad()
def pool(saes: Sequence[SAE], training: NDArray[np.int64], latent: NDArray[np.int64]) -> SAE:
    r"""One autoencoder of latents of several; each has the activations that it has in its own.

    ``b_dec`` and the offset of centred tokens are those of the first. The difference goes into the biases:

    .. math:: W (x - b_r) + b = W (x - b_0) + (b + W (b_0 - b_r))

    Parameters
    ----------
    saes
        Of one width, activation and centring.
    training, latent
        Number of the autoencoder and of its latent, ``(n_kept,)``.
    """
    first = saes[0]
    pooled = SAE(
        first.d_model, len(latent), activation=first.activation, position_offset=first.position_offset
    ).requires_grad_(False)
    own = pooled.tensors()
    own["b_dec"].copy_(first.b_dec)
    for number, sae in enumerate(saes):
        rows = np.flatnonzero(training == number)
        chosen = torch.from_numpy(latent[rows])
        given = sae.tensors()
        for name in own.keys() - {"b_dec", "position_offset", "W_enc"}:
            own[name][rows] = given[name][chosen]
        own["W_enc"][:, rows] = given["W_enc"][:, chosen]
        shift = (first.b_dec - sae.b_dec) @ given["W_enc"][:, chosen]
        own["b_enc"][rows] += shift
        if "b_mag" in own:  # of gated: the magnitude has a bias of its own
            own["b_mag"][rows] += given["r_mag"][chosen].exp() * shift
    return pooled


def _finish(
    source: TokenSource,
    folder: Path,
    config: TrainConfig,
    inputs: dict[str, str],
    saes: Sequence[SAE],
    pooled: SAE,
    returned: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    trained: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Measure the dictionary, and write it with what it was made of."""
    _, evaluation, measured_on = split_rows(source, config)
    tokens = map(pooled.centred, measured_batches(source, evaluation, config))
    held = evaluate(pooled, tokens, config.objective, dtype=choose_precision(config.encoder, "cpu"))
    table = _reproducibility(saes, *returned[:2], config.seeds_cosine)
    shares = table[table["pooled"] >= 0].sort_values("pooled")["share"].round(6).tolist()
    names = ("explained_variance", "l0", "dead", "n_latents")
    trainings = {number: {name: figures[name] for name in names} for number, figures in trained.items()}
    summary: dict[str, Any] = {
        **held,
        "dead": held["silent"],
        "n_latents": pooled.n_latents,
        "steps": config.steps,
        "images": config.steps * config.batch_images,
        "measured_on": measured_on,
        "reproducibility": float(table["share"].mean()),
        "trainings": trainings,
    }
    pooled.metadata = {
        **{key: value for key, value in saes[0].metadata.items() if key != PREFIXES[measured_on]},
        "training": recorded(config),
        "inputs": inputs,
        "pooled": {
            "rule": _rule(config),
            "found_in": np.bincount(returned[2], minlength=config.seeds + 1).tolist(),
            "share": shares,
        },
        PREFIXES[measured_on]: summary,
    }
    with disk_errors(folder):
        (folder / MANIFEST).unlink(missing_ok=True)
        pooled.save_pretrained(folder)
        with whole_file(folder / REPRODUCIBILITY) as temporary:
            table.to_parquet(temporary, index=False)
        outputs = {name: FileRecord.from_file(folder / name) for name in (WEIGHTS, CONFIG, REPRODUCIBILITY)}
        Manifest("sae", recorded(config), inputs, outputs, summary).save(folder)
    say(f"sae: {pooled.n_latents:,} of {saes[0].n_latents:,} latents come back ({_rule(config)})")
    return summary


def _reproducibility(
    saes: Sequence[SAE], training: NDArray[np.int64], latent: NDArray[np.int64], above: float
) -> pd.DataFrame:
    """Every latent of every training: how surely it is found again, and its number in the dictionary."""
    directions = [sae.W_dec.detach().numpy() for sae in saes]
    tables = []
    for number, own in enumerate(directions):
        cosine, share = reproducibility(own, [other for i, other in enumerate(directions) if i != number], above)
        position = np.full(len(own), -1)
        position[latent[training == number]] = np.flatnonzero(training == number)
        columns = {
            "training": number,
            "latent": np.arange(len(own)),
            "share": share,
            "cosine": cosine,
            "pooled": position,
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
