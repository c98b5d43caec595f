"""The interface of the marks of taught concepts: set, withdraw, read, export."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query, Response

from cytosae.artefacts import SPREADSHEET
from cytosae.errors import NotFound
from cytosae.explorer.annotations import mark_schemas as s
from cytosae.explorer.annotations import schemas
from cytosae.explorer.annotations.database import Database
from cytosae.explorer.annotations.mark_tables import to_marks_csv
from cytosae.explorer.annotations.marking import (
    WHOLE_CELL,
    PlacedMark,
    current_marks,
    mark_history,
    marks_agreement,
    save_marks,
)
from cytosae.explorer.annotations.routes import annotation_router
from cytosae.explorer.annotations.stored import utc_now
from cytosae.explorer.reader import StudyReader

Concept = Annotated[s.Concept, Query(description="name of a taught concept")]
_TABLE = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "The table."}}


def router(database: Database, reader: StudyReader) -> APIRouter:
    """``/api/marks``, over one database."""
    api = annotation_router(database)

    @api.get("/marks/concepts")
    def concepts() -> list[s.MarkedConcept]:
        """All concepts that are being taught, with their marks and how far raters agree, the latest last."""
        with database.reading() as session:
            holding = current_marks(session)
        grouped: dict[str, list[PlacedMark]] = {}
        for mark in holding:
            grouped.setdefault(mark.concept, []).append(mark)
        return sorted((_summary(name, marks) for name, marks in grouped.items()), key=lambda one: one.updated)

    @api.get("/marks/of-cell")
    def marks_of_cell(dataset: schemas.Dataset, row: schemas.Latent) -> list[s.Mark]:
        """The marks on a cell, of all concepts and raters."""
        name = _cell(reader, dataset, row)
        with database.reading() as session:
            return _answers(reader, current_marks(session, cell=(dataset, name)))

    @api.get("/marks")
    def marks_of_concept(concept: Concept) -> list[s.Mark]:
        """The marks of a concept, of all raters."""
        with database.reading() as session:
            return _answers(reader, current_marks(session, concept))

    @api.get("/marks/history")
    def history(concept: Concept) -> list[s.Mark]:
        """Every mark of a concept that was ever set or withdrawn, oldest first."""
        with database.reading() as session:
            return _answers(reader, mark_history(session, concept))

    @api.put("/marks")
    def put_marks(wish: s.MarksRequest) -> list[s.Mark]:
        """Set or withdraw marks. When the answer comes they are on the disk; it has the marks that hold on these cells."""
        time, n_patches = utc_now(), reader.grid[0] * reader.grid[1]
        names: dict[tuple[str, int], str] = {}
        for one in wish.marks:
            if (one.dataset, one.row) not in names:
                names[one.dataset, one.row] = _cell(reader, one.dataset, one.row)
            if one.patch is not None and one.patch >= n_patches:
                raise NotFound(f"patch {one.patch}: a cell has patches 0 to {n_patches - 1}.")
        save_marks(
            database,
            [
                PlacedMark(
                    one.uid,
                    wish.concept,
                    one.dataset,
                    names[one.dataset, one.row],
                    WHOLE_CELL if one.patch is None else one.patch,
                    one.mark,
                    wish.rater,
                    time,
                )
                for one in wish.marks
            ],
        )
        with database.reading() as session:
            cells = {(dataset, name) for (dataset, _), name in names.items()}
            return _answers(reader, [one for one in current_marks(session, wish.concept) if one.place[:2] in cells])

    @api.get("/marks/export", response_class=Response, responses=_TABLE)  # type: ignore[arg-type]
    def export_marks(
        concept: Annotated[s.Concept | None, Query(description="one concept; all if left out")] = None,
    ) -> Response:
        """The last mark of each rater on each place, as a table that `cytosae teach` takes."""
        with database.reading() as session:
            body = to_marks_csv(current_marks(session, concept, taken_back=True)).encode(SPREADSHEET)
        headers = {"Content-Disposition": 'attachment; filename="marks.csv"'}
        return Response(body, media_type="text/csv; charset=utf-8", headers=headers)

    return api


def _cell(reader: StudyReader, dataset: str, row: int) -> str:
    data = reader.dataset(dataset)
    data.check_row(row)
    return data.names([row])[0]


def _answers(reader: StudyReader, marks: Iterable[PlacedMark]) -> list[s.Mark]:
    marks = list(marks)
    rows: dict[tuple[str, str], int] = {}
    for dataset in {mark.dataset for mark in marks} & set(reader.datasets):
        wanted = {mark.cell for mark in marks if mark.dataset == dataset}
        rows |= {(dataset, name): row for name, row in reader.dataset(dataset).rows_of(wanted).items()}
    return [
        s.Mark(
            concept=mark.concept,
            dataset=mark.dataset,
            row=rows.get((mark.dataset, mark.cell)),
            cell_id=mark.cell,
            patch=None if mark.patch == WHOLE_CELL else mark.patch,
            mark=mark.mark,
            rater=mark.rater,
            time=mark.time,
        )
        for mark in marks
    ]


def _summary(concept: str, marks: list[PlacedMark]) -> s.MarkedConcept:
    counts = {
        f"{kind}_{of}": sum(one.mark == kind and (one.patch == WHOLE_CELL) == (of == "cells") for one in marks)
        for kind in ("this", "not")
        for of in ("patches", "cells")
    }
    raters: dict[str, int] = {}
    for one in marks:
        raters[one.rater] = raters.get(one.rater, 0) + 1
    agreement = [
        s.PlacesAgreement(raters=pair, kappa=kappa, n=n, same=same) for pair, kappa, n, same in marks_agreement(marks)
    ]
    return s.MarkedConcept(
        concept=concept,
        **counts,
        cells=len({one.place[:2] for one in marks}),
        raters=raters,
        agreement=agreement,
        updated=max(one.time for one in marks),
    )
