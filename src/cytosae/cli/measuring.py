"""``cytosae measure`` and ``describe``: segmentation and morphometry of cells; what concepts show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Commands, with_settings
from cytosae.settings import DescribeConfig, EngineConfig

measuring_app = Commands()


@measuring_app.command()
@with_settings
def measure(
    cells: Annotated[Path, typer.Argument(help="Table made by `cytosae cells`, or a study.")],
    engine: EngineConfig,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the measurements; by default morphometry/ in the study."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the nucleated cell in the middle of every image and measure nucleus, cytoplasm and surroundings.

    Masks of the data (column mask) are used; areas in micrometres need a column mpp. Doubtful outlines are flagged. In
    a study the concepts get the measurements too, as columns of obs. An interrupted run resumes.
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


@measuring_app.command()
@with_settings
def describe(
    study: Annotated[Path, typer.Argument(help="Folder of a study whose cells are measured.")],
    settings: DescribeConfig,
    attributes: Annotated[
        Path | None, typer.Option("--attributes", help="Table of expert attributes of single cells, a column each.")
    ] = None,
    describe_with: Annotated[
        Path | None,
        typer.Option(
            "--describe-with",
            help="Folder of an image-text model of transformers on this machine, which proposes a phrase for each "
            "concept beside the sentence.",
        ),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option("--most", min=1, help="With --describe-with: only so many concepts, the most interesting first."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Where that model runs: auto, cpu, cuda, ...")] = "auto",
    as_json: Json = False,
) -> None:
    """Describe every concept in a sentence made of facts: place, looks, measurements, cell type, expert attribute,
    diagnosis.

    Each fact has a null and is tested on cells on which it was not chosen, a diagnosis over patients; if none passes,
    the sentence is "nothing known". Writes descriptions/ and a column of var.

    --describe-with adds what an image-text model says of the reference images, in proposed/: never in place of the
    sentence, with the model's hash, and tested like it. Nothing is downloaded.
    """
    from cytosae.concepts import describe_concepts
    from cytosae.errors import CytosaeError

    if describe_with is None:
        if most is not None:
            raise CytosaeError(f"--most {most}: says how many phrases a model proposes; give --describe-with too.")
        answer(describe_concepts(study, settings, attributes=attributes), as_json)
        return
    from cytosae.analysis import Captioner, propose

    captioner = Captioner.open(describe_with, device)
    figures = describe_concepts(study, settings, attributes=attributes)
    answer({**figures, "proposed": propose(study, captioner, settings, most=most)}, as_json)
