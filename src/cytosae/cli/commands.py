"""The commands. Heavy modules are imported inside them, so that ``--help`` answers at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cytosae.artefacts import without_nan
from cytosae.cli.annotations import annotations_app
from cytosae.cli.backbones import backbones_app
from cytosae.cli.datasets import datasets_app
from cytosae.cli.exchange import exchange_app
from cytosae.cli.options import Commands, with_settings
from cytosae.cli.reproduce import reproduce_app
from cytosae.cli.suggest import suggest_app
from cytosae.cli.sweep import sweep_app
from cytosae.cli.tokens import tokens_app
from cytosae.settings import (
    HERE,
    BackboneConfig,
    BarcodeConfig,
    ClassifyConfig,
    CompareConfig,
    EncodeConfig,
    EngineConfig,
    EvaluateConfig,
    PatientConfig,
    StoreConfig,
    TrainConfig,
)

app = Commands(
    name="cytosae",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Morphological concepts from blood-cell images: cells, tokens, sparse autoencoder, concepts, patients, report.\n\n"
    "Start with `cytosae run CELLS --study DIR`; every stage is also a command of its own. Files and folders may be URLs: "
    "s3://bucket/study, gs://, hf://.",
)

Source = Annotated[
    Path,
    typer.Argument(
        help="CSV or Parquet table with a column 'path', a folder of images, or synthetic:patients=60,cells=40,seed=0."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object with all figures at the end.")]
Strict = Annotated[bool, typer.Option("--strict", help="An unreadable image is an error, not left out.")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Processes that decode images, for each replica; one a core if left out, none with several replicas.",
    ),
]
Track = Annotated[list[str], typer.Option("--track", help="Also log to: tensorboard, wandb. Can be repeated.")]
CheckpointSeconds = Annotated[float, typer.Option(help="Time between two checkpoints of the training, in seconds.")]
CellType = Annotated[
    str | None, typer.Option("--cell-type", help="Where the barcodes are by cell type, the one to take.")
]
Device = Annotated[str, typer.Option("--device", help="Where the backbone runs: auto, cpu, cuda, ...")]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Of every N pieces make the I-th, where it is missing, and stop without finishing.",
    ),
]
NoStore = Annotated[bool, typer.Option("--no-store", help="Keep no tokens on disk: make them whenever they are read.")]


def _answer(figures: dict[str, Any], as_json: bool) -> None:
    """Print the figures of a command: one JSON object, or a line each."""
    if as_json:
        print(json.dumps(without_nan(figures)))
        return
    for name, value in _flat("", figures):
        print(f"{name:<36}  {value}")


def _flat(prefix: str, figures: dict[str, Any]) -> list[tuple[str, str]]:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += _flat(f"{prefix}{name}.", value)
        elif value is not None:
            shown = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
            lines.append((prefix + name, shown))
    return lines


@app.command()
def cells(
    source: Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write, or a folder for it.")] = Path(
        "cells.parquet"
    ),
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """List the cell images of a table or folder, and look at each once.

    A folder of class folders gives labels; a synthetic cohort is drawn first, beside the table. Images that cannot be
    read are left out and named, with the reason, in <output>.rejected.csv.
    """
    from cytosae.study import list_to, rendered

    if output.suffix != ".parquet":
        output = output / "cells.parquet"
    _, figures = list_to(rendered(source, output.parent), output, strict=strict)
    _answer(figures, as_json)


@app.command()
@with_settings
def embed(
    cells: Annotated[Path, typer.Argument(help="Table made by `cytosae cells`.")],
    backbone: BackboneConfig,
    store: StoreConfig,
    engine: EngineConfig,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the tokens.")] = Path("tokens"),
    workers: Workers = None,
    shard: Shard = None,
    as_json: Json = False,
) -> None:
    """Turn every image into the tokens of a vision transformer, and keep them on disk.

    An interrupted run goes on at the next shard; a damaged shard is found, named and made again. Any number of processes
    with a --shard each may fill one folder; without it the command finishes.
    """
    from cytosae.cells import read_cells
    from cytosae.engines import Share, opened
    from cytosae.study import backbone_for, load_backbone
    from cytosae.tokens import embed as embed_cells
    from cytosae.tokens import layout_of

    table, share = read_cells(cells), Share.parse(shard) if shard else None
    model = load_backbone(backbone)
    layout = layout_of(model.info, store)
    load = backbone_for(engine, lambda: model, backbone, layout)
    with opened(engine) as doing:
        _answer(embed_cells(table, load, output, layout, workers=workers, engine=doing, share=share), as_json)


@app.command()
@with_settings
def train(
    tokens: Annotated[Path, typer.Argument(help="Folder made by `cytosae embed`; with --no-store a table of cells.")],
    settings: TrainConfig,
    backbone: BackboneConfig,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the autoencoder.")] = Path("sae"),
    no_store: NoStore = False,
    track: Track = [],  # noqa: B006
    checkpoint_seconds: CheckpointSeconds = 300.0,
    parallel: Annotated[
        str,
        typer.Option(
            help="Under torchrun, what its processes share: 'data', the images of a batch, where the autoencoder fits a "
            "device; 'latents', where it does not."
        ),
    ] = "data",
    as_json: Json = False,
) -> None:
    """Train the sparse autoencoder on tokens; goes on where it was stopped.

    Ctrl-C and SIGTERM leave a checkpoint; the same command then continues to the same result. With several GPUs or hosts:
    `torchrun --nproc-per-node 4 -m cytosae train ...`; such a training can go on with another number of processes.
    """
    from cytosae.interrupts import deferred_signals

    with deferred_signals() as stop:  # from here on: torch takes seconds to import
        from cytosae.sae import join
        from cytosae.sae import train as train_sae

        with join(parallel, backbone.device) as team:
            with team.agreed():
                source = _source(tokens, None if no_store else tokens, backbone)
            figures = train_sae(
                source,
                output,
                settings,
                track=track,
                checkpoint_seconds=checkpoint_seconds,
                stop=stop,
                team=team,
            )
    if figures:  # only the first of several processes has any
        _answer(figures, as_json)


@app.command()
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
    Any number of processes with a --shard each may work in one folder; without it the command finishes.
    """
    from cytosae.concepts import encode as encode_cells
    from cytosae.engines import Share, opened
    from cytosae.sae import SAE
    from cytosae.storage import place
    from cytosae.study import sae_weights_digest

    model = SAE.from_pretrained(sae)
    folder = place(sae)
    digest = sae_weights_digest(folder) if folder.is_dir() else sae
    trained = model.metadata.get("backbone")
    if trained and backbone == BackboneConfig(device=backbone.device):
        backbone = replace(backbone, backbone=trained["name"], layer=trained["layer"] + 1)
    share = Share.parse(shard) if shard else None
    source = _source(cells, tokens, backbone, engine)
    with opened(engine) as doing:
        figures = encode_cells(
            source, model, output, settings, sae_digest=digest, device=backbone.device, engine=doing, share=share
        )
    _answer({"datasets": figures} if share is None else figures, as_json)


def _source(cells: Path, tokens: Path | None, backbone: BackboneConfig, engine: EngineConfig = HERE) -> Any:
    """Tokens from a store where one is given, otherwise made on the fly."""
    from cytosae.cells import pixels_digest, read_cells
    from cytosae.errors import CytosaeError
    from cytosae.study import backbone_for, load_backbone
    from cytosae.tokens import LiveTokens, TokenStore, layout_of

    if tokens is None:
        model = load_backbone(backbone)
        layout = layout_of(model.info)
        return LiveTokens(read_cells(cells), backbone_for(engine, lambda: model, backbone, layout), layout)
    store = TokenStore(tokens)
    if cells != tokens:
        table = read_cells(cells)
        if pixels_digest(table) != pixels_digest(store.cells):
            raise CytosaeError(f"{tokens}: holds the tokens of other cells than {cells}. Embed these cells first.")
        store.cells = table
    return store


@app.command()
@with_settings
def evaluate(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    settings: EvaluateConfig,
    attributes: Annotated[
        Path | None, typer.Option("--attributes", help="Table of expert attributes of single cells, a column each.")
    ] = None,
    against: Annotated[
        list[Path], typer.Option("--against", help="Another autoencoder, for stability. Can be repeated.")
    ] = [],  # noqa: B006
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure whether to believe the concepts: each figure beside its baselines and its null, with an interval.

    Leaves quality/ in the study (quality.json, figures.csv, latents.parquet, the figure as PNG and SVG) and a report
    with the figure in it.
    """
    from cytosae.analysis import evaluate as evaluate_study

    result = evaluate_study(study, settings, attributes=attributes, against=against, device=device)
    if as_json:
        _answer(result, as_json)
        return
    _answer({f"{row['measure']} | {row['contender']}": _with_interval(row) for row in result["figures"]}, as_json)


def _with_interval(row: dict[str, Any]) -> str:
    value, low, high = (row[key] for key in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:.4g}" if low is None else f"{value:.4g} ({low:.4g} to {high:.4g})"


@app.command()
def statistics(
    concepts: Annotated[list[Path], typer.Argument(help="Folders of concepts, all encoded with one autoencoder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write, .csv or .parquet.")] = Path(
        "latents.csv"
    ),
    as_json: Json = False,
) -> None:
    """Put the statistics of every latent in every data set side by side, to follow a concept across laboratories."""
    from cytosae.artefacts import whole_file
    from cytosae.concepts import joined_statistics

    table = joined_statistics(*concepts)
    flat = table.set_axis(["/".join(column) for column in table.columns], axis=1)
    with whole_file(output) as partial:
        flat.to_parquet(partial) if output.suffix == ".parquet" else flat.to_csv(partial)
    datasets = [name for name in table.columns.get_level_values(0).unique() if name != "all"]
    shared = int((table["all", "datasets"] == len(datasets)).sum())
    found = {name: int(table[name, "is_concept"].sum()) for name in datasets}
    _answer({"table": f"{output}", "latents": len(table), "concepts": found, "concepts_in_all": shared}, as_json)


@app.command()
def counts(
    concepts: Annotated[list[Path], typer.Argument(help="Folders of concepts, of one autoencoder each.")],
    dataset: Annotated[str | None, typer.Option("--dataset", help="Data set; the first if none is named.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Figure, without ending.")] = Path("thresholds"),
    as_json: Json = False,
) -> None:
    """Draw how many latents of several autoencoders lie above each threshold of mean activation (Fig. 2 of the paper).

    Autoencoders with the same expansion and layer, as of several seeds, are one line with their deviation.
    """
    from cytosae.analysis import compare_counts

    _answer(compare_counts(concepts, output, dataset), as_json)


@app.command()
def panel(
    concepts: Annotated[Path, typer.Argument(help="Folder of concepts.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Worklist to write.")] = Path("panel.json"),
    clusters: Annotated[int, typer.Option(min=2, help="Clusters of concepts (sec. 2).")] = 10,
    per_cluster: Annotated[int, typer.Option(min=1, help="Concepts drawn from each (sec. 2).")] = 5,
    dataset: Annotated[list[str], typer.Option("--dataset", help="Data sets to draw from; all if none is named.")] = [],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Fixes clusters, draw and order.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw the concepts that an expert is asked to judge, some from each cluster, and write the worklist.

    Every data set has a panel of its own; no concept is asked for twice.
    """
    from cytosae.concepts import draw_panel

    _answer(
        draw_panel(concepts, output, clusters=clusters, per_cluster=per_cluster, datasets=dataset, seed=seed), as_json
    )


@app.command()
def concept(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    latent: Annotated[int, typer.Argument(help="Number of the latent.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Figure, without ending.")] = None,
    kind: Annotated[str, typer.Option(help="Which cells: reference, spread, random, middle, low.")] = "reference",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Show one concept: its cells in every data set with its maps, and its statistics.

    reference are the strongest cells, spread the strongest of different patients, random a draw among all cells that
    activate it, middle and low those around the median and the lowest tenth.
    """
    from cytosae.analysis import show_concept

    _answer(show_concept(study, latent, output or Path(f"latent-{latent}"), kind=kind, device=device), as_json)


@app.command()
def attribute(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    cell: Annotated[str, typer.Argument(help="cell_id of the cell.")],
    patch: Annotated[str | None, typer.Option(help="Row and column of a patch, from 0, such as 7,9.")] = None,
    share: Annotated[
        float, typer.Option(help="Latents active in more than this share of the cells are left out.")
    ] = 0.99,
    top: Annotated[int, typer.Option(min=1, help="Concepts shown, at most.")] = 12,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Figure, without ending.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Tell which concepts a cell, or one of its patches, consists of, strongest first."""
    from cytosae.analysis import attribute as attribute_cell
    from cytosae.errors import CytosaeError

    where = None
    if patch is not None:
        numbers = patch.split(",")
        if len(numbers) != 2 or not all(number.strip().isdigit() for number in numbers):
            raise CytosaeError(f"--patch {patch}: give row and column, such as 7,9.")
        where = int(numbers[0]), int(numbers[1])
    found = attribute_cell(study, cell, output, patch=where, share=share, top=top, device=device)
    if as_json:
        _answer(found, as_json)
        return
    rows = found["patch"]["latents"] if where else found["concepts"]
    measure = "activation" if where else "mean_activation"
    lines = {f"latent {r['latent']}{' (common)' if r['common'] else ''}": float(r[measure]) for r in rows}
    _answer({"cell": cell, "label": found["label"], **lines, "figure": found.get("figure")}, as_json)


@app.command()
@with_settings
def barcodes(
    concepts: Annotated[list[Path], typer.Argument(help="Folders of concepts, all encoded with one autoencoder.")],
    settings: BarcodeConfig,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .h5ad file to write.")] = Path("barcodes.h5ad"),
    dataset: Annotated[list[str], typer.Option("--dataset", help="Data sets to take; all if none is named.")] = [],  # noqa: B006
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Folder for diseases, correlation and map of the patients.")
    ] = None,
    group_by: Annotated[str, typer.Option("--group-by", help="Column by which the figures group.")] = "diagnosis",
    as_json: Json = False,
) -> None:
    """Count the concepts of every patient: the mean over the patient's images (Eq. 3), patients x latents as AnnData.

    Needs a column 'patient' in the table of cells; 'diagnosis' and every other column of the patients are kept.
    """
    from cytosae.cohort import make_barcodes, read_barcodes
    from cytosae.errors import CytosaeError
    from cytosae.report import barcode_figures

    if figures is not None and settings.by_cell_type:
        raise CytosaeError("--figures shows patients: leave out --by-cell-type.")
    found = make_barcodes(concepts, output, settings, datasets=dataset)
    if figures is not None:
        drawn = barcode_figures(read_barcodes(output), figures, group_by)
        found["figures"] = {name: f"{path}.png" for name, path in drawn.items()}
    _answer(found, as_json)


@app.command()
@with_settings
def classify(
    barcodes: Annotated[Path, typer.Argument(help="File made by `cytosae barcodes`.")],
    settings: ClassifyConfig,
    target: Annotated[str, typer.Option(help="Column of the patients to tell.")] = "diagnosis",
    tokens: Annotated[
        Path | None,
        typer.Option("--tokens", help="Tokens of these cells, to compare with means and attention over them."),
    ] = None,
    folds: Annotated[str | None, typer.Option("--folds", help="Column with the fold of each patient.")] = None,
    leave_out: Annotated[
        str | None, typer.Option("--leave-out", help="Column such as laboratory: also judge each by all the others.")
    ] = None,
    cell_type: CellType = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; 'classification' beside the barcodes if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell the diagnosis of patients from their barcodes, judged on patients that the model never saw.

    Leaks and confounders are reported first. Weighted F1 with interval and permutation null, beside other contenders
    in the same folds; the threshold of the latents is chosen inside the training patients.
    """
    from cytosae.analysis import classify as classify_patients
    from cytosae.cohort import CLASSIFICATION

    folder = output or barcodes.parent / CLASSIFICATION
    result = classify_patients(
        barcodes, folder, settings, target=target, tokens=tokens, folds=folds, leave_out=leave_out, cell_type=cell_type
    )
    if as_json:
        _answer(result, as_json)
        return
    lines = {row["contender"]: _with_interval(row) for row in result["contenders"]}
    if "left_out" in result:
        column = result["left_out"]["column"]
        lines |= {
            f"{row['contender']}, {column} left out": _with_interval(row) for row in result["left_out"]["contenders"]
        }
    if (null := result["null"]) is not None:
        lines["permuted labels"] = f"{null['mean']:.4g} ({null['low']:.4g} to {null['high']:.4g}), p {null['p']:.3g}"
    _answer({f"weighted F1 | {name}": line for name, line in lines.items()} | {"folder": f"{folder}"}, as_json)


@app.command()
@with_settings
def compare(
    barcodes: Annotated[Path, typer.Argument(help="File made by `cytosae barcodes`.")],
    first: Annotated[str, typer.Argument(help="A group of patients, such as CBFB_MYH11.")],
    settings: CompareConfig,
    second: Annotated[str, typer.Argument(help="The other group; all other patients if left out.")] = "rest",
    target: Annotated[str, typer.Option(help="Column of the groups.")] = "diagnosis",
    adjust: Annotated[
        str | None, typer.Option("--adjust", help="Column such as laboratory: compare within each of its values.")
    ] = None,
    study: Annotated[
        Path | None, typer.Option("--study", help="Study of the barcodes, to draw cells of both sides.")
    ] = None,
    cell_type: CellType = None,
    device: Device = "auto",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; 'compare-FIRST-SECOND' beside the barcodes if left out."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two groups of patients latent by latent: the 50 most in favour of each, with effect, interval, p and FDR."""
    from cytosae.analysis import compare_groups
    from cytosae.concepts import file_names

    names = file_names([first, second])
    folder = output or barcodes.parent / f"compare-{names[first]}-{names[second]}"
    result = compare_groups(
        barcodes,
        folder,
        first,
        second,
        settings,
        target=target,
        adjust=adjust,
        study=study,
        cell_type=cell_type,
        device=device,
    )
    if as_json:
        _answer(result, as_json)
        return
    lines = {
        f"{side['name']} | latent {row['latent']}": f"{row['difference']:+.3g} ({row['low']:.3g} to {row['high']:.3g}), "
        f"AUROC {row['auroc']:.2f}, FDR {row['fdr']:.2g}"
        for side in (result["first"], result["second"])
        for row in side["latents"][:10]
    }
    _answer({**lines, "table": result["table"], "figure": result["figure"]}, as_json)


@app.command()
@with_settings
def patient(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    name: Annotated[str, typer.Argument(metavar="ID", help="The patient.")],
    settings: PatientConfig,
    barcodes: Annotated[
        Path | None, typer.Option("--barcodes", help="Barcodes; those of the study if left out.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Page; patient-ID.html if left out.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write a page on one patient: what is unusual against the healthy and the own diagnosis, and the cells that
    carry it.

    Concepts and cells are selected by a rule that the page states. With a classification of the study, the prediction
    too.
    """
    from cytosae.analysis import show_patient
    from cytosae.concepts import file_names

    page = output or Path(f"patient-{file_names([name])[name]}.html")
    result = show_patient(study, name, page, settings, barcodes=barcodes, device=device)
    if as_json:
        _answer(result, as_json)
        return
    lines = {}
    for group, figures in result["against"].items():
        closest = "" if figures["unusual"] else "not unusual: "
        for row in figures["concepts"]:
            beside = f"{row['patient']:.3g} against {row['group']:.3g}, t {row['t']:.1f}, FDR {row['fdr']:.2g}"
            lines[f"against {group} | {closest}latent {row['latent']}"] = beside
    _answer({**lines, "page": result["page"]}, as_json)


@app.command()
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
        _answer(export_study(study, export, concepts=concepts, annotations=annotations), as_json=False)
        return
    serve(study, host=host, port=port, token=token, annotations=annotations, browser=not no_open)


@app.command()
def report(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    as_json: Json = False,
) -> None:
    """Write the figures and the page of a study: overview, training curves, gallery of concepts."""
    from cytosae.report import write_report

    _answer(write_report(study), as_json)


@app.command()
@with_settings
def run(
    cells: Source,
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

    config = RunConfig(backbone, store, training, encoding, engine=engine)
    done = Study(study, config, store=not no_store, workers=workers, sae=sae)
    stages = done.run(cells, strict=strict, track=track, checkpoint_seconds=checkpoint_seconds)
    _answer({"study": f"{study}", "report": f"{study / 'report' / 'index.html'}", "stages": stages}, as_json)


@app.command()
@with_settings
def doctor(
    backbone: BackboneConfig,
    cells: Annotated[Path | None, typer.Argument(help="Table or folder of cells, to estimate the store.")] = None,
    folder: Annotated[Path, typer.Option("--study", help="Where the study would go.")] = Path(),
    as_json: Json = False,
) -> None:
    """Show versions, devices, the precision chosen, free disk and the size of the store that a run would need."""
    from cytosae.doctor import examine

    _answer(examine(backbone, cells, folder), as_json)


app.add_typer(annotations_app, name="annotations")
app.add_typer(datasets_app, name="datasets")
app.add_typer(reproduce_app)
app.add_typer(sweep_app)
app.add_typer(backbones_app, name="backbones")
app.add_typer(tokens_app, name="tokens")
app.add_typer(suggest_app)
app.add_typer(exchange_app)
