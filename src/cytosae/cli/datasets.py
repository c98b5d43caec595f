"""``cytosae datasets``: published data sets, from where they lie to a table of cells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Commands

if TYPE_CHECKING:
    from cytosae.cells.datasets import DataSet

datasets_app = Commands(
    urls=False,
    no_args_is_help=True,
    help="Published data sets: licences and citations, downloads, and tables of their cells.",
)

Name = Annotated[str, typer.Argument(help="Name of the data set, as in `cytosae datasets list`.")]
_SHOWN = 5


@datasets_app.command("list")
def list_command(as_json: Json = False) -> None:
    """List the data sets whose published layout is read."""
    from cytosae.cells.datasets import DATASETS

    if as_json:
        answer({name: _described(one) for name, one in DATASETS.items()}, as_json)
        return
    print(f"{'name':<17} {'images':>8}  {'classes':>7}  {'download':<9} {'licence':<12} title")
    for one in DATASETS.values():
        images = "?" if one.images is None else f"{one.images:,}"
        way = "fetch" if one.files or one.record else "by hand"
        licence = (one.licence or "see source").split(" (")[0]
        print(f"{one.name:<17} {images:>8}  {len(one.classes):>7}  {way:<9} {licence:<12} {one.title}")


@datasets_app.command("info")
def info_command(name: Name, as_json: Json = False) -> None:
    """Show everything known of a data set: classes, licence, citation, source, layout, oddities."""
    from cytosae.cells.datasets import find

    dataset = find(name)
    described = _described(dataset)
    if not as_json:
        described["classes"] = {one.code: _counted(one.label, one.images) for one in dataset.classes}
        described["files"] = {file.name: file.checksum or "no checksum published" for file in dataset.files}
        described["oddities"] = {str(number): text for number, text in enumerate(dataset.oddities, 1)}
        for key in ("groupings", "attributes"):
            described[key] = ", ".join(map(str, described[key])) or None
    answer(described, as_json)


@datasets_app.command("fetch")
def fetch_command(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the downloaded files.")],
    only: Annotated[
        str | None, typer.Option("--only", metavar="PATTERN", help="Only files of that name; * and ? stand for others.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Download a data set if it has a stable address; otherwise say where to click.

    Checksums are compared with the published ones. Run it again after an interruption: it resumes.
    """
    from cytosae.cells.datasets import fetch, find
    from cytosae.console import say

    dataset = find(name)
    with _megabytes() as show:
        files = fetch(dataset, output, only, show)
    if unchecked := [file.path.name for file in files if not file.checked]:
        say(f"fetch: no checksum is published for {', '.join(unchecked)}")
    figures: dict[str, Any] = {
        "dataset": dataset.name,
        "files": [str(file.path) for file in files],
        "licence": dataset.licence,
    }
    if not as_json:
        figures["files"] = {file.path.name: "checksum as published" if file.checked else "" for file in files}
        figures["next"] = f"cytosae datasets prepare {dataset.name} {output} -o DIR"
    answer(figures, as_json)


@datasets_app.command("prepare")
def prepare_command(
    name: Name,
    source: Annotated[Path, typer.Argument(help="Folder, archive, or folder of archives, as downloaded.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for cells.csv and dataset.json.")],
    classes: Annotated[
        int | None,
        typer.Option("--classes", help="Number of classes, if there is a choice: 8, 11 or 13 of acevedo."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the cells of a downloaded data set: a table that `cytosae run` takes.

    Archives are unpacked first. Classes and counts are compared with the published ones; files that are not cells are
    listed in left_out.csv. Running it again changes nothing.
    """
    from cytosae.cells.datasets import find, prepare

    with _megabytes() as show:
        done = prepare(find(name), source, output, classes, lambda bytes_done, total: show("unpack", bytes_done, total))
    _warn(done.summary)
    figures = {"table": str(done.table), **done.summary}
    if as_json:
        answer(figures, as_json)
        return
    shown = ("table", "dataset", "licence", "citation", "cells", "published_images", "patients", "masks", "unlabelled")
    lines = {key: figures[key] for key in shown}
    lines["classes"] = {one["code"]: _counted(one["found"], one["published"]) for one in figures["classes"]}
    answer(lines | {"left_out": figures["left_out"]}, as_json)


def _warn(summary: dict[str, Any]) -> None:
    from cytosae.console import say

    if missing := summary["missing"]:
        say(f"prepare: no image of {len(missing)} published classes: {', '.join(missing)}")
    for folder, count in list(summary["unknown_folders"].items())[:_SHOWN]:
        say(f"prepare: {count} images in {folder!r} are of no published class and left out")
    if total := sum(summary["left_out"].values()):
        say(f"prepare: {total} files left out; left_out.csv names them")
    for note in summary["notes"]:
        say(f"prepare: {note}")


def _described(one: DataSet) -> dict[str, Any]:
    from dataclasses import fields

    facts = {field.name: getattr(one, field.name) for field in fields(one) if field.name != "reader"}
    facts["classes"] = [{"code": c.code, one.classes_are: c.label, "images": c.images} for c in one.classes]
    facts["files"] = [{key: getattr(f, key) for key in ("name", "address", "checksum", "bytes")} for f in one.files]
    facts["groupings"] = sorted(one.groupings)
    return facts


def _counted(first: object, second: int | None) -> str:
    if second is None:
        return str(first)
    return f"{first} of {second:,}" if isinstance(first, int) else f"{first}, {second:,} images"


@contextmanager
def _megabytes() -> Iterator[Any]:
    """Progress in megabytes, a bar for each file."""
    from cytosae.console import Bar

    bars: dict[str, Bar] = {}

    def show(name: str, done: int, total: int) -> None:
        if name not in bars:
            for bar in bars.values():
                bar.close()
            bars[name] = Bar(name, total >> 20, "MB", done >> 20)
        if total >> 20 != bars[name].total:
            bars[name].resize(total >> 20)
        bars[name].to(done >> 20)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()
