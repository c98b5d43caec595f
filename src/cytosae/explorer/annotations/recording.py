"""Write annotations and read them back: the current state and the history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cytosae.explorer.annotations import schemas, tables
from cytosae.explorer.annotations.database import Database
from cytosae.explorer.annotations.lookup import check_item
from cytosae.explorer.annotations.stored import StoredChange

_CONTENT = set(schemas.Content.model_fields)


class Stale(Exception):
    """The version that was to be replaced is not the current one."""


def save_annotation(database: Database, wish: schemas.AnnotationRequest) -> schemas.Annotation:
    """Replace the version of an annotation that the rater saw by a new one, and add that to the history.

    When it returns, both are on the disk.

    Raises
    ------
    Stale
        Another version is there by now; nothing was written.
    Unknown
        No such worklist, item, data set or latent.
    """
    with database.writing() as session:
        if wish.worklist is not None:
            check_item(session, wish.worklist, wish.dataset, wish.latent)
        database.check(wish.dataset, wish.latent)
        return write(session, wish, extract_content(wish), wish.version, wish.version + 1, datetime.now(UTC))


def write(
    session: Session,
    key: schemas.AnnotationKey,
    content: schemas.Content,
    seen: int,
    version: int,
    time: datetime,
    *,
    created: datetime | None = None,
) -> schemas.Annotation:
    """Bring an annotation from the version `seen` (0: none) to another, if it is still in that; history included.

    One statement compares and replaces: of two writers who saw the same version, the second finds none to replace,
    in every database.

    Raises
    ------
    Stale
        It is in another version; the session cannot be used further.
    """
    values = {**content.model_dump(), "version": version}
    if seen == 0:
        created = created or time
        row = {**_keys(key), **values, "scope": key.worklist or 0, "created": created, "updated": time}
        try:
            session.execute(insert(tables.Annotation).values(**row))
        except IntegrityError as error:
            raise Stale from error
    else:
        result = session.execute(
            update(tables.Annotation)
            .where(*_at(key), tables.Annotation.version == seen)
            .values(**values, updated=time)
            .execution_options(synchronize_session=False)
        )
        if cast(CursorResult[Any], result).rowcount != 1:
            raise Stale
        created = session.scalars(select(tables.Annotation.created).where(*_at(key))).one()
    _append(session, key, content, version, time)
    return schemas.Annotation(
        **key.model_dump(include=set(schemas.AnnotationKey.model_fields)), **values, created=created, updated=time
    )


def restore(session: Session, key: schemas.AnnotationKey, history: Sequence[StoredChange]) -> None:
    """Add states of an annotation to its history, those that are not in it."""
    known = {(change.version, change.time) for change in changes(session, key)}
    for change in history:
        if (change.version, change.time) not in known:
            _append(session, key, extract_content(change), change.version, change.time)


def extract_content(annotation: schemas.Content) -> schemas.Content:
    """The content of an annotation, without its key, version and times."""
    return schemas.Content(**annotation.model_dump(include=_CONTENT))


def current(session: Session, key: schemas.AnnotationKey) -> schemas.Annotation | None:
    """The current state of one annotation."""
    row = session.scalars(select(tables.Annotation).where(*_at(key))).one_or_none()
    return None if row is None else _annotation(row)


def current_annotations(
    session: Session,
    *,
    latent: int | None = None,
    rater: str | None = None,
    worklists: bool = True,
    worklist: int | None = None,
    blind: bool = False,
    asking: str | None = None,
) -> list[schemas.Annotation]:
    """Current annotations, in the order in which they were begun.

    Parameters
    ----------
    latent, rater
        Only those of this latent, by this rater.
    worklists, worklist
        With `worklists` false only those outside any worklist; with a number only those in that one.
    blind, asking
        Leave out what others than the rater who asks said in worklists that hide raters from one another; see `hides`.
    """
    query = select(tables.Annotation).order_by(tables.Annotation.id)
    if latent is not None:
        query = query.where(tables.Annotation.latent == latent)
    if rater is not None:
        query = query.where(tables.Annotation.rater == rater)
    if worklist is not None or not worklists:
        query = query.where(tables.Annotation.scope == (worklist or 0))
    if blind and hides(session, asking):
        query = query.where(_shown(tables.Annotation, asking))
    return [_annotation(row) for row in session.scalars(query)]


def history(session: Session, dataset: str, latent: int, asking: str | None = None) -> list[schemas.Change]:
    """Every state of the annotations of a latent in a data set, oldest first; blind as in `current_annotations`."""
    is_latent = tables.Change.dataset == dataset, tables.Change.latent == latent
    query = select(tables.Change).where(*is_latent).order_by(tables.Change.id)
    if hides(session, asking):
        query = query.where(_shown(tables.Change, asking))
    return [_change(row) for row in session.scalars(query)]


def hides(session: Session, asking: str | None) -> bool:
    """Whether anything can be hidden from the rater who asks: not where there is one rater, who asks, or nobody else."""
    raters = session.scalars(select(tables.Annotation.rater).distinct().limit(2)).all()
    return len(raters) > 1 or asking not in {None, *raters}


def changes(session: Session, key: schemas.AnnotationKey | None = None) -> Iterable[schemas.Change]:
    """The history of one annotation or of all, oldest first."""
    query = select(tables.Change).order_by(tables.Change.id)
    if key is not None:
        wanted = {**_keys(key)}
        number = wanted.pop("worklist_id")
        column = tables.Change.worklist_id
        query = query.filter_by(**wanted).where(column.is_(None) if number is None else column == number)
    return map(_change, session.scalars(query))


def _append(
    session: Session, key: schemas.AnnotationKey, content: schemas.Content, version: int, time: datetime
) -> None:
    row = {**_keys(key), **content.model_dump(), "version": version, "time": time}
    session.execute(insert(tables.Change).values(**row))


def _keys(key: schemas.AnnotationKey) -> dict[str, Any]:
    return {
        "worklist_id": key.worklist,
        "dataset": key.dataset,
        "latent": key.latent,
        "rater": key.rater,
    }


def _at(key: schemas.AnnotationKey) -> list[ColumnElement[bool]]:
    return [
        tables.Annotation.scope == (key.worklist or 0),
        tables.Annotation.dataset == key.dataset,
        tables.Annotation.latent == key.latent,
        tables.Annotation.rater == key.rater,
    ]


def _annotation(row: tables.Annotation) -> schemas.Annotation:
    return schemas.Annotation(**_fields(row), created=row.created, updated=row.updated)


def _change(row: tables.Change) -> schemas.Change:
    return schemas.Change(**_fields(row), time=row.time)


def _fields(row: tables.Judgement) -> dict[str, Any]:
    fields = {name: getattr(row, name) for name in ("dataset", "latent", "rater", "version", *_CONTENT)}
    return {"worklist": row.worklist_id, **fields}


def _shown(table: type[tables.Annotation] | type[tables.Change], asking: str | None) -> ColumnElement[bool]:
    hidden = select(tables.Worklist.id).where(tables.Worklist.blind_raters)
    shown = or_(table.worklist_id.is_(None), table.worklist_id.not_in(hidden))
    return shown if asking is None else or_(shown, table.rater == asking)
