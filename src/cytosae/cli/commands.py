"""All commands. Heavy modules are imported inside each, so that ``--help`` answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

from cytosae import __version__
from cytosae.cli.annotations import annotations_app
from cytosae.cli.backbones import backbones_app
from cytosae.cli.concepts import concepts_app
from cytosae.cli.datasets import datasets_app
from cytosae.cli.exchange import exchange_app
from cytosae.cli.fields import fields_app
from cytosae.cli.labels import labels_app
from cytosae.cli.laboratories import laboratories_app
from cytosae.cli.measuring import measuring_app
from cytosae.cli.one_patient import one_patient_app
from cytosae.cli.options import Commands
from cytosae.cli.patients import patients_app
from cytosae.cli.refining import refining_app
from cytosae.cli.reproduce import reproduce_app
from cytosae.cli.stages import stages_app
from cytosae.cli.starting import starting_app
from cytosae.cli.studies import studies_app
from cytosae.cli.suggest import suggest_app
from cytosae.cli.sweep import sweep_app
from cytosae.cli.teaching import teaching_app
from cytosae.cli.tokens import tokens_app

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


def _print_version(asked: bool) -> None:
    if asked:
        print(f"cytosae {__version__}")
        raise typer.Exit


@app.callback()
def every_command(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options before the name of a command."""


app.add_typer(starting_app)
app.add_typer(stages_app)
app.add_typer(fields_app)
app.add_typer(measuring_app)
app.add_typer(concepts_app)
app.add_typer(teaching_app)
app.add_typer(refining_app)
app.add_typer(patients_app)
app.add_typer(one_patient_app)
app.add_typer(labels_app)
app.add_typer(laboratories_app)
app.add_typer(studies_app)
app.add_typer(annotations_app, name="annotations")
app.add_typer(datasets_app, name="datasets")
app.add_typer(reproduce_app)
app.add_typer(sweep_app)
app.add_typer(backbones_app, name="backbones")
app.add_typer(tokens_app, name="tokens")
app.add_typer(suggest_app)
app.add_typer(exchange_app)
