"""What the API answers where a concept of a cell is changed."""

from __future__ import annotations

from pydantic import BaseModel, Field

from cytosae.explorer.schemas.cells import SimilarCells
from cytosae.explorer.schemas.values import Known, Map


class ClassChange(BaseModel):
    """The probability of a class, as the cell is and with the concept changed."""

    name: str
    before: Known
    after: Known


class ClassChanges(BaseModel):
    """What a classifier says."""

    by: str = Field(description="Which classifier, and of what.")
    classes: list[ClassChange]


class Changed(BaseModel):
    """A cell in which a concept is removed or amplified."""

    factor: Known
    active: bool = Field(description="Whether the cell shows the concept at all.")
    cell: ClassChanges | None = Field(description="Null where cells have no labels.")
    patient: ClassChanges | None = Field(description="Null where the patient is unknown or was not classified.")
    top: Known = Field(description="Largest change of a patch.")
    map: Map = Field(description="How far each patch's reconstruction moves, over the length of its token.")
    towards: SimilarCells
