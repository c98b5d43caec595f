"""Concepts that are taught by pointing: what was learned, its map on a cell, the cells worth marking next."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import APIRouter

from cytosae.explorer.annotations import Database, PlacedMark, current_marks, schemas
from cytosae.explorer.annotations.mark_routes import Concept
from cytosae.explorer.annotations.routes import annotation_router
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.schemas import teaching as s

if TYPE_CHECKING:
    from cytosae.explorer.taught import TaughtConcepts


def router(reader: StudyReader, database: Database, taught: Callable[[], TaughtConcepts]) -> APIRouter:
    """``/api/taught``."""
    api = annotation_router(database)

    def marks_of(concept: str) -> list[PlacedMark]:
        with database.reading() as session:
            return current_marks(session, concept)

    @api.get("/taught")
    def learned(concept: Concept) -> s.LearnedConcept:
        """What the marks of a concept teach, learned now: how good it is and how sure that is, its latents and cells."""
        return taught().described(marks_of(concept))

    @api.get("/taught/map")
    def map_(concept: Concept, dataset: schemas.Dataset, row: schemas.Latent) -> s.TaughtMap:
        """A taught concept on a cell."""
        data = reader.dataset(dataset)
        data.check_row(row)
        return taught().map(marks_of(concept), data, row)

    @api.get("/taught/next")
    def next_(concept: Concept) -> s.NextCells:
        """The cells worth marking next: uncertain, diverse, of patients and data sets that have no mark."""
        return taught().next_cells(marks_of(concept))

    return api
