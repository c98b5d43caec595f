"""Annotations and marks as files: JSON with everything, CSV with the current state; and files back into a database."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cytosae.artefacts import SPREADSHEET, read_json, whole_file, write_json
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import recording, schemas, tables
from cytosae.explorer.annotations.database import Database, Unknown
from cytosae.explorer.annotations.lookup import check_item
from cytosae.explorer.annotations.mark_tables import (
    MARK_COLUMNS,
    from_marks_csv,
    is_marks_csv,
    stored_marks,
    take_marks,
    to_marks_csv,
)
from cytosae.explorer.annotations.marking import current_marks, mark_history
from cytosae.explorer.annotations.stored import FORMAT, Stored, StoredAnnotation, StoredChange, StoredWorklist
from cytosae.explorer.annotations.tabular import COLUMNS, first_error, from_csv, to_csv
from cytosae.explorer.annotations.whereabouts import DIGITS
from cytosae.explorer.annotations.worklists import Plan, add_to


@dataclass
class Taken:
    """What became of the annotations of a file.

    Attributes
    ----------
    worklists
        Made.
    added, unchanged, replaced
        Annotations that were new, were equal, or gave way to a newer version.
    marks
        Marks of taught concepts, withdrawals included, that were new.
    conflicts
        Those that differ, each as a phrase; what the database had has stayed.
    """

    worklists: int = 0
    added: int = 0
    unchanged: int = 0
    replaced: int = 0
    marks: int = 0
    conflicts: list[str] = field(default_factory=list)


def everything(database: Database, *, blind: bool = False, asking: str | None = None) -> Stored:
    """All that is in a database, at one moment.

    With `blind`, judgements that are hidden from the rater who is `asking` are left out; see `current_annotations`.
    """
    with database.reading() as session:
        rows = list(session.scalars(select(tables.Worklist).order_by(tables.Worklist.id)))
        uids: dict[int | None, str | None] = {None: None} | {row.id: row.uid for row in rows}
        history: dict[tuple[Any, ...], list[StoredChange]] = {}
        for change in recording.changes(session):
            stored = StoredChange(**change.model_dump(include=set(StoredChange.model_fields)))
            history.setdefault(_annotation_key(change), []).append(stored)
        annotations = [
            StoredAnnotation(
                **annotation.model_dump(exclude={"worklist"}),
                worklist=uids[annotation.worklist],
                history=history[_annotation_key(annotation)],
            )
            for annotation in recording.current_annotations(session, blind=blind, asking=asking)
        ]
        worklists = [StoredWorklist.model_validate(_facts(row)) for row in rows]
        marks = stored_marks(mark_history(session)) if database.has_marks else []
    return Stored(inputs={"sae": database.sae}, worklists=worklists, annotations=annotations, marks=marks)


def is_export(path: Path) -> bool:
    """Whether a file is one of `export`."""
    if path.suffix == ".json":
        return bool(read_json(path)["format"] == FORMAT)
    with path.open(encoding="utf-8-sig", newline="") as file:
        return tuple(next(csv.reader(file))) in {COLUMNS, MARK_COLUMNS}


def export(database: Database, path: Path, *, marks: bool = False) -> dict[str, Any]:
    """Write a database to a file: ``.json`` with worklists, marks and histories, ``.csv`` with a row per annotation.

    With `marks` a CSV has the last mark of each rater on each place, ``none`` included, as `cytosae teach` takes it.

    Returns
    -------
    The path, the first digits of the autoencoder's digest, and the numbers of worklists, annotations and marks.
    """
    if path.suffix not in {".json", ".csv"}:
        raise CytosaeError(f"{path}: give a name that ends in .json (everything) or .csv (a table).")
    if marks and path.suffix != ".csv":
        raise CytosaeError(f"{path}: a table of marks is a .csv; a .json has the marks beside all the rest.")
    if marks:
        with database.reading() as session:
            last = current_marks(session, taken_back=True) if database.has_marks else []
        with whole_file(path) as temporary:
            temporary.write_text(to_marks_csv(last), encoding=SPREADSHEET, newline="")
        return {"file": f"{path}", "autoencoder": database.sae[:DIGITS], "marks": len(last)}
    content = everything(database)
    if path.suffix == ".json":
        write_json(path, content.model_dump(mode="json"))
    else:
        with whole_file(path) as temporary:
            temporary.write_text(to_csv(content), encoding=SPREADSHEET, newline="")
    return {
        "file": f"{path}",
        "autoencoder": database.sae[:DIGITS],
        "worklists": len(content.worklists),
        "annotations": len(content.annotations),
        "marks": len(content.marks),
    }


def take(database: Database, path: Path, *, replace: bool = False) -> Taken:
    """Read a file of `export` into a database: all of it or, after an error, nothing.

    What the database has in the same words stays as it is, so that a file can be read twice. What differs is a
    conflict: it stays too, and is reported. With `replace` the newer of both wins (by version, then by time); what
    was there before is in the history still.

    Raises
    ------
    CytosaeError
        Not such a file, one of another autoencoder, data sets or latents that the study does not have, or somebody
        wrote at the same time.
    """
    database.check_autoencoder()
    if path.suffix != ".csv":
        content = _from_json(path)
    elif is_marks_csv(path):
        content = from_marks_csv(path, list(database.datasets or ()))
    else:
        content = from_csv(path)
    if "sae" in content.inputs:
        if (sae := content.inputs["sae"]) != database.sae:
            raise CytosaeError(
                f"{path}: annotations of another autoencoder ({sae[:12]}) than that of the study "
                f"({database.sae[:12]}), whose latents mean other things."
            )
    elif content.annotations:  # marks are of patches, whatever the autoencoder
        say(
            f"{path}: does not say of which autoencoder it is; its latents are read as those of {database.sae[:DIGITS]}"
        )
    taken = Taken()
    try:
        with database.writing() as session:
            numbers = _worklists(database, session, content.worklists, taken)
            for annotation in content.annotations:
                _take(database, session, annotation, numbers, replace, taken)
            taken.marks = take_marks(database, session, content.marks)
    except Unknown as error:
        raise CytosaeError(f"{path}: {error} Nothing was imported.") from error
    except (recording.Stale, IntegrityError) as error:
        raise CytosaeError(
            f"{database.name}: somebody wrote at the same time, nothing was imported. Run the same command again."
        ) from error
    return taken


def _worklists(
    database: Database, session: Session, worklists: Iterable[StoredWorklist], taken: Taken
) -> dict[str, int]:
    """Make the worklists that are not there; the numbers of all, by uid."""
    numbers = {}
    for worklist in worklists:
        items = [(item.dataset, item.latent, item.about) for item in worklist.items]
        plan = Plan(items=items, **worklist.model_dump(exclude={"items"}))
        numbers[worklist.uid], new = add_to(database, session, plan)
        taken.worklists += new
    return numbers


def _take(
    database: Database,
    session: Session,
    wanted: StoredAnnotation,
    numbers: dict[str, int],
    replace: bool,
    taken: Taken,
) -> None:
    number = None
    if wanted.worklist is not None:
        number = numbers.get(wanted.worklist) or _number(session, wanted.worklist)
        check_item(session, number, wanted.dataset, wanted.latent)
    database.check(wanted.dataset, wanted.latent)
    key = schemas.AnnotationKey(worklist=number, dataset=wanted.dataset, latent=wanted.latent, rater=wanted.rater)
    content = recording.extract_content(wanted)
    current = recording.current(session, key)
    if current is None:
        recording.restore(session, key, wanted.history[:-1])
        recording.write(session, key, content, 0, wanted.version, wanted.updated, created=wanted.created)
        taken.added += 1
    elif recording.extract_content(current) == content:
        taken.unchanged += 1
    elif replace and (wanted.version, wanted.updated) > (current.version, current.updated):
        recording.restore(session, key, wanted.history[:-1])
        version = max(wanted.version, current.version + 1)  # a window that shows the old one has to notice
        recording.write(session, key, content, current.version, version, wanted.updated)
        taken.replaced += 1
    else:
        taken.conflicts.append(
            f"latent {key.latent} of {key.dataset}, {key.rater}: version {current.version} here, {wanted.version} "
            f"in the file{', which is older' if replace else ''}"
        )


def _number(session: Session, uid: str) -> int:
    """The number of a worklist that is in the database alone: unsent judgements come without their worklist."""
    number = session.scalars(select(tables.Worklist.id).where(tables.Worklist.uid == uid)).one_or_none()
    if number is None:
        raise Unknown(f"There is no worklist {uid!r} in the file or in the database.")
    return number


def _annotation_key(annotation: schemas.AnnotationKey) -> tuple[Any, ...]:
    return annotation.worklist, annotation.dataset, annotation.latent, annotation.rater


def _facts(row: tables.Worklist) -> dict[str, Any]:
    items = [{"dataset": item.dataset, "latent": item.latent, "about": item.about} for item in row.items]
    return {**{name: getattr(row, name) for name in StoredWorklist.model_fields if name != "items"}, "items": items}


def _from_json(path: Path) -> Stored:
    if not path.is_file():
        raise CytosaeError(f"{path}: there is no such file.")
    document = read_json(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CytosaeError(f"{path}: not a file of `cytosae annotations export` (its format is not {FORMAT!r}).")
    try:
        return Stored.model_validate(document)
    except ValidationError as error:
        raise CytosaeError(f"{path}: {first_error(error)}") from error
