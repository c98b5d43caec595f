"""Patients: all, one of them beside a group, and two groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response

from cytosae.explorer import schemas as s
from cytosae.explorer.caching import Bounded
from cytosae.explorer.opened import HEALTHY
from cytosae.explorer.routes import Index, Name, Text, answer, named, written

if TYPE_CHECKING:
    from cytosae.explorer.cohorts import Cohort

_KEPT = 64 * 2**20  # bytes of answers


def router(cohort: Callable[[], Cohort]) -> APIRouter:
    """``/api/patients`` and ``/api/compare``."""
    routes = APIRouter()
    kept: Bounded[bytes] = Bounded(_KEPT, len)

    @routes.get("/api/patients", response_model=s.PatientList)
    def patients() -> Response:
        """All patients."""
        return answer(cohort().patients())

    @routes.get("/api/patients/{id}", response_model=s.PatientDetail)
    def patient(
        id: Name,
        against: Annotated[str, Query(max_length=300)] = HEALTHY,
        concepts: Annotated[int, Query(ge=1, le=50)] = 8,
    ) -> Response:
        """What is unusual in a patient, and which cells carry it."""
        name = named(id)
        return answer(
            kept.get(
                ("patient", name, against, concepts),
                lambda: written(cohort().patient(name, against or HEALTHY, concepts)),
            )
        )

    @routes.get("/api/compare/{first}/{second}", response_model=s.ComparisonInfo)
    def compare(first: Name, second: Name, adjust: Text = None) -> Response:
        """Two groups of patients, latent by latent."""
        pair = named(first), named(second)
        return answer(kept.get(("compare", *pair, adjust), lambda: written(cohort().compare(*pair, adjust or None))))

    @routes.get("/api/compare/{first}/{second}/images/{latent}", response_model=s.ComparisonImages)
    def images(first: Name, second: Name, latent: Index) -> Response:
        """Cells of both groups with most of a latent."""
        pair = named(first), named(second)
        return answer(kept.get(("images", *pair, latent), lambda: written(cohort().compared_images(*pair, latent))))

    return routes
