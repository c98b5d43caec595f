"""``cytosae fields`` and ``outline``: from fields of a smear to cells, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Column, Commands, Strict, with_settings
from cytosae.settings import EngineConfig, FieldConfig, ImageConfig

fields_app = Commands()


@fields_app.command()
@with_settings
def fields(
    source: Annotated[
        Path,
        typer.Argument(
            help="Images of fields: a folder, or a CSV or Parquet table with columns path, mpp, patient, ..."
        ),
    ],
    settings: FieldConfig,
    images: ImageConfig,
    engine: EngineConfig,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the cells.")] = Path("fields"),
    boxes: Annotated[
        Path | None,
        typer.Option(help="Boxes of another detector or person, file or folder, in place of a search."),
    ] = None,
    box_format: Annotated[
        str, typer.Option(help="Format of --boxes: auto, coco, voc, yolo, geojson; auto goes by the files' endings.")
    ] = "auto",
    column: Column = [],  # noqa: B006
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Find the nucleated cells in fields of a smear and cut each out at one physical scale.

    Writes cells.csv, a table for `cytosae run` with the place of every cell, images/, and rejected.csv, which lists all
    other objects with the reason. An interrupted run resumes.
    """
    from cytosae.engines import open_engine
    from cytosae.errors import CytosaeError
    from cytosae.fields import BOX_FORMATS, TABLE, find_cells_of_fields

    if box_format not in BOX_FORMATS:
        raise CytosaeError(f"--box-format {box_format}: unknown; choose one of {', '.join(BOX_FORMATS)}.")
    from cytosae.cells import chosen_columns

    with open_engine(engine) as workers:
        figures = find_cells_of_fields(
            source,
            output,
            settings,
            boxes=boxes,
            box_format=box_format,
            columns=chosen_columns(column),
            strict=strict,
            intensity=images.intensity,
            engine=workers,
        )
    answer({**figures, "table": f"{output / TABLE}"}, as_json)


@fields_app.command()
def outline(
    cells: Annotated[Path, typer.Argument(help="Folder made by `cytosae fields`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the files.")] = Path("outlines"),
    kind: Annotated[
        str, typer.Option("--format", help="geojson, a file for each field, as QuPath reads it; or coco, one file.")
    ] = "geojson",
    study: Annotated[
        Path | None,
        typer.Option(help="Study of these cells: its concepts and measurements are written with each cell."),
    ] = None,
    concepts: Annotated[int, typer.Option(min=0, help="How many concepts, those with the largest counts.")] = 20,
    as_json: Json = False,
) -> None:
    """Write where the cells lie in their fields, for QuPath (GeoJSON) or as COCO.

    Boxes that you correct in QuPath come back with `cytosae fields SOURCE -o FOLDER --boxes FOLDER`: only what changed is
    cut out again.
    """
    from cytosae.analysis import export_outlines

    answer({**export_outlines(cells, output, kind, study=study, concepts=concepts), "folder": f"{output}"}, as_json)
