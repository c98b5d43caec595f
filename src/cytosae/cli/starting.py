"""``cytosae init``: a table and a settings file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Column, Commands, Source
from cytosae.errors import CytosaeError
from cytosae.settings import (
    PRESETS,
    BackboneConfig,
    BarcodeConfig,
    EncodeConfig,
    ImageConfig,
    StoreConfig,
)

starting_app = Commands(urls=False)

_COLUMNS = ("label", "patient", "diagnosis", "laboratory")
_HEAD = """\
# Settings of `cytosae run`. Remove the # before a line to change it; an option on the command line goes before it.
#
# Columns of the table beside this file (only path is needed; leave empty what you do not know):
#   path        image of one cell
#   label       cell type, such as monocyte
#   patient     whose cell it is; the same text for all cells of a patient
#   diagnosis   of the patient, the same in all of its rows
#   laboratory  where the cells were stained and photographed

# Settings of the training that you leave out: recommended, or the paper's.
#preset: recommended

"""


@starting_app.command()
def init(
    cells: Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for cells.csv and settings.yaml.")] = Path(),
    column: Column = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Write a table of your images to fill in, and a settings file that explains every setting.

    Then: cytosae run cells.csv --settings settings.yaml --study STUDY. Nothing that is there is overwritten.
    """
    from cytosae.artefacts import whole_file, write_csv
    from cytosae.cells import chosen_columns, read_source
    from cytosae.settings.yaml_files import settings_text

    table, file = output / "cells.csv", output / "settings.yaml"
    for path in (table, file):
        if path.exists():
            raise CytosaeError(f"{path}: exists already. Remove it, or choose another folder with --output.")
    listed = read_source(cells, chosen_columns(column))
    for name in _COLUMNS:
        if name not in listed:
            listed[name] = None
    known = [name for name in listed if name in ("path", *_COLUMNS) or listed[name].notna().any()]
    settings = (BackboneConfig(), ImageConfig(), StoreConfig(), PRESETS["recommended"], EncodeConfig(), BarcodeConfig())
    write_csv(table, listed[["path", *(name for name in known if name != "path")]])
    with whole_file(file) as temporary:
        temporary.write_text(_HEAD + settings_text(settings, active=False), encoding="utf-8")
    answer({"cells": len(listed), "table": f"{table}", "settings": f"{file}"}, as_json)
