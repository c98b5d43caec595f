"""``cytosae patient``: what is unusual in one patient, of a study or beside it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Column, Commands, Device, with_ending, with_settings
from cytosae.settings import PatientConfig

one_patient_app = Commands()


@one_patient_app.command()
@with_settings
def patient(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    name: Annotated[str, typer.Argument(metavar="ID", help="The patient.")],
    settings: PatientConfig,
    concept: Annotated[
        list[str],
        typer.Option(
            "--concept",
            metavar="LATENT",
            help="List all cells that show this concept (number or name), and how many to expect by chance. Can be "
            "repeated.",
        ),
    ] = [],  # noqa: B006
    barcodes: Annotated[
        Path | None, typer.Option("--barcodes", help="Barcodes; those of the study if left out.")
    ] = None,
    new: Annotated[
        Path | None,
        typer.Option(
            "--new",
            metavar="CELLS",
            help="Table or folder with the cells of a patient who is not in the study, to set beside those who are.",
        ),
    ] = None,
    column: Column = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Page; patient-ID.html if left out.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write a page on one patient: what is unusual compared with healthy patients and with the same diagnosis, and
    where.

    The patient is one of the study's or, with --new, one whose images you have got since: nothing of the study changes.
    The page states the rule that selects concepts and cells. With a classification of the study it shows the prediction
    too; and it shows cells unlike those of any other patient.
    """
    from cytosae.analysis import show_patient
    from cytosae.artefacts import refuse_foreign
    from cytosae.cells import chosen_columns
    from cytosae.concepts import file_name
    from cytosae.report import is_patient_page

    page = with_ending(output or Path(f"patient-{file_name(name)}.html"), ".html", ".htm")
    refuse_foreign(page, f"patient {study} {name}", partial(is_patient_page, title=f"Patient {name}"))
    result = show_patient(
        study,
        name,
        page,
        settings,
        concepts=concept,
        barcodes=barcodes,
        new=new,
        columns=chosen_columns(column),
        device=device,
    )
    if as_json:
        answer(result, as_json)
        return
    lines = {}
    for group, figures in result["against"].items():
        closest = "" if figures["unusual"] else "not unusual: "
        for row in figures["concepts"]:
            beside = f"{row['patient']:.3g} against {row['group']:.3g}, t {row['t']:.1f}, FDR {row['fdr']:.2g}"
            lines[f"against {group} | {closest}latent {row['latent']}"] = beside
    of_concepts = {f"cells with {name}": figures for name, figures in result["shown"].items()}
    if result["unfamiliar"] is not None:
        of_concepts["cells like none of other patients"] = result["unfamiliar"]
    for name, figures in of_concepts.items():
        chance = figures["by_chance"]
        interval = f"{chance['low']:.0f} to {chance['high']:.0f}"
        lines[name] = f"{figures['found']}, by chance {chance['expected']:.1f} ({interval}), p {chance['p']:.2g}"
    answer({**lines, "page": result["page"]}, as_json)
