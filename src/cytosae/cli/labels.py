"""``cytosae label`` and ``count``: cell types for cells without labels, and their shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Column, Commands, Device, Source, Strict, Weights, with_settings
from cytosae.settings import ImageConfig, LabelConfig

labels_app = Commands()


@labels_app.command()
@with_settings
def label(
    cells: Source,
    study: Annotated[Path, typer.Option("--from", help="Study whose cells have labels: the probe learns from them.")],
    images: ImageConfig,
    settings: LabelConfig,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the answer.")] = Path("labels"),
    weights: Weights = None,
    column: Column = [],  # noqa: B006
    strict: Strict = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Predict the type of each cell from its concepts, or tokens and measurements; uncertain cells get no label.

    Writes labels.csv, which `cytosae run` reads as a table of cells and `cytosae classify --labels` as a baseline.
    """
    from cytosae.analysis import label_cells
    from cytosae.cells import chosen_columns

    result = label_cells(
        cells,
        study,
        output,
        settings,
        columns=chosen_columns(column),
        strict=strict,
        images=images,
        device=device,
        weights=weights,
    )
    answer(result, as_json)


@labels_app.command()
def count(
    labels: Annotated[Path, typer.Argument(help="Folder made by `cytosae label`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the answer.")] = Path("counts"),
    by: Annotated[
        str | None, typer.Option(help="Column of the cells to count by, such as field; by default patient.")
    ] = None,
    expert: Annotated[
        Path | None,
        typer.Option(help="An expert's count: a table with the column of --by, label, and count or share."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes the draws for the intervals.")] = 0,
    as_json: Json = False,
) -> None:
    """Count cell types of smears or patients, with intervals. Not for diagnosis.

    Counts the types that `cytosae label` predicted. Writes counts.csv: the shares among answered cells, and among all
    cells, corrected for the errors and abstentions of the probe on cells of unseen patients.
    """
    from cytosae.analysis import count_labels

    answer(count_labels(labels, output, by=by, expert=expert, seed=seed), as_json)
