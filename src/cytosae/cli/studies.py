"""``cytosae explore``, ``report``, ``run`` and ``doctor``: a study as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import CheckpointSeconds, Commands, NoStore, Source, Strict, Track, Workers, with_settings
from cytosae.settings import BackboneConfig, EncodeConfig, EngineConfig, ImageConfig, StoreConfig, TrainConfig

studies_app = Commands()


@studies_app.command()
def explore(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's own need the token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(help="Asked for by the server; made for you where others can reach it and none is given."),
    ] = None,
    annotations: Annotated[
        str | None,
        typer.Option(
            "--annotations",
            metavar="ADDRESS",
            help="Database, such as postgresql://user@host/name; STUDY/annotations.sqlite if left out.",
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="DIR", help="Serve nothing: write a static page, to be shared.")
    ] = None,
    concepts: Annotated[int, typer.Option(min=1, help="Concepts with a page in an export: the strongest.")] = 500,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the browser.")] = False,
) -> None:
    """Look at a study in the browser: its concepts, cells and patients; upload a cell; annotate.

    Nothing leaves the machine. Prints the address; where others can reach it, a token is part of it.
    """
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"  # a backbone comes from the local cache or not at all
    try:
        from cytosae.explorer import export as export_study
        from cytosae.explorer import serve
    except ModuleNotFoundError as error:
        from cytosae.errors import CytosaeError

        raise CytosaeError(
            f"the explorer needs further packages ({error.name} is missing): pip install 'cytosae[explorer]'."
        ) from error

    if export is not None:
        answer(export_study(study, export, concepts=concepts, annotations=annotations), as_json=False)
        return
    serve(study, host=host, port=port, token=token, annotations=annotations, browser=not no_open)


@studies_app.command()
def report(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    as_json: Json = False,
) -> None:
    """Write the figures and the page of a study: overview, training curves, gallery of concepts."""
    from cytosae.report import write_report

    answer(write_report(study), as_json)


@studies_app.command()
@with_settings
def run(
    cells: Source,
    images: ImageConfig,
    backbone: BackboneConfig,
    store: StoreConfig,
    training: TrainConfig,
    encoding: EncodeConfig,
    engine: EngineConfig,
    study: Annotated[Path, typer.Option("--study", help="Folder of the study; made where it does not exist.")],
    sae: Annotated[
        Path | None, typer.Option("--sae", help="Folder of an autoencoder that is taken instead of training one.")
    ] = None,
    no_store: NoStore = False,
    strict: Strict = False,
    track: Track = [],  # noqa: B006
    workers: Workers = None,
    checkpoint_seconds: CheckpointSeconds = 300.0,
    as_json: Json = False,
) -> None:
    """Do everything: list cells, embed, train, encode, report.

    Stages that are up to date are skipped, and the others say why they run. It can be stopped at any time; the same
    command goes on where it was.
    """
    from cytosae.study import RunConfig, Study

    config = RunConfig(backbone, store, training, encoding, engine=engine, images=images)
    done = Study(study, config, store=not no_store, workers=workers, sae=sae)
    stages = done.run(cells, strict=strict, track=track, checkpoint_seconds=checkpoint_seconds)
    answer({"study": f"{study}", "report": f"{study / 'report' / 'index.html'}", "stages": stages}, as_json)


@studies_app.command()
@with_settings
def doctor(
    backbone: BackboneConfig,
    cells: Annotated[Path | None, typer.Argument(help="Table or folder of cells, to estimate the store.")] = None,
    folder: Annotated[Path, typer.Option("--study", help="Where the study would go.")] = Path(),
    as_json: Json = False,
) -> None:
    """Show versions, devices, the precision chosen, free disk and the size of the store that a run would need."""
    from cytosae.doctor import examine

    answer(examine(backbone, cells, folder), as_json)
