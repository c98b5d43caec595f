"""``cytosae measure``: segmentation and morphometry of every cell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Commands, with_settings
from cytosae.settings import EngineConfig

measuring_app = Commands()


@measuring_app.command()
@with_settings
def measure(
    cells: Annotated[Path, typer.Argument(help="Table made by `cytosae cells`, or a study.")],
    engine: EngineConfig,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the measurements; of a study its morphometry/ if left out."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the nucleated cell in the middle of every image and measure nucleus, cytoplasm and surroundings.

    Masks that come with the data (column mask) are taken; areas in micrometres need a column mpp. What is in doubt is
    flagged. Of a study the concepts get the measurements too, as columns of obs. An interrupted run resumes.
    """
    from cytosae.cells import read_cells
    from cytosae.concepts import join_measurements
    from cytosae.engines import open_engine
    from cytosae.morphometry import MEASURED, measure_cells

    study = cells if output is None and cells.is_dir() else None
    folder = output or (cells if study else Path()) / MEASURED
    with open_engine(engine) as workers:
        figures = measure_cells(
            read_cells(cells / "cells.parquet" if cells.is_dir() else cells), folder, engine=workers
        )
    if study is not None:
        figures |= join_measurements(study)
    answer({**figures, "folder": f"{folder}"}, as_json)
