"""Questions to a finished study: are its concepts to be believed, what does one look like, what makes up a cell?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.artefacts import MANIFEST, read_json
from cytosae.backbones import INPUT_SIZE, Backbone
from cytosae.cells import UnreadableImage, load_squashed, patch_tissues, read_cells
from cytosae.concepts import (
    CellConcepts,
    cell_concepts,
    concept_maps,
    evaluate_study,
    is_common,
    joined_statistics,
    patch_concepts,
    read_concepts,
    read_datasets,
    tissue_shares,
)
from cytosae.concepts.references import KINDS
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.report import (
    Row,
    density_histogram,
    patch_references,
    quality_summary,
    reference_grid,
    save,
    threshold_counts,
    write_report,
)
from cytosae.sae import SAE
from cytosae.settings import BackboneConfig, EvaluateConfig
from cytosae.study import load_backbone
from cytosae.tokens import LiveTokens, TokenSource, TokenStore, layout_of

_SHOWN = 8  # concepts of a cell that are drawn
_EXPLAINED = 2  # latents of a patch that are shown with their reference images (section 3.2 of the paper)


def saved_backbone(folder: Path, device: str = "auto") -> Backbone:
    """The whole backbone of a study, as it was loaded when the study was made.

    Raises
    ------
    CytosaeError
        It cannot be loaded, or has changed since.
    """
    path = folder / "backbone.json"
    if not path.is_file():
        raise CytosaeError(f"{path}: missing. Is {folder} a study, made by `cytosae run`?")
    known = read_json(path)
    settings = {**known["request"]["settings"], "device": device}
    settings["weights"] = Path(settings["weights"]) if settings["weights"] else None
    backbone = load_backbone(BackboneConfig(**settings), whole=True)
    if backbone.info.fingerprint != known["info"]["fingerprint"]:
        raise CytosaeError(
            f"{settings['backbone']}: its weights have changed since {folder} was made. Run the study again."
        )
    return backbone


@contextmanager
def study_tokens(folder: Path, backbone: Backbone | None = None, device: str = "auto") -> Iterator[TokenSource]:
    """The tokens of a study: from disk where they are kept, otherwise made from the images."""
    if (folder / "tokens" / MANIFEST).is_file():
        source: TokenSource = TokenStore(folder / "tokens")
    else:
        model = backbone or saved_backbone(folder, device)
        source = LiveTokens(read_cells(folder / "cells.parquet"), lambda: model, layout_of(model.info))
    try:
        yield source
    finally:
        source.close()


def evaluate(
    folder: Path,
    config: EvaluateConfig | None = None,
    *,
    attributes: Path | None = None,
    against: Sequence[Path] = (),
    device: str = "auto",
) -> dict[str, Any]:
    """Measure the concepts of a study, draw the summary and renew the report; see `cytosae.concepts.evaluate_study`.

    Where tokens are kept on disk, a backbone that cannot be loaded any more costs only the measures that need it.
    """
    backbone = None
    try:
        backbone = saved_backbone(folder, device)
    except CytosaeError as error:
        if not (folder / "tokens" / MANIFEST).is_file():
            raise
        say(f"quality: the backbone cannot be loaded: {error}")
    with study_tokens(folder, backbone) as source:
        result = evaluate_study(folder, source, config, backbone=backbone, attributes=attributes, against=against)
    figures = pd.DataFrame(result["figures"])
    save(quality_summary(figures, title=folder.absolute().name), folder / "quality" / "summary")
    frequency = pd.read_parquet(folder / "quality" / "latents.parquet")["token_frequency"].to_numpy()
    save(density_histogram(frequency), folder / "quality" / "density")
    write_report(folder)
    return result


def compare_counts(folders: Sequence[Path], figure: Path, dataset: str | None = None) -> dict[str, Any]:
    """Draw the number of latents above each threshold of mean activation for several autoencoders on one data set.

    Parameters
    ----------
    folders
        Of concepts, one of each autoencoder. Those with equal expansion and layer, as of several seeds, are one line.
    figure
        Where the figure goes (``.png`` and ``.svg``).
    dataset
        Its name; the first of the first folder if None.

    Returns
    -------
    Discovered concepts of each folder.
    """
    name = dataset or next(iter(read_datasets(folders[0])))
    lines: dict[str, list[NDArray[np.float64]]] = {}
    found: dict[str, int] = {}
    for folder in folders:
        if name not in read_datasets(folder):
            raise CytosaeError(f"{folder}: has no data set {name!r}; it has {', '.join(read_datasets(folder))}.")
        data = read_concepts(folder, name, backed=True)
        backbone = data.uns["cytosae"]["backbone"]
        line = f"expansion {data.n_vars / backbone['d_model']:g}, layer {int(backbone['layer']) + 1}"
        lines.setdefault(line, []).append(data.var["mean_activation"].to_numpy())
        found[str(folder)] = int(data.var["is_concept"].sum())
        data.file.close()
    save(threshold_counts({line: np.stack(means) for line, means in lines.items()}), figure)
    return {"dataset": name, "concepts": found, "figure": f"{figure}.png"}


@dataclass(frozen=True)
class Viewer:
    """Concepts of a study on its cells, for figures."""

    folder: Path
    source: TokenSource

    @cached_property
    def sae(self) -> SAE:
        """The autoencoder."""
        return SAE.from_pretrained(self.folder / "sae")

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.source.layout.backbone["grid"]
        return int(rows), int(columns)

    @cached_property
    def row_of(self) -> pd.Series:
        """Place of each cell among the tokens, by its name."""
        return pd.Series(np.arange(self.source.n_cells), index=self.source.cells["cell_id"].astype(str))

    def tokens(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Tokens of some cells, ``(n_cells, n_tokens, d_model)``, float32."""
        return next(iter(self.source.stream([rows]))).float()

    def references(self, latent: int, dataset: str, kind: str = "reference", count: int = 10) -> Row:
        """Reference images of a latent in a data set with its maps on them."""
        data = read_concepts(self.folder / "concepts", dataset, backed=True)
        names = data.obs_names.to_numpy()
        if f"{kind}_cells" not in data.varm:
            data.file.close()
            raise CytosaeError(
                f"data set {dataset!r}: no {kind} images are kept. That kind needs cells of known patients."
            )
        cells = data.varm[f"{kind}_cells"][latent][:count]
        values = data.varm[f"{kind}_values"][latent][:count][cells >= 0]
        data.file.close()
        rows = self.row_of.loc[names[cells[cells >= 0]]].to_numpy()
        if not len(rows):
            return Row(dataset, [], [], [], [])
        maps = concept_maps(self.sae, self.tokens(rows), np.array([latent]), self.grid)[:, 0].numpy()
        shown = self.source.cells.iloc[rows]
        labels = [None if pd.isna(label) else str(label) for label in shown["label"]]
        return Row(dataset, [picture(path) for path in shown["path"]], list(maps), labels, values.tolist())


def picture(path: str) -> NDArray[np.uint8]:
    """The image of a cell as the backbone sees it; grey where the file is gone."""
    try:
        return load_squashed(Path(path), INPUT_SIZE)
    except UnreadableImage:
        return np.full((INPUT_SIZE, INPUT_SIZE, 3), 200, np.uint8)


def show_concept(
    folder: Path, latent: int, figure: Path, *, kind: str = "reference", device: str = "auto"
) -> dict[str, Any]:
    """Draw a latent's reference images in every data set of a study, and tell its statistics in each.

    Parameters
    ----------
    folder
        The study.
    latent
        Its number.
    figure
        Where the figure goes: ``<figure>.png`` and ``<figure>.svg``.
    kind
        One of `cytosae.concepts.references.KINDS`.

    Raises
    ------
    CytosaeError
        No such latent or kind.
    """
    if kind not in KINDS:
        raise CytosaeError(f"--kind {kind}: unknown; choose one of {', '.join(KINDS)}.")
    statistics = joined_statistics(folder / "concepts")
    if not 0 <= latent < len(statistics):
        raise CytosaeError(f"latent {latent}: the study has latents 0 to {len(statistics) - 1}.")
    with study_tokens(folder, device=device) as source:
        viewer = Viewer(folder, source)
        rows = [viewer.references(latent, name, kind) for name in read_datasets(folder / "concepts")]
    what = {"reference": "strongest", "spread": "strongest, of different patients"}.get(kind, f"{kind} activating")
    save(reference_grid(rows, title=f"Latent {latent}: {what} cells by data set", each_row=True), figure)
    table = statistics.iloc[latent]
    return {
        "latent": latent,
        "datasets": {name: table[name].astype(object).to_dict() for name in read_datasets(folder / "concepts")},
        "figure": f"{figure}.png",
    }


def attribute(
    folder: Path,
    cell: str,
    figure: Path | None = None,
    *,
    patch: tuple[int, int] | None = None,
    share: float = 0.99,
    top: int = 12,
    device: str = "auto",
) -> dict[str, Any]:
    """The concepts of a cell, or of one of its patches, strongest first and without those that nearly every cell has.

    Parameters
    ----------
    folder
        The study.
    cell
        ``cell_id``.
    figure
        Where the figure goes (``.png`` and ``.svg``): the cell's strongest concepts, or those of the patch, with their
        reference images.
    patch
        Row and column, from 0.
    share
        Latents that are active in more than this share of the data set's cells are common.
    top
        So many concepts at most.

    Raises
    ------
    CytosaeError
        No such cell or patch.
    """
    with study_tokens(folder, device=device) as source:
        viewer = Viewer(folder, source)
        if cell not in viewer.row_of.index:
            raise CytosaeError(f"{cell}: no such cell in {folder}; the first is {viewer.row_of.index[0]!r}.")
        row = np.array([viewer.row_of[cell]])
        about = source.cells.iloc[int(row[0])]
        common = is_common(joined_statistics(folder / "concepts")[about["dataset"], "activation_frequency"], share)
        tokens = viewer.tokens(row)[0]
        found = cell_concepts(viewer.sae, tokens, viewer.grid, common, top=top)
        table = found.table.copy()
        if not pd.isna(about["mask"]):
            try:
                tissues = patch_tissues(Path(about["mask"]), viewer.grid)
            except UnreadableImage as error:
                raise CytosaeError(f"{about['mask']}: the mask of {cell} cannot be read: {error}.") from error
            table = table.join(tissue_shares(found.maps, tissues))
        result: dict[str, Any] = {
            "cell": cell,
            "label": None if pd.isna(about["label"]) else about["label"],
            "common_latents": int(common.sum()),
            "concepts": table.to_dict("records"),
        }
        if patch is not None:
            rows, columns = viewer.grid
            if not (0 <= patch[0] < rows and 0 <= patch[1] < columns):
                raise CytosaeError(f"--patch {patch[0]},{patch[1]}: the cell has {rows} x {columns} patches, from 0,0.")
            active = patch_concepts(viewer.sae, tokens[1 + patch[0] * columns + patch[1]], common)
            result["patch"] = {"row": patch[0], "column": patch[1], "latents": active.to_dict("records")}
        if figure is not None:
            if patch is None:
                shown = [
                    _beside(picture(about["path"]), found, place, viewer.references(latent, about["dataset"], count=6))
                    for place, latent in enumerate(table["latent"].head(_SHOWN))
                ]
                title = f"{Path(cell).name}: its strongest concepts, and the cells that have most of each"
                save(reference_grid(shown, title=title, each_row=True), figure)
            else:
                chosen = active["latent"][~active["common"]].head(_EXPLAINED)
                references = [replace(viewer.references(s, about["dataset"]), name=f"latent {s}") for s in chosen]
                drawn = patch_references(picture(about["path"]), patch, active, references, grid=viewer.grid)
                save(drawn, figure)
            result["figure"] = f"{figure}.png"
    return result


def _beside(image: NDArray[np.uint8], found: CellConcepts, place: int, references: Row) -> Row:
    """A concept of a cell: the cell itself first, its reference images after it."""
    return Row(
        f"latent {found.table['latent'].iloc[place]}",
        [image, *references.images],
        [found.maps[place], *references.maps],
        ["this cell", *references.labels],
        [found.table["mean_activation"].iloc[place], *references.values],
    )
