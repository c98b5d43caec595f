"""``cytosae cells``, ``embed``, ``train`` and ``encode``: from images to concepts, a stage each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import (
    CheckpointSeconds,
    Column,
    Commands,
    DropMissing,
    NoStore,
    Restart,
    Source,
    Strict,
    Track,
    Workers,
    with_ending,
    with_settings,
)
from cytosae.settings import (
    IN_PROCESS,
    BackboneConfig,
    EncodeConfig,
    EngineConfig,
    FrameConfig,
    HarmoniseConfig,
    ImageConfig,
    StoreConfig,
    TrainConfig,
)

stages_app = Commands()

FIRST = (
    *(
        "output",
        "preset",
        "objective",
        "expansion",
        "k",
        "l1",
        "learning_rate",
        "images",
        "batch_images",
        "seed",
        "seeds",
    ),
    *(
        "dead_latent_loss",
        "holdout",
        "no_store",
        "backbone",
        "device",
        "track",
        "checkpoint_seconds",
        "restart",
        "parallel",
    ),
    "as_json",
)
"""Options that `train --help` shows."""

Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Process share I of N; run once without --shard to finish.",
    ),
]


@stages_app.command()
@with_settings
def cells(
    source: Source,
    images: ImageConfig,
    framing: FrameConfig,
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write, or a folder for it.")] = Path(
        "cells.parquet"
    ),
    column: Column = [],  # noqa: B006
    strict: Strict = False,
    drop_missing: DropMissing = False,
    as_json: Json = False,
) -> None:
    """List the cell images of a table or folder, and check each once.

    A folder of class folders gives labels, and folders named train, val and test give splits; a synthetic cohort is
    drawn first, beside the table. Files that are not images or cannot be read are listed with the reason in
    <output>.rejected.csv.
    """
    from cytosae.artefacts import refuse_foreign
    from cytosae.cells import chosen_columns, is_listing
    from cytosae.study import list_to, rendered

    if (
        output.suffix.lower() in {".csv", ".tsv", ".txt", ".xlsx", ".xls", ".json", ".pq", ".h5ad"}
        and not output.is_dir()
    ):
        with_ending(output, ".parquet")
    if output.suffix != ".parquet":
        output = output / "cells.parquet"
    refuse_foreign(output, "cells", is_listing)  # before a cohort is drawn
    figures = list_to(
        rendered(source, output.parent),
        output,
        columns=chosen_columns(column),
        strict=strict,
        drop_missing=drop_missing,
        images=images,
        framing=framing,
    )[1]
    answer(figures, as_json)


@stages_app.command()
@with_settings
def embed(
    cells: Annotated[Path, typer.Argument(help="Table made by `cytosae cells`.")],
    backbone: BackboneConfig,
    store: StoreConfig,
    harmonising: HarmoniseConfig,
    engine: EngineConfig,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the tokens.")] = Path("tokens"),
    workers: Workers = None,
    shard: Shard = None,
    as_json: Json = False,
) -> None:
    """Turn every image into the tokens of a vision transformer, and keep them on disk.

    An interrupted run resumes at the next shard; a damaged shard is named and made again. Several processes can fill
    one folder with a --shard each; run once without it to finish. With --harmonise the tokens of each laboratory are
    made comparable when they are read; those on disk stay unchanged.
    """
    from cytosae.cells import frame_rule, read_cells
    from cytosae.engines import Partition, open_engine
    from cytosae.study import backbone_for, load_backbone, update_harmonisation
    from cytosae.tokens import embed as embed_cells
    from cytosae.tokens import store_layout

    table, partition = read_cells(cells), Partition.parse(shard) if shard else None
    model = load_backbone(backbone)
    layout = store_layout(model.info, store, frame_rule(table))
    load = backbone_for(engine, lambda: model, backbone, layout)
    with open_engine(engine) as doing:
        figures = embed_cells(table, load, output, layout, workers=workers, engine=doing, partition=partition)
    if partition is None:
        update_harmonisation(output, harmonising)
    answer(figures, as_json)


@stages_app.command()
@with_settings(first=FIRST)
def train(
    tokens: Annotated[Path, typer.Argument(help="Folder made by `cytosae embed`; with --no-store a table of cells.")],
    settings: TrainConfig,
    backbone: BackboneConfig,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the autoencoder.")] = Path("sae"),
    no_store: NoStore = False,
    track: Track = [],  # noqa: B006
    checkpoint_seconds: CheckpointSeconds = 300.0,
    restart: Restart = False,
    parallel: Annotated[
        str,
        typer.Option(
            help="Under torchrun, what the processes divide: 'data', the images of a batch; or 'latents', if the "
            "autoencoder does not fit on a device."
        ),
    ] = "data",
    as_json: Json = False,
) -> None:
    """Train the sparse autoencoder on tokens; resumes after an interruption.

    With --seeds 3 three are trained together, and the latents that two of them find form one dictionary; all three stay
    in seeds/ of the output. Ctrl-C and SIGTERM write a checkpoint; the same command then resumes, to the same result.
    With several GPUs or hosts: `torchrun --nproc-per-node 4 -m cytosae train ...`; such a training can resume with
    another number of processes.
    """
    from cytosae.interrupts import deferred_signals

    with deferred_signals() as stop:  # from here on: torch takes seconds to import
        from cytosae.sae import join, train_seeds
        from cytosae.sae import train as train_sae

        with join(parallel, backbone.device) as group:
            with group.agreed():
                source = _source(tokens, None if no_store else tokens, backbone)
            figures = (train_sae if settings.seeds == 1 else train_seeds)(
                source,
                output,
                settings,
                track=track,
                checkpoint_seconds=checkpoint_seconds,
                stop=stop,
                process_group=group,
                restart=restart,
            )
    if figures:  # only the first of several processes has any
        answer(figures, as_json)


@stages_app.command()
@with_settings
def encode(
    cells: Annotated[Path, typer.Argument(help="Table made by `cytosae cells`.")],
    settings: EncodeConfig,
    backbone: BackboneConfig,
    engine: EngineConfig,
    sae: Annotated[
        str, typer.Option("--sae", help="Folder of the autoencoder, or hub repository (owner/name).")
    ] = "sae",
    tokens: Annotated[
        Path | None, typer.Option("--tokens", help="Tokens of these cells, if they are on disk already.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the concepts.")] = Path("concepts"),
    shard: Shard = None,
    as_json: Json = False,
) -> None:
    """Count the concepts of every cell: one AnnData per data set, with reference images and their maps.

    Without --tokens the images pass the backbone again: the one that the autoencoder was trained on, if none is named.
    Several processes can work in one folder with a --shard each; run once without it to finish.
    """
    from cytosae.concepts import encode as encode_cells
    from cytosae.engines import Partition, open_engine
    from cytosae.sae import SAE

    model = SAE.from_pretrained(sae)
    trained = model.metadata.get("backbone")
    if trained and backbone == BackboneConfig(device=backbone.device):
        backbone = replace(backbone, backbone=trained["name"], layer=trained["layer"] + 1)
    partition = Partition.parse(shard) if shard else None
    store = StoreConfig(model.metadata.get("store_dtype", StoreConfig().store_dtype))
    source = _source(cells, tokens, backbone, engine, store)
    with open_engine(engine) as doing:
        figures = encode_cells(
            source, model, output, settings, device=backbone.device, engine=doing, partition=partition
        )
    answer({"datasets": figures} if partition is None else figures, as_json)


def _source(
    cells: Path,
    tokens: Path | None,
    backbone: BackboneConfig,
    engine: EngineConfig = IN_PROCESS,
    rounding: StoreConfig | None = None,
) -> Any:
    """Tokens from a store where one is given, otherwise made on the fly and rounded as such a store does."""
    from cytosae.cells import frame_rule, pixels_digest, read_cells
    from cytosae.errors import CytosaeError
    from cytosae.study import backbone_for, load_backbone
    from cytosae.tokens import LiveTokens, TokenStore, store_layout

    if tokens is None:
        model = load_backbone(backbone)
        table = read_cells(cells)
        layout = store_layout(model.info, rounding, frame_rule(table))
        return LiveTokens(table, backbone_for(engine, lambda: model, backbone, layout), layout)
    store = TokenStore(tokens)
    if cells != tokens:
        table = read_cells(cells)
        if pixels_digest(table) != pixels_digest(store.cells):
            raise CytosaeError(f"{tokens}: holds the tokens of other cells than {cells}. Embed these cells first.")
        store.cells = table
    return store
