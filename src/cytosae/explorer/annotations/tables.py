"""The tables of the annotations. What is current stands in ``annotations``, everything that ever was in ``history``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    DDL,
    JSON,
    CheckConstraint,
    Dialect,
    ForeignKey,
    Index,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    event,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

SCHEMA = 3
"""Version of these tables; a database of a later one is not opened. Version 1 had no ``uid``, version 2 no marks."""


class Utc(TypeDecorator[datetime]):
    """A time with its zone, as text that sorts by time: the same in every database, to the microsecond."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """``2025-01-31T12:00:00.000000Z``."""
        return None if value is None else value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """The time in UTC."""
        return None if value is None else datetime.fromisoformat(value)


class Base(DeclarativeBase):
    """Tables of one database."""

    type_annotation_map = {datetime: Utc, dict[str, Any]: JSON, dict[str, list[str]]: JSON, list[str]: JSON}  # noqa: RUF012


class About(Base):
    """One row: the version of the tables, the autoencoder whose latents are annotated, and what names this database."""

    __tablename__ = "cytosae"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sae: Mapped[str] = mapped_column(String(300))
    created: Mapped[datetime]
    uid: Mapped[str] = mapped_column(String(32), server_default="")


class Worklist(Base):
    """Latents to be judged, in an order."""

    __tablename__ = "worklists"

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(64), unique=True)  # the same in every database that it is copied to
    title: Mapped[str] = mapped_column(String(200))
    created: Mapped[datetime]
    source: Mapped[str] = mapped_column(String(200))
    questions: Mapped[list[str]]
    blind_labels: Mapped[bool]
    blind_raters: Mapped[bool]
    disease: Mapped[str | None] = mapped_column(String(200))
    parameters: Mapped[dict[str, Any]]
    items: Mapped[list[Item]] = relationship(order_by="Item.position", cascade="all")


class Item(Base):
    """One latent of a worklist, in one data set; ``about`` is not shown to raters."""

    __tablename__ = "items"
    __table_args__ = (UniqueConstraint("worklist_id", "dataset", "latent"),)

    worklist_id: Mapped[int] = mapped_column(ForeignKey("worklists.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    dataset: Mapped[str] = mapped_column(String(200))
    latent: Mapped[int]
    about: Mapped[dict[str, Any]]


class Judgement:
    """What a rater says of a latent, and where: the columns that current state and history share."""

    worklist_id: Mapped[int | None] = mapped_column(ForeignKey("worklists.id"))
    dataset: Mapped[str] = mapped_column(String(200))
    latent: Mapped[int]
    rater: Mapped[str] = mapped_column(String(80))
    version: Mapped[int]
    verdict: Mapped[str | None] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(200))
    comment: Mapped[str] = mapped_column(Text)
    terms: Mapped[dict[str, list[str]]]
    specific_for: Mapped[str | None] = mapped_column(String(200))


class Annotation(Judgement, Base):
    """The current state, one for each worklist (or none), data set, latent and rater."""

    __tablename__ = "annotations"
    __table_args__ = (
        UniqueConstraint("scope", "dataset", "latent", "rater"),
        CheckConstraint("scope = coalesce(worklist_id, 0)"),
        Index("annotations_latent", "latent"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    scope: Mapped[int]  # the worklist, 0 for none: nulls are never equal, so that a unique key needs a number
    created: Mapped[datetime]
    updated: Mapped[datetime]


class Change(Judgement, Base):
    """One state that an annotation was put into; rows are only ever added."""

    __tablename__ = "history"
    __table_args__ = (Index("history_latent", "dataset", "latent"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    time: Mapped[datetime]


class Mark(Base):
    """One mark of a taught concept; rows are only ever added. The last row of a rater on a place is what holds."""

    __tablename__ = "marks"
    __table_args__ = (Index("marks_cell", "dataset", "cell"), Index("marks_concept", "concept"))

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(64), unique=True)  # given where the mark is made: sent twice, it is one
    concept: Mapped[str] = mapped_column(String(200))
    dataset: Mapped[str] = mapped_column(String(200))
    cell: Mapped[str] = mapped_column(Text)
    patch: Mapped[int]  # -1: the whole cell
    mark: Mapped[str] = mapped_column(String(10))
    rater: Mapped[str] = mapped_column(String(80))
    time: Mapped[datetime]


def _kept(table: str) -> dict[str, list[str]]:
    """Statements, by dialect, after which rows of a table can only be added."""
    says = f"{table} is only ever added to"
    return {
        "sqlite": [
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{says}'); END"
            for verb in ("UPDATE", "DELETE")
        ],
        "postgresql": [
            f"CREATE OR REPLACE FUNCTION {table}_is_kept() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{says}'; END $$",
            f"CREATE TRIGGER {table}_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            f"EXECUTE FUNCTION {table}_is_kept()",
        ],
    }


for _table in (Change, Mark):
    for _dialect, _statements in _kept(_table.__tablename__).items():
        for _statement in _statements:
            event.listen(_table.__table__, "after_create", DDL(_statement).execute_if(dialect=_dialect))
