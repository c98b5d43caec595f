"""What the API answers of fields of a smear."""

from __future__ import annotations

from pydantic import BaseModel, Field

from cytosae.explorer.schemas.values import Known


class FieldRef(BaseModel):
    """A field and what was found in it."""

    index: int
    name: str
    patient: str | None
    width: int
    height: int
    cells: int
    rejected: int


class FieldList(BaseModel):
    """The fields of a data set, or of a patient."""

    fields: list[FieldRef]


class FieldCell(BaseModel):
    """A cell in its field."""

    row: int
    cell_id: str
    label: str | None
    box: tuple[int, int, int, int] = Field(description="Left, top, width and height in pixels of the field.")
    touching: bool
    at_border: bool
    count: int | None = Field(description="Patches in which the latent is active; null if none is asked for.")


class RejectedObject(BaseModel):
    """Something that was found and is no cell, or a region that was not searched."""

    box: tuple[int, int, int, int]
    reason: str


class FieldConceptCount(BaseModel):
    """A concept of the cells of a field."""

    latent: int
    mean: Known = Field(description="Mean count of the field's cells.")


class FieldDetail(FieldRef):
    """A field with its cells."""

    mpp: Known
    mpp_from: str | None
    objects: list[FieldCell]
    refused: list[RejectedObject]
    concepts: list[FieldConceptCount] = Field(description="Those with the largest mean count, common ones left out.")
