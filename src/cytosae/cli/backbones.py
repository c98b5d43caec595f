"""``cytosae backbones``: which backbones are known, and their weights onto this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Commands

backbones_app = Commands(urls=False, no_args_is_help=True, help="Backbones: those known by name, and their weights.")


@backbones_app.command("list")
def list_command(as_json: Json = False) -> None:
    """Show the known backbones: width, blocks, patch, tokens at 224 px, licence, source, and whether they are here.

    For any other model of a supported kind, give its folder or its name on the Hugging Face hub.
    """
    from cytosae.backbones import listed

    rows = listed()
    if as_json:
        answer({"backbones": rows}, as_json)
        return
    table = [("name", "width", "blocks", "patch", "tokens", "licence", "source", "here"), *map(_line, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@backbones_app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help="As --backbone takes it: dinobloom-b, owner/name of the hub, timm:NAME.")],
    source: Annotated[str, typer.Option(help="hub or, for dinobloom-*, zenodo.")] = "hub",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for the weights of a dinobloom-*; by default the cache."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Download the weights of a backbone, check them by loading them once, and print their fingerprint.

    Interrupted downloads resume. Nothing is downloaded if HF_HUB_OFFLINE is set.
    """
    from cytosae.backbones import fetch

    answer(fetch(name, source=source, output=output), as_json)


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    cached = {None: "", True: "yes", False: "no"}[row["cached"]]
    numbers = ("" if row[key] is None else str(row[key]) for key in ("d_model", "depth", "patch_size", "n_tokens"))
    return (row["name"], *numbers, row["licence"], row["source"] + (", gated" if row["gated"] else ""), cached)
