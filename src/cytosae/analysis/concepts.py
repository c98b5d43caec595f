"""What does a concept look like, and what makes up a cell?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.analysis.concept_effects import concept_effects
from cytosae.analysis.viewing import Viewer, cell_image, study_tokens
from cytosae.artefacts import write_csv
from cytosae.cells import UnreadableImage, readings, tissues_of_cells
from cytosae.concepts import (
    CellConcepts,
    cell_concepts,
    is_common,
    joined_statistics,
    passport,
    passport_table,
    patch_concepts,
    read_datasets,
    tissue_fractions,
)
from cytosae.concepts.schema import KINDS
from cytosae.errors import CytosaeError
from cytosae.report import Row, patch_references, reference_grid, save

_SHOWN = 8  # concepts of a cell that are drawn
_EXPLAINED = 2  # latents of a patch that are shown with their reference images (section 3.2 of the paper)


def show_concept(
    folder: Path, latent: int, figure: Path, *, kind: str = "reference", device: str = "auto"
) -> dict[str, Any]:
    """Draw a latent's reference images in every data set, and tell what is known of it: `cytosae.concepts.passport`, and
    what classifiers say where it is removed or amplified (`concept_effects`).

    Parameters
    ----------
    folder
        The study.
    latent
        Its number.
    figure
        Where the figure goes: ``<figure>.png`` and ``<figure>.svg``; beside it ``<figure>.csv``, all that is known.
    kind
        One of `cytosae.concepts.schema.KINDS`.

    Raises
    ------
    CytosaeError
        No such latent or kind.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    if kind not in KINDS:
        raise CytosaeError(f"--kind {kind}: unknown; choose one of {', '.join(KINDS)}.")
    statistics = joined_statistics(folder / "concepts")
    if not 0 <= latent < len(statistics):
        raise CytosaeError(f"latent {latent}: the study has latents 0 to {len(statistics) - 1}.")
    with study_tokens(folder, device=device) as source:
        viewer = Viewer(folder, source)
        rows = [viewer.references(latent, name, kind) for name in read_datasets(folder / "concepts")]
    description = {"reference": "strongest", "spread": "strongest, of different patients"}.get(
        kind, f"{kind} activating"
    )
    save(reference_grid(rows, title=f"{viewer.title(latent)}; {description} cells by data set", each_row=True), figure)
    known, table = passport(folder, latent), statistics.iloc[latent]
    said = {
        "datasets": {
            name: {**known["datasets"][name], **table[name].astype(object).to_dict()}
            for name in read_datasets(folder / "concepts")
        },
        "quality": known["quality"],
        "judged": known["judged"],
        "effects": concept_effects(folder, latent),
    }
    write_csv(figure.with_name(f"{figure.name}.csv"), passport_table(said))
    return {"latent": latent, **said, "figure": f"{figure}.png", "table": f"{figure}.csv"}


def attribute(
    folder: Path,
    cell: str,
    figure: Path | None = None,
    *,
    patch: tuple[int, int] | None = None,
    common_above: float = 0.99,
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
    common_above
        Latents that are active in more than this share of the data set's cells are common.
    top
        So many concepts at most.

    Raises
    ------
    CytosaeError
        No such cell or patch.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    with study_tokens(folder, device=device) as source:
        viewer = Viewer(folder, source)
        if cell not in viewer.token_rows.index:
            raise CytosaeError(f"{cell}: no such cell in {folder}; the first is {viewer.token_rows.index[0]!r}.")
        row = np.array([viewer.token_rows[cell]])
        about = source.cells.iloc[int(row[0])]
        common_latents = is_common(
            joined_statistics(folder / "concepts")[about["dataset"], "activation_frequency"], common_above
        )
        tokens = viewer.tokens(row)[0]
        concepts = cell_concepts(viewer.sae, tokens, viewer.grid, common_latents, top=top)
        table = concepts.table.copy()
        if not pd.isna(about["mask"]):
            try:
                (tissues,) = tissues_of_cells(source.cells.iloc[row], viewer.grid)
            except UnreadableImage as error:
                raise CytosaeError(f"{about['mask']}: the mask of {cell} cannot be read: {error}.") from error
            table = table.join(tissue_fractions(concepts.maps, tissues))
        result: dict[str, Any] = {
            "cell": cell,
            "label": None if pd.isna(about["label"]) else about["label"],
            "common_latents": int(common_latents.sum()),
            "concepts": table.to_dict("records"),
        }
        if patch is not None:
            rows, columns = viewer.grid
            if not (0 <= patch[0] < rows and 0 <= patch[1] < columns):
                raise CytosaeError(f"--patch {patch[0]},{patch[1]}: the cell has {rows} x {columns} patches, from 0,0.")
            active = patch_concepts(viewer.sae, tokens[1 + patch[0] * columns + patch[1]], common_latents)
            result["patch"] = {"row": patch[0], "column": patch[1], "latents": active.to_dict("records")}
        if figure is not None:
            image = cell_image(about["path"], readings(source.cells.iloc[[int(row[0])]])[0])
            if patch is None:
                shown = [
                    _cell_with_references(
                        viewer.title(int(latent)),
                        image,
                        concepts,
                        row,
                        viewer.references(latent, about["dataset"], count=6),
                    )
                    for row, latent in enumerate(table["latent"].head(_SHOWN))
                ]
                title = f"{Path(cell).name}: its strongest concepts, and the cells that have most of each"
                save(reference_grid(shown, title=title, each_row=True), figure)
            else:
                chosen = active["latent"][~active["common"]].head(_EXPLAINED)
                references = [
                    replace(viewer.references(s, about["dataset"]), name=viewer.title(int(s))) for s in chosen
                ]
                drawn = patch_references(image, patch, active, references, grid=viewer.grid)
                save(drawn, figure)
            result["figure"] = f"{figure}.png"
    return result


def _cell_with_references(
    title: str, image: NDArray[np.uint8], concepts: CellConcepts, row: int, references: Row
) -> Row:
    """A concept of a cell: the cell itself first, its reference images after it."""
    return Row(
        title,
        [image, *references.images],
        [concepts.maps[row], *references.maps],
        ["this cell", *references.labels],
        [concepts.table["mean_activation"].iloc[row], *references.values],
    )
