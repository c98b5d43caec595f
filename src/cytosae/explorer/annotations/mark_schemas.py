"""Marks of taught concepts over the wire: requests with their limits, and answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from cytosae.explorer.annotations import schemas

MARKS = 2000  # of one request
Kind = Literal["this", "not", "none"]
"""What a mark says: it shows the concept, it does not, or the rater's mark there is taken back."""
Concept = Annotated[schemas.Title, AfterValidator(lambda name: " ".join(name.split()))]
Uid = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z-]{8,64}$")]


class MarkWish(BaseModel):
    """A mark to be set. `uid` names it: the same sent twice counts once."""

    model_config = ConfigDict(strict=True)

    uid: Uid
    dataset: schemas.Dataset
    row: schemas.Latent
    patch: Annotated[schemas.Latent | None, Field(description="row by row from the top left; null: the whole cell")]
    mark: Kind


class MarksRequest(BaseModel):
    """Marks of one rater and concept, in the order in which they were made."""

    model_config = ConfigDict(strict=True)

    concept: Concept
    rater: schemas.Rater
    marks: Annotated[list[MarkWish], Field(min_length=1, max_length=MARKS)]


class Mark(BaseModel):
    """A mark that holds, or one of the history."""

    concept: str
    dataset: str
    row: Annotated[int | None, Field(description="null: the study does not have this cell")]
    cell_id: str
    patch: int | None
    mark: Kind
    rater: str
    time: AwareDatetime


class PlacesAgreement(BaseModel):
    """Cohen's kappa of two raters over the patches and cells that both marked."""

    raters: tuple[str, str]
    kappa: float | None
    n: int
    same: int


class MarkedConcept(BaseModel):
    """A concept that is being taught."""

    concept: str
    this_patches: int
    this_cells: int
    not_patches: int
    not_cells: int
    cells: Annotated[int, Field(description="cells with a mark")]
    raters: dict[str, Annotated[int, Field(description="marks")]]
    agreement: list[PlacesAgreement]
    updated: AwareDatetime
