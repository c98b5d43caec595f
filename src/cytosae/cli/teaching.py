"""``cytosae teach``: concepts that an expert points at become latents of a study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Commands, Device, with_settings
from cytosae.settings import TeachConfig

if TYPE_CHECKING:
    import pandas as pd

teaching_app = Commands()


@teaching_app.command()
@with_settings
def teach(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    settings: TeachConfig,
    marks: Annotated[
        Path | None,
        typer.Option(
            "--marks", help="Table of marks: concept, cell_id, patch (empty for the whole cell), this or not."
        ),
    ] = None,
    cells_with: Annotated[
        list[str],
        typer.Option(
            "--cells-with",
            metavar="COLUMN=VALUE",
            help="Mark cells with this value, such as label=monocyte, 'this', and others 'not'. Can be repeated.",
        ),
    ] = [],  # noqa: B006
    attributes: Annotated[
        Path | None, typer.Option("--attributes", help="Table of expert attributes, for --cells-with.")
    ] = None,
    inside: Annotated[
        list[str],
        typer.Option(
            "--inside",
            metavar="TISSUE",
            help="Patches inside nucleus, cytoplasm or background of the masks are marked 'this', those outside 'not'.",
        ),
    ] = [],  # noqa: B006
    like: Annotated[
        list[str],
        typer.Option(
            "--like",
            metavar="LATENT",
            help="Mark the strongest patch of each reference image of a latent (number or name) 'this'. Can be repeated.",
        ),
    ] = [],  # noqa: B006
    most: Annotated[int, typer.Option(min=1, help="Cells of each kind from --cells-with and --inside, at most.")] = 100,
    taught: Annotated[
        Path | None,
        typer.Option("--taught", help="Taught concepts of another study of the same backbone, layer and frame."),
    ] = None,
    remove: Annotated[
        list[str], typer.Option("--remove", metavar="NAME", help="Remove a taught concept. Can be repeated.")
    ] = [],  # noqa: B006
    no_update: Annotated[
        bool, typer.Option("--no-update", help="Do not encode the cells; the next `cytosae run` does.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Teach a study concepts from marks, and count them in its cells as further latents.

    You mark single patches, or whole cells that show the concept somewhere. Without marks 'not', the marked patches are
    compared with patches of random cells. The autoencoder stays unchanged. Writes taught/taught.safetensors, which you
    can share.
    """
    from cytosae.analysis import teach as teach_study
    from cytosae.teaching import joined_marks, marks_from_latent, read_marks

    tables = [read_marks(marks)] if marks is not None else []
    tables += [marks_from_latent(study / "concepts", latent) for latent in like]
    tables += _known_marks(study, cells_with, attributes, inside, most, settings.teach_seed)
    result = teach_study(
        study,
        joined_marks(*tables) if tables else None,
        settings,
        taught=taught,
        remove=remove,
        update=not no_update,
        device=device,
    )
    if as_json:
        answer(result, as_json)
        return
    lines = {}
    for name, about in result["learned"].items():
        lines[f"learned | {name}"] = _how_good(about) + ("; threshold useless" if about["threshold"]["useless"] else "")
    lines |= {f"taught | {name}": f"latent {latent}" for name, latent in result["taught"].items()}
    answer({**lines, "file": result["file"]}, as_json)


def _how_good(about: Mapping[str, Any]) -> str:
    """What is said of a learned concept: its figures on held-out marks, if anything could be held out."""
    if not about["held_out_by"]:
        return "AUROC not known yet: mark more cells, if possible of different patients"
    area, precise = about["auroc"], about["average_precision"]
    return (
        f"AUROC {area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f}), average precision "
        f"{precise['value']:.3f} ({precise['low']:.3f} to {precise['high']:.3f}), {about['held_out_by']}s left out"
    )


def _known_marks(
    study: Path, cells_with: list[str], attributes: Path | None, inside: list[str], most: int, seed: int
) -> list[pd.DataFrame]:
    """Marks from the table of cells, expert attributes and masks."""
    from cytosae.artefacts import read_json
    from cytosae.cells import read_attributes, read_cells
    from cytosae.errors import CytosaeError
    from cytosae.teaching import marks_from_column, marks_from_masks

    if attributes is not None and not cells_with:
        raise CytosaeError("--attributes: belongs to --cells-with COLUMN=VALUE, which says what to take from the file.")
    if not cells_with and not inside:
        return []
    cells = read_cells(study / "cells.parquet")
    noted = cells if attributes is None else read_attributes(attributes, cells).assign(cell_id=cells["cell_id"])
    tables = []
    for wish in cells_with:
        column, equals, value = wish.partition("=")
        if not equals:
            raise CytosaeError(f"--cells-with {wish}: give COLUMN=VALUE, such as label=monocyte.")
        tables.append(marks_from_column(noted, column, value, most=most, seed=seed))
    if inside:
        rows, columns = read_json(study / "backbone.json")["info"]["grid"]
        tables += [marks_from_masks(cells, (rows, columns), tissue, most=most, seed=seed) for tissue in inside]
    return tables
