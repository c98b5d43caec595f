"""A study opened to look at: its backbone, its tokens, its concepts on its cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from cytosae.artefacts import MANIFEST, read_json
from cytosae.backbones import INPUT_SIZE, NAMES, Backbone
from cytosae.cells import Reading, UnreadableImage, load_squashed, read_cells, readings
from cytosae.concepts import concept_maps, read_concepts, read_dictionary, read_names
from cytosae.concepts.schema import DESCRIPTION
from cytosae.errors import CytosaeError, NotFound
from cytosae.report import Row
from cytosae.sae import SAE
from cytosae.settings import BackboneConfig, FrameConfig, StoreConfig
from cytosae.storage import resolve_path
from cytosae.study import load_backbone
from cytosae.tokens import Layout, LiveTokens, TokenSource, TokenStore, read_harmonisation, store_layout
from cytosae.tokens.store import read_manifest


def saved_backbone(folder: Path, device: str = "auto", weights: Path | None = None) -> Backbone:
    """The whole backbone of a study, as it was loaded when the study was made.

    Parameters
    ----------
    folder
        The study.
    device
        Where it runs.
    weights
        File or folder of its weights, if they lie elsewhere than when the study was made.

    Raises
    ------
    CytosaeError
        It cannot be loaded, or has changed since.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    path = folder / "backbone.json"
    if not path.is_file():
        raise NotFound(f"{path}: missing. Is {folder} a study, made by `cytosae run`?")
    known = read_json(path)
    # The precision that `auto` meant on the machine of the study: other machines would make other tokens.
    settings = {**known["request"]["settings"], "device": device, "dtype": known["info"]["dtype"]}
    settings["weights"] = Path(settings["weights"]) if settings["weights"] else None
    if weights is not None:
        settings |= {"weights": weights} if settings["backbone"] in NAMES else {"backbone": f"{weights}"}
    backbone = load_backbone(BackboneConfig(**settings), whole=True)
    if backbone.info.fingerprint != known["info"]["fingerprint"]:
        raise CytosaeError(
            f"{settings['backbone']}: its weights are not those with which {folder} was made. Put those back, or run the "
            "study again."
        )
    return backbone


def study_store(folder: Path) -> StoreConfig:
    """How the tokens of a study are rounded and batched, whoever makes them: as in its store, or as its settings say.

    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    if (stored := read_manifest(folder / "tokens")) is not None:
        layout = stored[0]
        return StoreConfig(layout.dtype, layout.cells_per_shard, layout.batch_size)
    path = folder / "backbone.json"
    return StoreConfig(**(read_json(path).get("store", {}) if path.is_file() else {}))


def study_framing(folder: Path) -> FrameConfig:
    """What is shown of the images of a study, and of further cells.

    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    path = folder / "backbone.json"
    return FrameConfig.from_rule(read_json(path).get("frame") if path.is_file() else None)


def study_layout(folder: Path, backbone: Backbone) -> Layout:
    """The layout of tokens of further cells of a study: rounded and harmonised as its own.

    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    layout = store_layout(backbone.info, study_store(folder), study_framing(folder).rule)
    own = read_harmonisation(folder / "tokens")
    return layout if own is None else replace(layout, harmonisation=own.described())


def further_tokens(folder: Path, cells: pd.DataFrame, backbone: Backbone, workers: int | None = None) -> LiveTokens:
    """The tokens of further cells, harmonised if those of the study are.

    Laboratories that the study does not know are harmonised by their own cells, without labels, where there are enough.

    Raises
    ------
    CytosaeError
        The study's tokens are harmonised, and the cells lack the column that says the laboratory.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    layout = store_layout(backbone.info, study_store(folder), study_framing(folder).rule)
    own = read_harmonisation(folder / "tokens")
    as_they_are = LiveTokens(cells, lambda: backbone, layout, workers)
    if own is None:
        return as_they_are
    return LiveTokens(cells, lambda: backbone, layout, workers, own.with_laboratories(as_they_are))


@contextmanager
def study_tokens(folder: Path, backbone: Backbone | None = None, device: str = "auto") -> Iterator[TokenSource]:
    """The tokens of a study: from disk where they are kept, otherwise made from the images.

    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    if (folder / "tokens" / MANIFEST).is_file():
        source: TokenSource = TokenStore(folder / "tokens")
    else:
        model = backbone or saved_backbone(folder, device)
        source = further_tokens(folder, read_cells(folder / "cells.parquet"), model)
    try:
        yield source
    finally:
        source.close()


@dataclass(frozen=True)
class Viewer:
    """Concepts of a study on its cells, for figures."""

    folder: Path
    source: TokenSource

    @cached_property
    def sae(self) -> SAE:
        """The autoencoder, with taught latents after its own."""
        return read_dictionary(self.folder)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.source.layout.backbone["grid"]
        return int(rows), int(columns)

    @cached_property
    def token_rows(self) -> pd.Series:
        """Row of each cell in the tokens, by its name."""
        return pd.Series(np.arange(self.source.n_cells), index=self.source.cells["cell_id"].astype(str))

    @cached_property
    def _names(self) -> dict[int, str]:
        return read_names(self.folder / "concepts")

    @cached_property
    def _descriptions(self) -> dict[int, str]:
        return read_names(self.folder / "concepts", DESCRIPTION)

    def words(self, latent: int) -> list[str]:
        """What a latent shows, as a list of one sentence; of none where it was not described."""
        return [self._descriptions[latent]] if latent in self._descriptions else []

    def title(self, latent: int) -> str:
        """A latent's number, with what raters call it."""
        return f"Latent {latent}" + (f": {self._names[latent]}" if latent in self._names else "")

    def tokens(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Tokens of some cells as the autoencoder encodes them, ``(n_cells, n_tokens, d_model)``, float32."""
        return self.sae.centred(next(iter(self.source.stream([rows]))))

    def references(self, latent: int, dataset: str, kind: str = "reference", count: int = 10) -> Row:
        """Reference images of a latent in a data set with its maps on them."""
        data = read_concepts(self.folder / "concepts", dataset, matrices=False)
        names = data.obs_names.to_numpy()
        if f"{kind}_cells" not in data.varm:
            raise CytosaeError(
                f"data set {dataset!r}: no {kind} images are kept. That kind needs cells of known patients."
            )
        cells = data.varm[f"{kind}_cells"][latent][:count]
        values = data.varm[f"{kind}_values"][latent][:count][cells >= 0]
        return self.shown(dataset, latent, names[cells[cells >= 0]], values)

    def shown(self, name: str, latent: int, cells: Sequence[str] | NDArray[np.object_], values: ArrayLike) -> Row:
        """Some cells, by ``cell_id``, with the map of a latent and their labels and values."""
        rows = self.token_rows.loc[list(cells)].to_numpy()
        if not len(rows):
            return Row(name, [], [], [], [])
        maps = concept_maps(self.sae, self.tokens(rows), np.array([latent]), self.grid)[:, 0].numpy()
        about = self.source.cells.iloc[rows]
        labels = [None if pd.isna(label) else str(label) for label in about["label"]]
        return Row(
            name,
            [cell_image(*cell) for cell in zip(about["path"], readings(about), strict=True)],
            list(maps),
            labels,
            np.asarray(values).tolist(),
        )


def cell_image(path: str, reading: Reading | None = None) -> NDArray[np.uint8]:
    """The image of a cell as the backbone sees it; grey if the file is gone."""
    try:
        return load_squashed(resolve_path(path), INPUT_SIZE, reading)
    except UnreadableImage:
        return np.full((INPUT_SIZE, INPUT_SIZE, 3), 200, np.uint8)
