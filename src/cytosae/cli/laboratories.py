"""``cytosae laboratories`` and ``transfer``: what is the laboratory's, and what holds in another one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytosae.cli.answers import Json, answer, with_interval
from cytosae.cli.options import Column, Commands, Device, Source, Strict, Weights, with_settings
from cytosae.settings import ImageConfig, LaboratoryConfig, StainConfig

laboratories_app = Commands()

Target = Annotated[str, typer.Option(help="Column of the diagnosis of patients; or label, for the type of cells.")]


@laboratories_app.command()
@with_settings
def laboratories(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    settings: LaboratoryConfig,
    target: Target = "diagnosis",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; 'laboratories' in the study if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how much of the variance of tokens, concepts and barcodes comes from the laboratory, and how much from the
    diagnosis.

    Before and after harmonisation, with an interval and a null of permuted groups.
    """
    from cytosae.analysis import compare_laboratories

    folder = output or study / "laboratories"
    result = compare_laboratories(study, folder, settings, target=target)
    if as_json:
        answer(result, as_json)
        return
    lines = {
        f"{row['features']}, {_harmonised(row['harmonised'])} | {row['column']}": f"{with_interval(row)} of the "
        f"variance, permuted up to {row['null']:.2g}, p {row['p']:.2g}"
        for row in result["shares"]
        if row["value"] is not None
    }
    answer({**lines, "folder": f"{folder}"}, as_json)


@laboratories_app.command()
@with_settings
def transfer(
    studies: Annotated[
        list[Path], typer.Argument(help="Folders of studies of the same cells, such as with different --harmonise.")
    ],
    settings: LaboratoryConfig,
    target: Target = "diagnosis",
    only: Annotated[
        str | None, typer.Option("--from", help="Learn from this laboratory alone; by default from all others.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; 'transfer' in the first study if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Leave out one laboratory after the other: which harmonisation works in an unseen laboratory?

    Weighted F1 of patients or cells with interval, null and ceiling; with unlabelled patients of the new laboratory,
    with its healthy controls, and for a single patient alone.
    """
    from cytosae.analysis import transfer as transfer_between

    folder = output or studies[0] / "transfer"
    result = transfer_between(studies, folder, settings, target=target, only=only)
    if as_json:
        answer(result, as_json)
        return
    several = len(studies) > 1
    lines = {}
    for row in result["methods"]:
        name = f"{row['study']}: {row['features']}" if several else row["features"]
        null = "" if row["null"] is None else f", permuted {row['null']:.2g} (up to {row['null_high']:.2g})"
        lines[f"{row['setting']} | {name}, {row['harmonised']}"] = (
            f"{with_interval(row)}{null}, within {row['within']:.2g}"
        )
    answer({**lines, "folder": f"{folder}"}, as_json)


@laboratories_app.command()
@with_settings
def restain(
    cells: Source,
    images: ImageConfig,
    method: Annotated[
        str,
        typer.Option(
            help="reinhard (optical density), reinhard-lab, macenko or vahadane: how colours are matched between "
            "laboratories."
        ),
    ] = "reinhard",
    laboratory: Annotated[
        str, typer.Option(help="Column of the cells that says the laboratory; patient makes one of every patient.")
    ] = "dataset",
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="Folder of an earlier restain, for new cells in the same colours."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the images.")] = Path("restained"),
    column: Column = [],  # noqa: B006
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Write the images of several laboratories in the colours of the mean laboratory; `cytosae run` takes restained.csv.

    A laboratory's colours come from all its cells, without labels; a cell that is darker than others stays darker.
    """
    from cytosae.analysis import restain as restain_cells
    from cytosae.cells import chosen_columns

    result = restain_cells(
        cells,
        output,
        method,
        laboratory=laboratory,
        reference=reference,
        columns=chosen_columns(column),
        strict=strict,
        images=images,
    )
    answer(result, as_json)


@laboratories_app.command("stain-response")
@with_settings
def stain_response(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    settings: StainConfig,
    weights: Weights = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Classify every concept as morphology, mixed, or stain, by how it responds to other stains.

    Some cells are restained, dimmed, blurred, compressed, scaled and turned; the variance of a concept's counts over
    these images is compared with that over cells. `--concepts morphology` of other commands then uses only morphology.
    """
    from cytosae.analysis import stain_response as respond

    result = respond(study, settings, device=device, weights=weights)
    if as_json:
        answer(result, as_json)
        return
    words = ("morphology", "mixed", "stain", "not seen")
    answer(
        {
            **{
                f"{name}, {counts['cells']} cells": ", ".join(f"{counts[word]:,} {word}" for word in words)
                for name, counts in result["datasets"].items()
            },
            "folder": f"{study / 'stain_response'}",
        },
        as_json,
    )


def _harmonised(method: str) -> str:
    return "as they are" if method == "none" else method
