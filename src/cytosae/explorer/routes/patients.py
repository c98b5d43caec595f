"""Patients: all, one of them beside a group, and two groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from cytosae.explorer.caching import bounded, once
from cytosae.explorer.reader import HEALTHY, StudyReader
from cytosae.explorer.routes import Index, Name, Text, answer, named, to_json
from cytosae.explorer.schemas import patient_cells
from cytosae.explorer.schemas import patients as s

if TYPE_CHECKING:
    from cytosae.explorer.cohorts import Cohort
    from cytosae.explorer.retrieval import Retrieval

Features = Literal["counts", "share", "top", "strongest"]
Transform = Literal["none", "log1p", "sqrt"]
Order = Literal["difference", "effect", "reach"]
_ANSWERS_BYTES = 64 * 2**20  # that are kept


def router(reader: StudyReader, cohort: Callable[[], Cohort]) -> APIRouter:
    """``/api/patients`` and ``/api/compare``."""
    routes = APIRouter()

    @bounded(_ANSWERS_BYTES)
    def cohort_answer(method: str, *arguments: Any) -> bytes:
        return to_json(getattr(cohort(), method)(*arguments))

    @once
    def retrieval() -> Retrieval:
        from cytosae.explorer.retrieval import Retrieval  # imports scikit-learn

        return Retrieval(reader, cohort())

    @bounded(_ANSWERS_BYTES)
    def cells_answer(method: str, *arguments: Any) -> bytes:
        return to_json(getattr(retrieval(), method)(*arguments))

    @routes.get("/api/patients", response_model=s.PatientList)
    def patients() -> Response:
        """All patients."""
        return answer(cohort().patients())

    @routes.get("/api/patients/{id}", response_model=s.PatientDetail)
    def patient(
        id: Name,
        against: Annotated[str, Query(max_length=300)] = HEALTHY,
        concepts: Annotated[int, Query(ge=1, le=50)] = 8,
        features: Features = "counts",
        transform: Transform = "none",
    ) -> Response:
        """What is unusual in a patient, and which cells carry it."""
        return answer(cohort_answer("patient", named(id), against or HEALTHY, concepts, features, transform))

    @routes.get("/api/patients/{id}/concepts/{latent}", response_model=patient_cells.ConceptCells)
    def concept(id: Name, latent: Index, against: Annotated[str, Query(max_length=300)] = HEALTHY) -> Response:
        """All cells of a patient that show a concept, and how many are expected by chance."""
        return answer(cells_answer("concept", named(id), latent, against or HEALTHY))

    @routes.get("/api/patients/{id}/unfamiliar", response_model=patient_cells.UnfamiliarAnswer)
    def unfamiliar(id: Name) -> Response:
        """Cells of a patient unlike those of any other patient."""
        return answer(cells_answer("unfamiliar", named(id)))

    @routes.get("/api/compare/{first}/{second}", response_model=s.ComparisonInfo)
    def compare(
        first: Name,
        second: Name,
        adjust: Text = None,
        features: Features = "counts",
        transform: Transform = "none",
        order: Order = "difference",
    ) -> Response:
        """Two groups of patients, latent by latent."""
        chosen = features, transform, order
        return answer(cohort_answer("compare", named(first), named(second), adjust or None, *chosen))

    @routes.get("/api/compare/{first}/{second}/images/{latent}", response_model=s.ComparisonImages)
    def images(first: Name, second: Name, latent: Index) -> Response:
        """Cells of both groups with most of a latent."""
        return answer(cohort_answer("compared_images", named(first), named(second), latent))

    return routes
