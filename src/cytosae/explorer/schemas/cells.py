"""What the API answers of cells, those that were uploaded included."""

from __future__ import annotations

from pydantic import BaseModel, Field

from cytosae.explorer.schemas.values import Known, Map


class CellRef(BaseModel):
    """A cell and what the table says of it."""

    row: int
    cell_id: str
    label: str | None
    patient: str | None
    diagnosis: str | None


class CellList(BaseModel):
    """Some cells of a data set."""

    total: int
    cells: list[CellRef]


class CellConcept(BaseModel):
    """A concept of a cell."""

    latent: int
    mean_activation: Known
    count: int = Field(description="Patches above tau, CLS included.")
    common: bool


class CellField(BaseModel):
    """Where a cell lies in the field that it was cut out of."""

    index: int
    name: str
    width: int
    height: int
    box: tuple[int, int, int, int] = Field(description="Left, top, width and height in pixels of the field.")


class CellDetail(CellRef):
    """A cell."""

    field: CellField | None = Field(description="Null if the study's cells were not cut out of fields.")

    width: int | None
    height: int | None
    n_active: int
    concepts: list[CellConcept]
    common_share: Known


class SimilarCell(CellRef):
    """A cell that is like another, or shows the concepts of a region."""

    score: Known
    shared: list[int] = Field(description="Concepts that add most to the score.")


class SimilarCells(BaseModel):
    """Cells that are like another, the most similar first."""

    compared: int = Field(description="Cells that were compared, evenly spread over the data set.")
    cells: list[SimilarCell]


class RegionConcept(BaseModel):
    """A concept that is active in a region of a cell."""

    latent: int
    share: Known = Field(description="Share of the region's patches above tau.")
    inside: Known = Field(description="Mean activation over the region's patches.")
    outside: Known = Field(description="Mean activation over the cell's other patches.")


class Region(BaseModel):
    """What the patches of a region have in common, and where else it is found."""

    concepts: list[RegionConcept]
    elsewhere: SimilarCells


class Patches(BaseModel):
    """The strongest latents of every patch, common ones left out."""

    grid: tuple[int, int]
    top: Known
    patches: list[list[tuple[int, float]]]


class LatentMap(BaseModel):
    """A latent on a cell."""

    latent: int
    top: Known
    map: Map


class UploadedCell(BaseModel):
    """A cell that was uploaded."""

    index: int
    name: str
    width: int
    height: int
    n_active: int
    concepts: list[CellConcept]
    common_share: Known
    notes: list[str]
    """What was done where the image says too little, and whether it lies far from those of the study."""


class RefusedFile(BaseModel):
    """A file of an upload that is not shown."""

    name: str
    reason: str


class Uploaded(BaseModel):
    """Cells that were uploaded together, and the files that are no image that can be shown."""

    id: str
    cells: list[UploadedCell]
    refused: list[RefusedFile]
