"""``cytosae evaluate``, ``statistics``, ``counts``, ``panel``, ``concept`` and ``attribute``: what the latents say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytosae.cli.answers import Json, answer, with_interval
from cytosae.cli.options import Commands, Device, figure_name, with_ending, with_settings
from cytosae.settings import SHORT_SEED, BackboneConfig, EvaluateConfig

concepts_app = Commands()


@concepts_app.command()
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
    judge_backbone: Annotated[
        str | None,
        typer.Option("--judge-backbone", help="Another backbone than the study's, to judge which images are similar."),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure whether to believe the concepts: each figure beside its baselines and its null, with an interval.

    Writes quality/ in the study (quality.json, figures.csv, latents.parquet, the figure as PNG and SVG) and a report
    with the figure.
    """
    from cytosae.analysis import evaluate as evaluate_study

    judge = None if judge_backbone is None else BackboneConfig(backbone=judge_backbone)
    result = evaluate_study(study, settings, attributes=attributes, against=against, judge=judge, device=device)
    if as_json:
        answer(result, as_json)
        return
    answer({f"{row['measure']} | {row['method']}": with_interval(row) for row in result["figures"]}, as_json)


@concepts_app.command()
def statistics(
    concepts: Annotated[list[Path], typer.Argument(help="Folders of concepts, all encoded with one autoencoder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write, .csv or .parquet.")] = Path(
        "latents.csv"
    ),
    as_json: Json = False,
) -> None:
    """Put the statistics of every latent in every data set side by side, to follow a concept across laboratories."""
    from cytosae.artefacts import refuse_foreign, whole_file, write_csv
    from cytosae.concepts import is_joined_statistics, joined_statistics

    refuse_foreign(with_ending(output, ".csv", ".parquet"), "statistics", is_joined_statistics)
    table = joined_statistics(*concepts)
    flat = table.set_axis(["/".join(column) for column in table.columns], axis=1)
    if output.suffix == ".parquet":
        with whole_file(output) as temporary:
            flat.to_parquet(temporary)
    else:
        write_csv(output, flat, index=True)
    datasets = [name for name in table.columns.get_level_values(0).unique() if name != "all"]
    shared = int((table["all", "datasets"] == len(datasets)).sum())
    n_concepts = {name: int(table[name, "is_concept"].sum()) for name in datasets}
    answer({"table": f"{output}", "latents": len(table), "concepts": n_concepts, "concepts_in_all": shared}, as_json)


@concepts_app.command()
def counts(
    concepts: Annotated[list[Path], typer.Argument(help="Folders of concepts, of one autoencoder each.")],
    dataset: Annotated[str | None, typer.Option("--dataset", help="Data set; by default the first.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Figure, without ending.")] = Path("thresholds"),
    as_json: Json = False,
) -> None:
    """Draw how many latents of several autoencoders lie above each threshold of mean activation (Fig. 2 of the paper).

    Autoencoders with the same expansion and layer, as of several seeds, are one line with their deviation.
    """
    from cytosae.analysis import compare_counts
    from cytosae.report import refuse_foreign_figure

    figure = figure_name(output)
    refuse_foreign_figure(figure, "counts")
    answer(compare_counts(concepts, figure, dataset), as_json)


@concepts_app.command()
def panel(
    concepts: Annotated[Path, typer.Argument(help="Folder of concepts.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Worklist to write.")] = Path("panel.json"),
    clusters: Annotated[int, typer.Option(min=2, help="Clusters of concepts (sec. 2).")] = 10,
    per_cluster: Annotated[int, typer.Option(min=1, help="Concepts drawn from each (sec. 2).")] = 5,
    dataset: Annotated[list[str], typer.Option("--dataset", help="Data sets to draw from; by default all.")] = [],  # noqa: B006
    seed: Annotated[int, typer.Option(min=0, max=SHORT_SEED, help="Fixes clusters, draw and order.")] = 0,
    as_json: Json = False,
) -> None:
    """Choose concepts for an expert to judge, some from each cluster, and write the worklist.

    Every data set has its own panel; no concept is chosen twice.
    """
    from cytosae.artefacts import refuse_foreign
    from cytosae.concepts import draw_panel, is_worklist

    refuse_foreign(with_ending(output, ".json"), "panel", is_worklist)
    answer(
        draw_panel(concepts, output, clusters=clusters, per_cluster=per_cluster, datasets=dataset, seed=seed), as_json
    )


@concepts_app.command()
def concept(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    latent: Annotated[int, typer.Argument(help="Number of the latent.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Figure, without ending.")] = None,
    kind: Annotated[str, typer.Option(help="Which cells: reference, spread, random, middle, low.")] = "reference",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Show one concept: its cells and maps in every data set, and its passport (description, evidence, quality,
    judgements, and what classifiers say where it is removed or amplified), also as a table beside the figure.

    --kind reference shows the strongest cells, spread the strongest of different patients, random a sample of all cells
    that activate it, middle and low those around the median and the lowest tenth.
    """
    from cytosae.analysis import show_concept
    from cytosae.artefacts import refuse_foreign
    from cytosae.concepts import is_passport_table
    from cytosae.report import refuse_foreign_figure

    figure = figure_name(output or Path(f"latent-{latent}"))
    refuse_foreign_figure(figure, "concept")
    refuse_foreign(figure.with_name(f"{figure.name}.csv"), "concept", is_passport_table)
    answer(show_concept(study, latent, figure, kind=kind, device=device), as_json)


@concepts_app.command()
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
    """Show which concepts a cell, or one of its patches, has, strongest first."""
    from cytosae.analysis import attribute as attribute_cell
    from cytosae.errors import CytosaeError
    from cytosae.report import refuse_foreign_figure

    where = None
    if patch is not None:
        numbers = patch.split(",")
        if len(numbers) != 2 or not all(number.strip().isdigit() for number in numbers):
            raise CytosaeError(f"--patch {patch}: give row and column, such as 7,9.")
        where = int(numbers[0]), int(numbers[1])
    if not 0 <= share <= 1:
        raise CytosaeError(f"--share {share}: expected a share of the cells, from 0 to 1.")
    if output is not None:
        output = figure_name(output)
        refuse_foreign_figure(output, "attribute")
    result = attribute_cell(study, cell, output, patch=where, common_above=share, top=top, device=device)
    if as_json:
        answer(result, as_json)
        return
    rows = result["patch"]["latents"] if where else result["concepts"]
    measure = "activation" if where else "mean_activation"
    lines = {f"latent {r['latent']}{' (common)' if r['common'] else ''}": float(r[measure]) for r in rows}
    answer({"cell": cell, "label": result["label"], **lines, "figure": result.get("figure")}, as_json)
