"""What the API answers where a concept of a cell is changed."""

from __future__ import annotations

from pydantic import BaseModel, Field

from cytosae.explorer.schemas.cells import SimilarCells
from cytosae.explorer.schemas.values import Known, Map, Number


class ClassChange(BaseModel):
    """The probability of a class, as the cell is and with the concept changed."""

    name: str
    before: Known
    after: Known


class ClassChanges(BaseModel):
    """What a classifier says."""

    by: str = Field(description="Which classifier, and of what.")
    classes: list[ClassChange]


class MeanChange(BaseModel):
    """A mean change of a probability with its 95 % interval."""

    value: Known
    low: Number
    high: Number


class ChangedClass(BaseModel):
    """The class whose probability changes most when a concept is removed."""

    by: str = Field(description="Which classifier.")
    name: str = Field(description="The class.")
    over: int = Field(description="Cells or patients that show the concept, and are changed.")
    removed: MeanChange
    amplified: MeanChange = Field(description="Three times as active.")
    control: int | None = Field(description="Another concept, as strong in the same cells or patients: the null.")
    control_removed: MeanChange | None = None
    control_amplified: MeanChange | None = None


class OutputChange(BaseModel):
    """What `cytosae evaluate` found on a linear probe of the backbone's output, of cells of a label."""

    label: str
    removed: Known
    amplified: Known
    control: int
    control_removed: Known
    control_amplified: Known


class ConceptEffects(BaseModel):
    """What classifiers say where a concept is removed or amplified."""

    cells: ChangedClass | None = Field(description="Null where cells have no labels, or none shows the concept.")
    patients: ChangedClass | None = Field(description="Null where patients were not classified, or none shows it.")
    output: list[OutputChange] = Field(description="Empty where the concept is not the best one of a label.")


class Changed(BaseModel):
    """A cell in which a concept is removed or amplified."""

    factor: Known
    active: bool = Field(description="Whether the cell shows the concept at all.")
    cell: ClassChanges | None = Field(description="Null where cells have no labels.")
    patient: ClassChanges | None = Field(description="Null where the patient is unknown or was not classified.")
    top: Known = Field(description="Largest change of a patch.")
    map: Map = Field(description="How far each patch's reconstruction moves, over the length of its token.")
    towards: SimilarCells
