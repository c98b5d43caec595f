"""What the API answers of latents."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from cytosae.explorer.schemas.cells import CellRef
from cytosae.explorer.schemas.values import Known, Map, Number, Scalar


class LatentTable(BaseModel):
    """Latents of a data set, a list per column; further columns are quality measures."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[Number]]

    latent: list[int]
    concept: list[int]
    activation_frequency: list[Number]
    mean_activation: list[Number]
    label_entropy: list[Number]
    n_references: list[Number]
    border: list[Number]
    position_share: list[Number]
    concentration: list[Number]
    alike: list[int] = Field(description="concept in whose place it is listed: itself, or its near-duplicate")
    top_label: list[int]
    typical_label: list[int] = Field(description="label that it is specific for by its lift; -1 for none")
    lift: list[Number] = Field(description="how many times as often cells of the label with the largest lift show it")
    beside: list[int] = Field(description="whether it speaks of surroundings, a place in the picture, or the stain")


class LatentStatistics(BaseModel):
    """What a latent does in a data set."""

    activation_frequency: Known
    mean_activation: Known
    label_entropy: Number
    n_references: int
    border: Number
    position_share: Number
    concentration: Number


class InDataSet(BaseModel):
    """What a latent does in another data set."""

    activation_frequency: Known
    mean_activation: Known
    is_concept: bool


class InGroup(BaseModel):
    """What a latent does in the cells of a label or diagnosis."""

    name: str
    cells: int
    mean: Known
    frequency: Known


class Similar(BaseModel):
    """A concept whose decoder direction is near."""

    latent: int
    cosine: Known


class Together(BaseModel):
    """A concept whose counts go with those of another, over cells."""

    latent: int
    correlation: Known


class Flags(BaseModel):
    """What makes a concept doubtful."""

    border: bool
    background: bool | None
    position: bool | None


class Fact(BaseModel):
    """A fact of which a description is made, or could be."""

    kind: str
    subject: str
    value: Number
    null: Number = Field(description="What chance gives.")
    q: Number = Field(
        description="After correction for all that was tried; null where the fact was not tested over cells."
    )
    passes: bool
    words: str


class Proposed(BaseModel):
    """What an image-text model proposed to call a concept; its facts are what describes it."""

    phrase: str
    model: str
    names: str = Field(description="Facts whose words the phrase contains; empty for none, and it is not scored.")
    detection: Number = Field(description="AUROC on cells that the model was not shown; 0.5 by chance.")
    shuffled: Number = Field(description="The same of another concept's phrase.")


class TuningCurve(BaseModel):
    """How a concept responds while a knob is turned on an otherwise identical drawn cell."""

    knob: str
    meaning: str
    levels: list[Known]
    change: list[Known] = Field(
        description="Mean change against the lowest level, in standard deviations over the study's cells."
    )
    low: list[Known]
    high: list[Known] = Field(description="Ends of the 95 % interval.")
    responds: bool


class LatentDetail(BaseModel):
    """A latent in a data set."""

    latent: int
    dataset: str
    is_concept: bool
    not_concept: str | None = Field(description="Why it is no concept; null if it is one, or not known.")
    statistics: LatentStatistics
    datasets: dict[str, InDataSet]
    by_label: list[InGroup]
    by_diagnosis: list[InGroup]
    similar: list[Similar]
    together: list[Together]
    quality: dict[str, Scalar] | None
    flags: Flags
    description: str | None = Field(description="What it shows; null where it was not described.")
    facts: list[Fact]
    proposed: Proposed | None = Field(description="Null where no model was asked.")
    tuning: list[TuningCurve] = Field(description="Those to which it responds first; empty where not measured.")


class MappedCell(CellRef):
    """A cell with a latent's activation."""

    value: Known = Field(description="m_i[s]")
    map: Map | None = Field(description="Null where image and tokens are gone.")


class LatentImages(BaseModel):
    """Cells of a latent with its maps."""

    kind: str
    top: Known = Field(description="Strongest activation of a patch over these cells.")
    cells: list[MappedCell]
