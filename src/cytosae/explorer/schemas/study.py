"""What the API answers of the study."""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, Field

from cytosae.explorer.schemas.values import Known


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
    fields: bool = Field(description="Whether the cells of the first data set were cut out of fields.")


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
    taught: dict[str, str] = Field(description="Names of taught latents, by number.")
    tau: Known
    concept_threshold: Known
    backbone: BackboneAbout
    datasets: list[DataSetInfo]
    measures: list[Measure]
    has: Has
    groups: dict[str, list[str]]
    annotations: AnnotationsInfo | None = Field(description="Null in a static export.")
    former: list[FormerInfo] = Field(description="Autoencoders that the study had before, the latest first.")
    not_learned: str | None = Field(description="What shows that the training has not learned; null if nothing does.")
    exported: dict[str, list[int]] | None = Field(
        description="In a static export: the latents of each data set that have a page."
    )
