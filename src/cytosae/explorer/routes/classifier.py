"""The classifier of the patients, which an expert edits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response

from cytosae.cohort import CLASSIFICATION
from cytosae.explorer.caching import bounded, once
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.routes import answer, to_json
from cytosae.explorer.schemas.classifier import ClassifierInfo, WeightedConcept

if TYPE_CHECKING:
    from cytosae.analysis.edited_classifier import EditableClassifier

_ANSWERS_BYTES = 32 * 2**20  # that are kept
_SHOWN = 100  # concepts

Struck = Annotated[
    str,
    Query(
        max_length=40_000, pattern=r"^(\d{1,9}(,\d{1,9})*)?$", description="numbers of struck-out latents, by commas"
    ),
]


def router(reader: StudyReader) -> APIRouter:
    """``/api/classifier``."""
    routes = APIRouter()

    @once
    def classifier() -> EditableClassifier:
        from cytosae.analysis.edited_classifier import EditableClassifier  # imports scikit-learn

        return EditableClassifier.open(reader.barcodes, reader.barcodes.parent / CLASSIFICATION)

    @bounded(_ANSWERS_BYTES)
    def edited(latents: tuple[int, ...]) -> bytes:
        model = classifier()
        result = model.result
        info = ClassifierInfo(
            target=str(result["target"]),
            folds=str(result["folds"]),
            allowed=str(result["concepts"]["allowed"]),
            missing=list(result["concepts"].get("without", [])),
            nominal=model.config.coverage,
            without=list(latents),
            concepts=[WeightedConcept(latent=latent, moves=moves) for latent, moves in model.strongest(_SHOWN)],
            sparsity=result.get("sparsity", []),
            **model.without(latents),
        )
        return to_json(info)

    @routes.get("/api/classifier", response_model=ClassifierInfo)
    def read(without: Struck = "") -> Response:
        """Figures and predictions of the classifier with some concepts struck out, beside those with all."""
        return answer(edited(tuple(sorted({int(latent) for latent in without.split(",") if latent}))))

    return routes
