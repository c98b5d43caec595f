"""``cytosae tokens``: tokens that other programs have made, as a token store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Commands, with_settings
from cytosae.settings import StoreConfig

tokens_app = Commands(no_args_is_help=True, help="Tokens that other programs have made.")


@tokens_app.command("import")
@with_settings
def import_command(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of saev, .npy array, HDF5 file with a data set 'features', or a folder with such a file a patient."
        ),
    ],
    store: StoreConfig,
    cells: Annotated[
        Path | None,
        typer.Option("--cells", help="Table made by `cytosae cells`, in the order of the tokens; not needed for bags."),
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option("--patients", help="For bags without --cells: table of the patients, such as diagnoses."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the tokens.")] = Path("tokens"),
    layer: Annotated[
        int | None, typer.Option(help="Layer of a folder of saev, in its numbering; only recorded for other files.")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(help="Rows and columns of patches, such as 16x16; a square if left out.")
    ] = None,
    cls: Annotated[
        str | None,
        typer.Option(
            "--cls", help="Whether token 0 is CLS: first or none; detected from the number of tokens if left out."
        ),
    ] = None,
    made_by: Annotated[
        str | None,
        typer.Option("--made-by", help="Model that made the tokens: imports of one model fit the same autoencoder."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a token store of tokens that another program has made, for `cytosae train` and `cytosae encode`.

    An interrupted run resumes at the next shard.
    """
    from cytosae.cells import read_cells
    from cytosae.console import say
    from cytosae.errors import CytosaeError
    from cytosae.tokens import bag_cells, import_tokens

    if cells is not None and patients is not None:
        raise CytosaeError(
            "--patients: belongs to bags without --cells; that table says already what the patients have."
        )
    if cells is None and not source.is_dir():
        raise CytosaeError(
            f"{source}: needs --cells, the table of its cells. Only a folder with a bag a patient does not."
        )
    if cells is None:
        say("tokens: cells without images: no concept maps, no reference images, no search for cells of two patients")
    table = bag_cells(source, patients) if cells is None else read_cells(cells)
    figures = import_tokens(source, table, output, store, layer=layer, grid=grid, cls=cls, made_by=made_by)
    answer(figures, as_json)
