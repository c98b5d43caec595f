"""What a file of annotations holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from cytosae import __version__
from cytosae.explorer.annotations import mark_schemas, schemas

FORMAT = "cytosae-annotations"


def _plausible(time: datetime) -> datetime:
    if not 2000 <= time.year <= 9000:
        raise ValueError("not a time at which this was written")
    return time


def utc_now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


Time = Annotated[AwareDatetime, AfterValidator(_plausible)]
Version = Annotated[int, Field(ge=1, lt=schemas.LARGEST)]


class _StoredModel(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StoredItem(_StoredModel):
    """A latent of a worklist."""

    dataset: schemas.Dataset
    latent: schemas.Latent
    about: schemas.Scalars = {}


class StoredWorklist(_StoredModel):
    """A worklist; `uid` names it in every database."""

    uid: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z-]+$")]
    title: schemas.Title
    created: Time
    source: schemas.Line = ""
    questions: list[schemas.Line] = []
    blind_labels: bool = False
    blind_raters: bool = False
    disease: schemas.Line | None = None
    parameters: schemas.Scalars = {}
    items: Annotated[list[StoredItem], Field(min_length=1, max_length=schemas.ITEMS)]


class StoredChange(_StoredModel, schemas.Content):
    """A state that an annotation was put into."""

    version: Version
    time: Time


class StoredAnnotation(_StoredModel, schemas.Content):
    """An annotation and its history, oldest first; its worklist by `uid`."""

    worklist: str | None = None
    dataset: schemas.Dataset
    latent: schemas.Latent
    rater: schemas.Rater
    version: Version = 1
    created: Time = Field(default_factory=utc_now)
    updated: Time = Field(default_factory=utc_now)
    history: list[StoredChange] = []


class StoredMark(_StoredModel):
    """A mark of a taught concept, or that one was withdrawn; `patch` is null for a whole cell."""

    uid: mark_schemas.Uid
    concept: mark_schemas.Concept
    dataset: schemas.Dataset
    cell: Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]
    patch: schemas.Latent | None
    mark: mark_schemas.Kind
    rater: schemas.Rater
    time: Time


class Stored(_StoredModel):
    """A whole database as a file."""

    format: Literal["cytosae-annotations"] = "cytosae-annotations"
    cytosae: str = __version__
    inputs: dict[str, str]
    worklists: list[StoredWorklist] = []
    annotations: list[StoredAnnotation] = []
    marks: list[StoredMark] = []
