"""What the read API answers: exact types, so that ``/openapi.json`` says them too."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

_DIGITS = 6


def short(value: Any) -> float | None:
    """A number with six significant digits; None where it is none, or not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{float(value):.{_DIGITS}g}")


Number = Annotated[float | None, BeforeValidator(short)]
"""A figure; null where it is unknown."""
Scalar = Annotated[str | float | None, BeforeValidator(lambda v: v if isinstance(v, str) else short(v))]
Map = Annotated[str, Field(description="base64 of one byte per patch, row by row: 0 is 0, 255 is `top`.")]


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


class Group(BaseModel):
    """Cells of a label or a diagnosis."""

    name: str
    cells: int


class DataSetInfo(BaseModel):
    """A data set of the study."""

    name: str
    cells: int
    concepts: int
    labels: list[Group]
    diagnoses: list[Group]
    kinds: list[str]
    has_patients: bool


class Measure(BaseModel):
    """A column of the latents."""

    key: str
    label: str
    log: bool
    help: str


class BackboneAbout(BaseModel):
    """The backbone and the block whose output was encoded."""

    name: str
    layer: int = Field(description="Block, from 1.")
    depth: int
    d_model: int


class Has(BaseModel):
    """What the study has beside its concepts."""

    patients: bool
    classification: bool
    quality: bool
    tokens: bool = Field(description="Whether maps and patches of any cell can be had.")
    uploads: bool


class AnnotationsInfo(BaseModel):
    """Whose judgements are kept here."""

    key: str = Field(description="Sent with each write as the header `Cytosae-Study`, so that none lands elsewhere.")
    autoencoder: str = Field(description="Digest of the autoencoder that the judgements are of.")
    study: str | None = Field(description="Digest of the study's autoencoder.")
    notice: str | None = Field(description="Where the two differ: what to do. Nothing can be judged then.")


class FormerInfo(BaseModel):
    """An autoencoder that the study had before."""

    digest: str = Field(description="The first twelve digits.")
    command: str = Field(description="Opens it.")
    trained: AwareDatetime | None
    judgements: int | None = Field(description="Null where they cannot be read.")


class StudyInfo(BaseModel):
    """The study."""

    name: str
    version: str
    static: bool
    n_latents: int
    grid: tuple[int, int]
    tau: Number
    concept_threshold: Number
    backbone: BackboneAbout
    datasets: list[DataSetInfo]
    measures: list[Measure]
    has: Has
    groups: dict[str, list[str]]
    annotations: AnnotationsInfo | None = Field(description="Null in a static export.")
    former: list[FormerInfo] = Field(description="Autoencoders that the study had before, the latest first.")
    exported: dict[str, list[int]] | None = Field(
        default=None, description="In a static export: the latents of each data set that have a page."
    )


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
    top_label: list[int]


class LatentStatistics(BaseModel):
    """What a latent does in a data set."""

    activation_frequency: Number
    mean_activation: Number
    label_entropy: Number
    n_references: int
    border: Number


class InDataSet(BaseModel):
    """What a latent does in another data set."""

    activation_frequency: Number
    mean_activation: Number
    is_concept: bool


class InGroup(BaseModel):
    """What a latent does in the cells of a label or diagnosis."""

    name: str
    cells: int
    mean: Number
    frequency: Number


class Similar(BaseModel):
    """A concept whose decoder direction is near."""

    latent: int
    cosine: Number


class Flags(BaseModel):
    """What makes a concept doubtful."""

    border: bool
    background: bool | None


class LatentDetail(BaseModel):
    """A latent in a data set."""

    latent: int
    dataset: str
    is_concept: bool
    statistics: LatentStatistics
    datasets: dict[str, InDataSet]
    by_label: list[InGroup]
    by_diagnosis: list[InGroup]
    similar: list[Similar]
    quality: dict[str, Scalar] | None
    flags: Flags


class CellRef(BaseModel):
    """A cell and what the table says of it."""

    row: int
    cell_id: str
    label: str | None
    patient: str | None
    diagnosis: str | None


class MappedCell(CellRef):
    """A cell with a latent's activation."""

    value: Number = Field(description="m_i[s]")
    map: Map | None = Field(description="Null where image and tokens are gone.")


class LatentImages(BaseModel):
    """Cells of a latent with its maps."""

    kind: str
    top: Number = Field(description="Strongest activation of a patch over these cells.")
    cells: list[MappedCell]


class CellList(BaseModel):
    """Some cells of a data set."""

    total: int
    cells: list[CellRef]


class CellConcept(BaseModel):
    """A concept of a cell."""

    latent: int
    mean_activation: Number
    count: int = Field(description="Patches above tau, CLS included.")
    common: bool


class CellDetail(CellRef):
    """A cell."""

    width: int | None
    height: int | None
    n_active: int
    concepts: list[CellConcept]
    common_share: Number


class Patches(BaseModel):
    """The strongest latents of every patch, common ones left out."""

    grid: tuple[int, int]
    top: Number
    patches: list[list[tuple[int, float]]]


class LatentMap(BaseModel):
    """A latent on a cell."""

    latent: int
    top: Number
    map: Map


class PatientRow(BaseModel):
    """A patient, with the columns that the barcodes have."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar]

    id: str
    dataset: str
    n_cells: int
    diagnosis: str | None


class PatientList(BaseModel):
    """The patients."""

    patients: list[PatientRow]
    columns: list[str]


class PatientGroup(BaseModel):
    """Patients of a diagnosis."""

    name: str
    patients: int


class UnusualConcept(BaseModel):
    """A concept of a patient beside a group."""

    latent: int
    patient: Number
    group: Number
    t: Number
    p: Number
    fdr: Number
    above: int


class ScoredCell(BaseModel):
    """A cell that carries what is unusual."""

    dataset: str
    row: int
    cell_id: str
    label: str | None
    score: Number


class AgainstGroup(BaseModel):
    """What is unusual against a group."""

    name: str
    patients: int
    rule: str
    unusual: int = Field(description="Concepts that are unusual by the rule; with 0 those that come closest are given.")
    concepts: list[UnusualConcept]
    cells: list[ScoredCell]


class BarcodeBeside(BaseModel):
    """The largest values of a barcode and of the group's mean."""

    latents: list[int]
    patient: list[Number]
    group: list[Number]


class ClassProbability(BaseModel):
    """A class and how probable it is."""

    name: str
    probability: Number


class AddingConcept(BaseModel):
    """What a concept adds to the predicted class."""

    latent: int
    adds: Number


class AddingCell(BaseModel):
    """What a cell adds to the predicted class."""

    dataset: str
    row: int
    cell_id: str
    label: str | None
    adds: Number


class Predicted(BaseModel):
    """What the classifier says that has not seen the patient."""

    predicted: str
    truth: str | None
    unseen: bool
    classes: list[ClassProbability]
    concepts: list[AddingConcept]
    cells: list[AddingCell]


class PatientDetail(BaseModel):
    """A patient."""

    patient: PatientRow
    groups: list[PatientGroup]
    against: AgainstGroup | None = Field(description="Null where no group has three other patients.")
    barcode: BarcodeBeside
    prediction: Predicted | None
    caveats: list[str]


class Difference(BaseModel):
    """A latent in two groups of patients."""

    latent: int
    first: Number
    second: Number
    difference: Number
    low: Number
    high: Number
    effect: Number
    auroc: Number
    p: Number
    fdr: Number


class Scatter(BaseModel):
    """Latents in two groups."""

    latent: list[int]
    first: list[Number]
    second: list[Number]


class WarningText(BaseModel):
    """A leak or confounder."""

    kind: str
    text: str


class ComparisonInfo(BaseModel):
    """Two groups of patients."""

    first: PatientGroup
    second: PatientGroup
    tested: int
    scatter: Scatter
    top_first: list[Difference]
    top_second: list[Difference]
    caveats: list[str]
    warnings: list[WarningText]


class PatientCell(BaseModel):
    """A cell of one patient of a group."""

    dataset: str
    row: int
    cell_id: str
    label: str | None
    patient: str
    value: Number
    map: Map | None


class ComparisonImages(BaseModel):
    """The cells with most of a latent, one of a patient, of both groups."""

    first: list[PatientCell]
    second: list[PatientCell]
    top: Number


class UploadedCell(BaseModel):
    """A cell that was uploaded."""

    index: int
    name: str
    width: int
    height: int
    n_active: int
    concepts: list[CellConcept]
    common_share: Number


class Uploaded(BaseModel):
    """Cells that were uploaded together."""

    id: str
    cells: list[UploadedCell]
