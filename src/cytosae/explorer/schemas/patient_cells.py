"""What the API answers of one patient's cells: those that show a concept, and those unlike any other patient's."""

from __future__ import annotations

from pydantic import BaseModel, Field

from cytosae.explorer.schemas.patients import ScoredCell
from cytosae.explorer.schemas.values import Known, Number


class Chance(BaseModel):
    """How many cells a patient like those of the group would have."""

    patients: int
    expected: Known
    low: Known = Field(description="Lower end of the 95 % interval of one more patient of the group.")
    high: Known
    p: Known
    at_least: int = Field(description="Patients of the group whose share of cells is as large.")
    false_alarms: Number = Field(description="Share of the group's patients above the upper end that the others give.")


class ConceptCell(ScoredCell):
    """A cell that shows the concept; the score is its mean activation."""

    patches: int = Field(description="Patches above the threshold.")
    expected: Known = Field(description="Cells with as much that are expected by chance.")


class ConceptCells(BaseModel):
    """All cells of a patient that show a concept, the strongest first."""

    latent: int
    group: str
    n_cells: int
    cells: list[ConceptCell]
    sure: int = Field(description="So many of the first, of which a tenth at most is expected by chance.")
    chance: Chance


class FarCell(ScoredCell):
    """An unfamiliar cell; the score is its distance to the nearest cell of another patient."""

    nearest: ScoredCell
    nearest_patient: str


class FarCells(BaseModel):
    """Cells of a patient unlike those of any other patient, the farthest first."""

    rule: str
    n_cells: int
    threshold: Known
    cells: list[FarCell]
    highest: Known = Field(description="Largest share of cells above the threshold of one of the other patients.")
    chance: Chance


class UnfamiliarAnswer(BaseModel):
    """Unfamiliar cells, or null where there are fewer than four other patients."""

    unlike: FarCells | None
