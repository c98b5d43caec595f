"""What the API answers of patients, and of two groups of them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from cytosae.explorer.schemas.values import Known, Map, Number, Scalar


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
    patient: Known
    group: Known
    t: Number
    p: Number
    fdr: Number
    above: int
    count: Known = Field(description="Eq. 3 of the patient, also where another block is compared.")
    group_count: Known


class ScoredCell(BaseModel):
    """A cell that carries what is unusual."""

    dataset: str
    row: int
    cell_id: str
    label: str | None
    score: Known


class AgainstGroup(BaseModel):
    """What is unusual against a group."""

    name: str
    patients: int
    rule: str
    unit: str = Field(description="What the values are, such as share of the cells.")
    unusual_by_counts: int = Field(description="Concepts that are unusual by counts as they are, the paper's form.")
    unusual: int = Field(description="Concepts that are unusual by the rule; with 0 those that come closest are given.")
    concepts: list[UnusualConcept]
    cells: list[ScoredCell]


class BarcodeBeside(BaseModel):
    """The largest values of a barcode and of the group's mean."""

    latents: list[int]
    patient: list[Known]
    group: list[Known]


class ClassProbability(BaseModel):
    """A class and how probable it is."""

    name: str
    probability: Known


class AddingConcept(BaseModel):
    """What a concept adds to the predicted class."""

    latent: int
    adds: Known


class AddingCell(BaseModel):
    """What a cell adds to the predicted class."""

    dataset: str
    row: int
    cell_id: str
    label: str | None
    adds: Known


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
    first: Known
    second: Known
    difference: Known
    low: Number
    high: Number
    effect: Number
    auroc: Number
    p: Number
    fdr: Number
    count_first: Number = Field(default=None, description="Eq. 3 of the first group, where another block is compared.")
    count_second: Number = None
    reach_first: Number = Field(default=None, description="Share of the first group's patients who reach the level.")
    reach_second: Number = None
    reach_level: Number = None
    reach_fdr: Number = None


class Scatter(BaseModel):
    """Latents in two groups."""

    latent: list[int]
    first: list[Known]
    second: list[Known]


class WarningText(BaseModel):
    """A leak or confounder."""

    kind: str
    text: str


class ComparisonInfo(BaseModel):
    """Two groups of patients."""

    first: PatientGroup
    second: PatientGroup
    unit: str = Field(description="What the values are, such as share of the cells.")
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
    value: Known
    map: Map | None


class ComparisonImages(BaseModel):
    """The cells with most of a latent, one of a patient, of both groups."""

    first: list[PatientCell]
    second: list[PatientCell]
    top: Known
