"""``cytosae explore``, ``report``, ``run`` and ``doctor``: a study as a whole."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import (
    CheckpointSeconds,
    Column,
    Commands,
    DropMissing,
    Restart,
    SettingsFile,
    Source,
    Strict,
    Track,
    Workers,
    study_settings,
    with_settings,
)
from cytosae.settings import (
    BackboneConfig,
    BarcodeConfig,
    DrawnConfig,
    EncodeConfig,
    EngineConfig,
    FrameConfig,
    HarmoniseConfig,
    ImageConfig,
    StoreConfig,
    TrainConfig,
)

studies_app = Commands()

FIRST = (
    *("study", "backbone", "weights", "device", "quick", "preset", "images", "expansion", "seed", "column"),
    *("sae", "store", "settings_file", "restart", "as_json"),
)
"""Options that `run --help` shows."""


@studies_app.command()
def explore(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines reach it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="CYTOSAE_TOKEN",
            help="Access token, part of the printed address; generated if you do not give one. Other users of the "
            "machine can see an option, but not the variable.",
        ),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Require no token: everybody who reaches the server sees the study.")
    ] = False,
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url",
            metavar="URL",
            help="Address of your TLS proxy, such as https://cells.hospital.org or https://hospital.org/cells.",
        ),
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
        Path | None, typer.Option("--export", metavar="DIR", help="Write a static page to share, instead of serving.")
    ] = None,
    concepts: Annotated[
        int, typer.Option(min=1, help="Concepts with a page in an export, the most interesting ones.")
    ] = 500,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the browser.")] = False,
) -> None:
    """Open a study in the browser: its concepts, cells and patients; upload a cell; annotate.

    Nothing leaves the machine. Prints the address; the token in it opens the study, so keep it to yourself.
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
    serve(
        study,
        host=host,
        port=port,
        token=token,
        no_token=no_token,
        public_url=public_url,
        annotations=annotations,
        browser=not no_open,
    )


@studies_app.command()
@with_settings
def report(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    drawn: DrawnConfig,
    as_json: Json = False,
) -> None:
    """Write the figures and the page of a study: overview, training curves, concepts with their reference images.

    The next `cytosae run` keeps what of the barcodes is shown.
    """
    from cytosae.locks import locked
    from cytosae.report import write_report

    with locked(study) if study.is_dir() else nullcontext():
        figures = write_report(study, drawn)
    answer(figures, as_json)


@studies_app.command()
@with_settings(remembered=study_settings, preset="recommended", first=FIRST)
def run(
    cells: Source,
    images: ImageConfig,
    framing: FrameConfig,
    backbone: BackboneConfig,
    tokens: StoreConfig,
    harmonising: HarmoniseConfig,
    training: TrainConfig,
    encoding: EncodeConfig,
    barcodes: BarcodeConfig,
    engine: EngineConfig,
    study: Annotated[Path, typer.Option("--study", help="Folder of the study; created if it does not exist.")],
    sae: Annotated[
        Path | None, typer.Option("--sae", help="Folder of a trained autoencoder to reuse instead of training one.")
    ] = None,
    store: Annotated[
        bool | None,
        typer.Option(
            "--store/--no-store", help="Keep tokens on disk (the default), or make them whenever they are read."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look: fewer latents and a short training, as --preset quick.")
    ] = False,
    describe: Annotated[
        bool | None,
        typer.Option(
            "--describe/--no-describe",
            help="Measure every cell and describe every concept in words (the default), or leave both out.",
        ),
    ] = None,
    settings_file: SettingsFile = None,
    column: Column = [],  # noqa: B006
    restart: Restart = False,
    strict: Strict = False,
    drop_missing: DropMissing = False,
    track: Track = [],  # noqa: B006
    workers: Workers = None,
    checkpoint_seconds: CheckpointSeconds = 300.0,
    as_json: Json = False,
) -> None:
    """Do everything: list cells, embed, train, encode, measure, describe, report.

    Stages that are up to date are skipped, and the others say why they run. You can stop it at any time; the same command
    resumes. The settings of a study are remembered: options that you leave out stay as they were in its last run. A
    trained autoencoder is never replaced unless you say --restart. All options: cytosae run --help-all.
    """
    from cytosae.cells import chosen_columns
    from cytosae.console import say
    from cytosae.remembered import described, read_settings
    from cytosae.study import RunConfig, Study

    before = read_settings(study)
    if store is None:
        store = before.store is not False
    if describe is None:
        describe = before.describe is not False
    if sae is None and not restart:
        sae = before.sae
    if before.configs:
        say(f"{study}: {described(before)}; options that you give change this")
    config = RunConfig(backbone, tokens, training, encoding, barcodes, engine, images, harmonising, framing)
    done = Study(study, config, store=store, workers=workers, sae=sae, restart=restart, describe=describe)
    stages = done.run(
        cells,
        columns=chosen_columns(column) if column else before.columns,
        strict=strict,
        drop_missing=drop_missing,
        track=track,
        checkpoint_seconds=checkpoint_seconds,
    )
    page = study / "report" / "index.html"
    if as_json:
        answer({"study": f"{study}", "report": f"{page}", "stages": stages}, as_json)
        return
    cells_made, trained, concepts = stages["cells"], stages["sae"], stages["concepts"]["datasets"]
    concept_counts = ", ".join(
        f"{one['concepts']:,} concepts in {name} ({one['cells']:,} cells)" for name, one in concepts.items()
    )
    print(f"{cells_made['cells']:,} cells, {cells_made['rejected']:,} left out")
    print(f"explained variance {trained['explained_variance']:.3f}, {trained['l0']:.1f} latents active on a token")
    print(f"{concept_counts}, of {trained['n_latents']:,} latents")
    if "descriptions" in stages:
        with_words = stages["descriptions"]["datasets"]
        print(
            ", ".join(f"{one['described']:,} of them have a description in {name}" for name, one in with_words.items())
        )
    for name, first in stages["report"].get("first", {}).items():  # a report of an earlier version has none
        if first:
            print(f"most worth a look in {name}:")
            print("\n".join(f"  concept {latent}: {words}" for latent, words in first.items()))
    if "cohort" in stages:
        print(f"barcodes of {stages['cohort']['patients']:,} patients: {stages['cohort']['barcodes']}")
    print(f"\nLook at {page}\nOpen the explorer:  cytosae explore {study}")


@studies_app.command()
@with_settings
def doctor(
    backbone: BackboneConfig,
    cells: Annotated[Path | None, typer.Argument(help="Table or folder of cells, to estimate the store.")] = None,
    folder: Annotated[Path, typer.Option("--study", help="Where the study would go.")] = Path(),
    column: Column = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Check versions, devices, memory and the disk that a run needs, and say how to mend what is missing."""
    from cytosae.cells import chosen_columns
    from cytosae.doctor import examine

    figures = examine(backbone, cells, folder, chosen_columns(column))
    advice = figures.pop("advice") if not as_json else []
    answer(figures, as_json)
    if not as_json:
        print("\n" + ("\n".join(f"- {line}" for line in advice) or "Nothing to mend."))
