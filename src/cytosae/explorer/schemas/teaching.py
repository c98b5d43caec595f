"""What the API answers of taught concepts: what was learned from the marks, where it lies, what to mark next."""

from __future__ import annotations

from pydantic import BaseModel, Field

from cytosae.explorer.schemas.patients import ScoredCell
from cytosae.explorer.schemas.values import Known, Map, Number


class HeldOutFigure(BaseModel):
    """A figure over marks that the fit has not seen, with its 95 % interval."""

    value: Number
    low: Number
    high: Number
    chance: Known
    marks: int
    units: int = Field(description="patients, or cells, that the interval is over")


class NearLatent(BaseModel):
    """A latent whose activations go with the taught concept."""

    latent: int
    correlation: Known


class LearnedConcept(BaseModel):
    """What was learned from the marks of a concept, of all raters."""

    concept: str
    this_patches: int
    this_cells: int
    not_patches: int
    not_cells: int
    left_out: list[str] = Field(description="marks that were not used and why, a sentence each")
    auroc: HeldOutFigure
    average_precision: HeldOutFigure
    held_out_by: str = Field(description="patient or cell; empty where there was only one")
    recall: Known = Field(description="share of held-out marks above the threshold")
    random: Known = Field(description="share of random patches above the threshold")
    threshold_warning: str = Field(description="that the threshold is useless, and why; empty where it is not")
    random_cells: int
    nearest: list[NearLatent]
    strongest: list[ScoredCell]
    enough: bool
    hint: str


class TaughtMap(BaseModel):
    """A taught concept on a cell."""

    concept: str
    top: Known
    shown: int = Field(description="patches above the threshold")
    map: Map


class NextCell(BaseModel):
    """A cell worth marking."""

    dataset: str
    row: int
    cell_id: str
    patch: int = Field(description="its strongest patch")
    uncertainty: Known
    new_patient: bool
    new_dataset: bool


class NextCells(BaseModel):
    """Cells worth marking, the best first."""

    cells: list[NextCell]
