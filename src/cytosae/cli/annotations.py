"""``cytosae annotations``: what experts said of the latents, as files, as figures, and back into the concepts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Commands
from cytosae.errors import CytosaeError

if TYPE_CHECKING:
    from cytosae.explorer.annotations import Database, Plan

annotations_app = Commands(
    no_args_is_help=True,
    help="Annotations of the latents: export, import, summary, and their names back into the concepts.",
)

_SUMMARY = "cytosae-summary"
Study = Annotated[Path, typer.Argument(help="Folder of a study.")]
Address = Annotated[
    str | None,
    typer.Option(
        "--annotations",
        metavar="ADDRESS",
        help="Database, such as postgresql://user@host/name; STUDY/annotations.sqlite if left out.",
    ),
]


@annotations_app.command("export")
def export_command(
    study: Study,
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".json for worklists, annotations and history; .csv for a table.")
    ] = Path("annotations.json"),
    marks: Annotated[
        bool, typer.Option("--marks", help="Write the marks of taught concepts instead, as .csv.")
    ] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Write all annotations to a file; each says of which autoencoder it is."""
    with _open_database(study, address) as database:
        from cytosae.artefacts import refuse_foreign
        from cytosae.explorer.annotations import export, is_export

        refuse_foreign(output, "annotations export", is_export)
        answer(export(database, output, marks=marks), as_json)


@annotations_app.command("import")
def import_command(
    study: Study,
    file: Annotated[
        Path,
        typer.Argument(
            help="File of `cytosae annotations export`, table of marks, worklist of `cytosae panel`, or folder of "
            "`cytosae compare`."
        ),
    ],
    replace: Annotated[bool, typer.Option("--replace", help="If annotations differ, the newer version wins.")] = False,
    title: Annotated[str | None, typer.Option(help="Title of the worklist of a panel.")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help="Data set whose cells are shown for a comparison; required if the study has several data sets.",
        ),
    ] = None,
    blind_labels: Annotated[
        bool, typer.Option("--blind-labels", help="Hide labels and diagnoses of the cells.")
    ] = False,
    blind_raters: Annotated[bool, typer.Option("--blind-raters", help="Hide the annotations of other raters.")] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Read annotations from a file, or make worklists of a panel or of a comparison.

    Nothing is overwritten: an annotation that differs from the existing one is reported, and the exit code is 1; with
    --replace the newer version wins. Reading a file twice changes nothing.
    """
    with _open_database(study, address, make=True) as database:
        if (plans := _plans(database, file, title, dataset, blind_labels, blind_raters)) is not None:
            made = _added(database, plans)
            lines = {f"{one['worklist']} {one['title']}": _describe_worklist(one) for one in made}
            answer({"worklists": made} if as_json else lines, as_json)
            return
        from cytosae.console import say
        from cytosae.explorer.annotations import take

        taken = take(database, file, replace=replace)
    for conflict in taken.conflicts:
        say(f"annotations: {conflict}; left as it is")
    figures = {name: getattr(taken, name) for name in ("worklists", "added", "unchanged", "replaced", "marks")}
    answer({**figures, "conflicts": taken.conflicts if as_json else len(taken.conflicts)}, as_json)
    if taken.conflicts:
        raise typer.Exit(1)


@annotations_app.command("summary")
def summary_command(
    study: Study,
    worklist: Annotated[int | None, typer.Option(help="Number of a worklist; by default all.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to write the figures to.")] = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show how far each rater is, how many concepts are meaningful, how they are called, and how raters agree.

    Agreement is Cohen's kappa of each pair of raters and Fleiss' kappa of all.
    """
    with _open_database(study, address) as database:
        figures = _summaries(database, worklist)
    if output is not None:
        from cytosae.artefacts import read_json, refuse_foreign, write_json

        refuse_foreign(output, "annotations summary", lambda path: read_json(path)["format"] == _SUMMARY)
        write_json(output, {"format": _SUMMARY, **figures})
    if as_json:
        answer(figures, as_json)
        return
    answer({"autoencoder": figures["autoencoder"], **_lines(figures["worklists"])}, as_json)


@annotations_app.command("apply")
def apply_command(study: Study, address: Address = None, as_json: Json = False) -> None:
    """Write names and verdicts into the concepts: columns 'annotation', 'verdict' and 'annotation_names' of var.

    Concepts and barcodes stay up to date; the report is written again by the next `cytosae run` or `cytosae report`.
    """
    with _open_database(study, address) as database:
        from cytosae.explorer.annotations import OtherAutoencoder, agreed_names, current_annotations, name_latents

        try:
            database.check_autoencoder()
        except OtherAutoencoder as error:
            raise CytosaeError(f"Nothing was applied: the names would land on other latents. {error}") from error
        with database.reading() as session:
            names = agreed_names(current_annotations(session))
    answer(name_latents(study, names), as_json)


@contextmanager
def _open_database(study: Path, address: str | None, *, make: bool = False) -> Iterator[Database]:
    """The annotations of a study, to be added to with `make`; else only read, whatever autoencoder they are of."""
    try:
        from sqlalchemy.exc import SQLAlchemyError

        from cytosae.explorer.annotations import open_database, read_database
        from cytosae.explorer.annotations.addresses import default_address, sqlite_file
        from cytosae.explorer.annotations.database import explained
    except ModuleNotFoundError as error:
        raise CytosaeError(
            f"Annotations need {error.name}, which is not installed: pip install 'cytosae[explorer]'."
        ) from error
    from cytosae.console import say

    file = sqlite_file(address or default_address(study))
    if file is not None and not make and not (file.is_file() and file.stat().st_size):
        raise CytosaeError(
            f"{file}: no annotations yet. "
            f"{_elsewhere(study) or f'Make some with `cytosae explore {study}`, or import them.'}"
        )
    database = open_database(study, address) if make else read_database(study, address)
    if database.notice is not None:
        say(f"annotations: {database.notice}")
    elif elsewhere := _elsewhere(study):
        say(f"annotations: {elsewhere}")
    try:
        yield database
    except SQLAlchemyError as error:
        raise CytosaeError(f"{database.name}: {explained(error)}") from error
    finally:
        database.close()


def _elsewhere(study: Path) -> str:
    """Where judgements of the autoencoders are that the study had before; empty where there are none."""
    from cytosae.explorer.annotations import former_studies

    folders = [
        f"{former.folder} ({_counted(former.judgements)})" for former in former_studies(study) if former.judgements != 0
    ]
    if not folders:
        return ""
    return (
        f"Judgements of autoencoders that this study had before are in {', '.join(folders)}: give that folder instead "
        f"of {study}."
    )


def _counted(judgements: int | None) -> str:
    return "not readable" if judgements is None else f"{judgements:,} judgement{'' if judgements == 1 else 's'}"


def _plans(
    database: Database, file: Path, title: str | None, dataset: str | None, blind_labels: bool, blind_raters: bool
) -> list[Plan] | None:
    """Worklists of a panel or a comparison; None for a file of annotations."""
    from pydantic import ValidationError

    from cytosae.artefacts import read_json
    from cytosae.explorer.annotations import from_comparison, from_panel
    from cytosae.explorer.annotations.schemas import WorklistFile
    from cytosae.explorer.annotations.tabular import first_error

    if not file.exists():
        raise CytosaeError(f"{file}: there is no such file.")
    if file.is_dir():
        known = list(database.datasets or ())
        if dataset is None and len(known) != 1:
            raise CytosaeError(f"--dataset: say whose cells are shown: {', '.join(known)}.")
        return from_comparison(file, dataset or known[0], blind_labels=blind_labels, blind_raters=blind_raters)
    if file.suffix == ".csv":
        return None
    document = read_json(file)
    if not isinstance(document, dict) or document.get("format") != "cytosae-worklist":
        return None
    try:
        panel = WorklistFile.model_validate(document)
    except ValidationError as error:
        raise CytosaeError(f"{file}: {first_error(error)}") from error
    return [from_panel(panel, database.sae, title=title, blind_labels=blind_labels, blind_raters=blind_raters)]


def _added(database: Database, plans: list[Plan]) -> list[dict[str, Any]]:
    from cytosae.explorer.annotations import Unknown, add

    made = []
    for plan in plans:
        try:
            number, new = add(database, plan)
        except Unknown as error:
            raise CytosaeError(f"worklist {plan.title!r}: {error}") from error
        made.append({"worklist": number, "title": plan.title, "items": len(plan.items), "new": new})
    return made


def _describe_worklist(one: dict[str, Any]) -> str:
    return f"{one['items']} items{'' if one['new'] else ', was there already'}"


def _summaries(database: Database, worklist: int | None) -> dict[str, Any]:
    from cytosae.explorer.annotations import Unknown, summarise
    from cytosae.explorer.annotations.whereabouts import DIGITS
    from cytosae.explorer.annotations.worklists import listed

    with database.reading() as session:
        titles: dict[int | None, str] = {row.id: row.title for row in listed(session)}
        if worklist is not None and worklist not in titles:
            known = f"those there are: {', '.join(map(str, titles))}" if titles else "none was made yet"
            raise CytosaeError(f"--worklist {worklist}: there is no worklist {worklist}; {known}.")
        numbers = [*titles, None] if worklist is None else [worklist]
        try:
            summaries = [summarise(session, number).model_dump(mode="json") for number in numbers]
        except Unknown as error:
            raise CytosaeError(f"--worklist {worklist}: {error}") from error
    titles[None] = "outside worklists"
    nonempty = [one for one in summaries if one["worklist"] is not None or one["items"]]
    return {
        "autoencoder": database.sae[:DIGITS],
        "worklists": [{"title": titles[one["worklist"]], **one} for one in nonempty],
    }


def _lines(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """A line each, as text."""
    lines: dict[str, Any] = {}
    for one in summaries:
        head = one["title"] if one["worklist"] is None else f"{one['worklist']} {one['title']}"
        lines[f"{head} | items"] = one["items"]
        for rater in one["raters"]:
            given = ", ".join(
                f"{rater[key]} {key.replace('_', ' ')}" for key in ("meaningful", "artefact", "cannot_tell")
            )
            lines[f"{head} | {rater['name']}"] = f"{rater['done']} judged: {given}"
        lines[f"{head} | meaningful"] = _fraction(one["meaningful"])
        if one["specific"]:
            lines[f"{head} | specific for {one['specific']['disease']}"] = _fraction(one["specific"])
        for pair in one["agreement"]["cohen"]:
            lines[f"{head} | kappa {' and '.join(pair['raters'])}"] = f"{_number(pair['kappa'])}, {pair['n']} items"
        if together := one["agreement"]["fleiss"]:
            kappa = f"{_number(together['kappa'])}, {together['items']} items by {together['raters']} raters"
            lines[f"{head} | kappa of all (Fleiss)"] = kappa
        for named in one["names"]:
            given = "; ".join(f"{name['name']} ({', '.join(name['raters'])})" for name in named["given"])
            lines[f"{head} | concept {named['latent']} of {named['dataset']}"] = given
    return lines


def _fraction(counts: dict[str, Any]) -> str:
    first = counts["first_ten"]
    return f"{counts['x']} of {counts['y']}, of the first ten {first['x']} of {first['y']}"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
