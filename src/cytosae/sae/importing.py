"""Import a trained autoencoder into a study instead of training one on its tokens."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cytosae.artefacts import CONFIG, WEIGHTS, FileRecord, Manifest, claim, disk_errors, whole_file
from cytosae.console import say
from cytosae.sae.metrics import STUDY, evaluate
from cytosae.sae.model import SAE
from cytosae.settings import TrainConfig
from cytosae.tokens import TokenSource


def import_sae(
    source: TokenSource, trained: Path, folder: Path, config: TrainConfig, inputs: Mapping[str, str]
) -> dict[str, Any]:
    """Copy an autoencoder into a study and measure it on the study's tokens.

    Parameters
    ----------
    source
        The study's tokens.
    trained
        Folder of the autoencoder (`SAE.save_pretrained`).
    folder
        ``sae/`` of the study.
    config
        Tells how many cells are drawn to measure it (``evaluate_images``), by which error, and the seed of the draw.
    inputs
        Digests that are recorded.

    Returns
    -------
    Figures on the drawn cells (`cytosae.sae.metrics.evaluate`), with ``dead``, the share of latents that fired on none of
    their tokens, and ``n_latents``; for one that was imported also ``imported``, what was read from which file and how.

    Raises
    ------
    CytosaeError
        Not an autoencoder, or a full disk.

    Notes
    -----
    No example: needs a store of tokens, or a trained autoencoder; the README trains one.
    """
    sae = SAE.from_pretrained(trained)
    rng = np.random.default_rng([config.seed, 5])
    rows = np.sort(rng.permutation(source.n_cells)[: config.evaluate_images])
    batches = [rows[i : i + config.batch_images] for i in range(0, len(rows), config.batch_images)]
    say(f"sae: {sae.n_latents:,} latents that were given, measured on {len(rows):,} cells")
    figures = evaluate(sae, map(sae.centred, source.stream(batches)), config.objective)
    summary = {**figures, "dead": figures["silent"], "n_latents": sae.n_latents, "measured_on": STUDY}
    if imported := sae.metadata.get("imported"):
        summary["imported"] = {key: value for key, value in imported.items() if key != "configuration"}
    claim(folder, "sae", [WEIGHTS, CONFIG])
    with disk_errors(folder):
        for name in (WEIGHTS, CONFIG):
            with whole_file(folder / name) as temporary:
                shutil.copyfile(trained / name, temporary)
        outputs = {name: FileRecord.from_file(folder / name) for name in (WEIGHTS, CONFIG)}
        Manifest("sae", {"given": True}, dict(inputs), outputs, summary).save(folder)
    return summary
