"""Which concepts are the cell's, and which the stain's? The same cells restained, dimmed, blurred, scaled, turned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae import __version__
from cytosae.analysis.viewing import saved_backbone, study_layout
from cytosae.artefacts import FileRecord, Manifest, claim, remove_outdated, write_csv, write_json
from cytosae.backbones import INPUT_SIZE, Backbone
from cytosae.cells import RESPONSES, UnreadableImage, load_squashed, pixels_digest, read_cells, readings
from cytosae.concepts import (
    add_columns,
    cell_activations,
    check_fit,
    read_datasets,
    read_dictionary,
    read_inputs,
    text_column,
    untaught,
)
from cytosae.concepts.response import MIXED, MORPHOLOGY, STAIN, ResponseSums, StainResponse
from cytosae.concepts.schema import CELL_SHARE, STAIN_SHARE, STAIN_WORD
from cytosae.concepts.storage import read_parameters
from cytosae.console import progress
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import StainConfig, to_stored
from cytosae.storage import resolve_path
from cytosae.tokens import Harmonisation, read_harmonisation
from cytosae.tokens.live import embed_batch

STAGE, TABLE, RESULT = "stain_response", "stain_response.csv", "stain_response.json"
_TOGETHER = 8
"""Cells whose pictures pass the backbone together."""


def stain_response(
    study: Path, config: StainConfig | None = None, *, device: str = "auto", weights: Path | None = None
) -> dict[str, Any]:
    """Measure how each latent responds to stain and optics; leaves ``stain_response/`` and columns in ``var``.

    Of drawn cells of each data set nine further pictures are made (`cytosae.cells.RESPONSES`), which pass backbone,
    harmonisation and autoencoder as the cell itself did.

    Parameters
    ----------
    study
        With ``concepts/`` and the images of its cells.
    config
        Settings.
    device, weights
        See `cytosae.analysis.saved_backbone`.

    Returns
    -------
    For each data set: cells, and how many latents are morphology, mixed, stain.

    Raises
    ------
    CytosaeError
        No finished concepts, a backbone that has changed, an image that cannot be read, too few cells.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    config = config or StainConfig()
    folder, names = study / STAGE, [*read_datasets(study / "concepts")]
    inputs = {**untaught(read_inputs(study / "concepts")), "changes": ", ".join(_changes())}
    cells = read_cells(study / "cells.parquet")
    inputs["images"] = pixels_digest(cells)
    backbone, sae = saved_backbone(study, device, weights), read_dictionary(study, decoder=False)
    layout = study_layout(study, backbone)
    check_fit(layout, sae)
    claim(folder, STAGE, [TABLE, RESULT])
    seen: dict[str, tuple[int, StainResponse]] = {}
    drawn = {name: _drawn(cells, name, config) for name in names}
    encoder = _Encoder(backbone, sae, read_harmonisation(study / "tokens"), layout.dtype, _tau(study))
    with progress("stain response", sum(map(len, drawn.values())), "cells") as bar:
        for name, rows in drawn.items():
            sums = ResponseSums(sae.n_latents, {kind: len(changes) for kind, changes in RESPONSES.items()})
            for start in range(0, len(rows), _TOGETHER):
                some = cells.iloc[rows[start : start + _TOGETHER]]
                _add(sums, encoder, some)
                bar.advance(len(some))
            seen[name] = len(rows), sums.response()
    add_columns(study, "var", lambda var, dataset: _columns(seen[dataset][1], var.index))
    result: dict[str, Any] = {
        "cytosae": __version__,
        "parameters": to_stored(config),
        "pictures": {kind: [*changes] for kind, changes in RESPONSES.items()},
        "datasets": {name: {"cells": n, **_counts(response)} for name, (n, response) in seen.items()},
    }
    write_csv(folder / TABLE, pd.concat([_table(name, response) for name, (_, response) in seen.items()]))
    write_json(folder / RESULT, result)
    outputs = {name: FileRecord.from_file(folder / name) for name in (TABLE, RESULT)}
    Manifest(STAGE, to_stored(config), inputs, outputs, result["datasets"]).save(folder)
    remove_outdated(folder, STAGE, [TABLE, RESULT])
    return result


def _changes() -> list[str]:
    return [name for changes in RESPONSES.values() for name in changes]


def _tau(study: Path) -> float:
    return float(read_parameters(study / "concepts")["threshold"])


def _drawn(cells: pd.DataFrame, name: str, config: StainConfig) -> NDArray[np.int64]:
    rows = np.flatnonzero(cells["dataset"].astype(str).to_numpy() == name)
    chosen = np.sort(np.random.default_rng([config.seed, 16]).permutation(rows)[: config.cells])
    if len(chosen) < 2:
        raise CytosaeError(f"stain response: {name} has {len(chosen)} cell; two at least are needed.")
    return chosen


class _Encoder:
    """Counts of pictures, made as those of the study's cells were."""

    def __init__(
        self, backbone: Backbone, sae: SAE, harmonisation: Harmonisation | None, dtype: str, tau: float
    ) -> None:
        self.backbone, self.sae, self.harmonisation = backbone, sae, harmonisation
        self.dtype, self.tau = dtype, tau

    def counts(self, pictures: Sequence[NDArray[np.uint8]], cells: pd.DataFrame) -> NDArray[np.float32]:
        """a_i[s] of one picture of each of some cells, ``(n_cells, n_latents)``."""
        names = cells["cell_id"].astype(str).tolist()
        tokens = embed_batch(self.backbone, torch.from_numpy(np.stack(pictures)), names, self.dtype)
        if self.harmonisation is not None:
            tokens = self.harmonisation.apply(tokens, self.harmonisation.codes(cells))
        counts = cell_activations(self.sae, self.sae.centred(tokens), self.tau)[0]
        return np.asarray(counts.toarray(), np.float32)


def _add(sums: ResponseSums, encoder: _Encoder, cells: pd.DataFrame) -> None:
    try:
        pixels = [
            load_squashed(resolve_path(path), INPUT_SIZE, how)
            for path, how in zip(cells["path"], readings(cells), strict=True)
        ]
    except UnreadableImage as error:
        raise CytosaeError(f"stain response: an image of the study cannot be read ({error}).") from error
    own = encoder.counts(pixels, cells)
    changed = {
        kind: np.stack([encoder.counts([change(image) for image in pixels], cells) for change in changes.values()])
        for kind, changes in RESPONSES.items()
    }
    sums.add(own, changed)


def _columns(response: StainResponse, index: pd.Index[Any]) -> dict[str, pd.Series]:
    return {
        STAIN_SHARE: pd.Series(response.response.astype(np.float32), index),
        CELL_SHARE: pd.Series(response.share("cell").astype(np.float32), index),
        STAIN_WORD: text_column(response.words(), index, STAIN_WORD),
    }


def _table(name: str, response: StainResponse) -> pd.DataFrame:
    shares = {f"{kind}_of_all": response.share(kind) for kind in ("cell", "stain", "optics")}
    table = pd.DataFrame(
        {"latent": np.arange(len(response.cell)), STAIN_SHARE: response.response, STAIN_WORD: response.words()}
    )
    return table.assign(dataset=name, **shares).dropna(subset=STAIN_WORD)


def _counts(response: StainResponse) -> dict[str, int]:
    words = response.words()
    return {word: words.count(word) for word in (MORPHOLOGY, MIXED, STAIN)} | {"not seen": words.count(None)}
