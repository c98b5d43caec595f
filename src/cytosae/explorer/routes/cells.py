"""Cells: some of a data set, one of them, its image, its patches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import scipy.sparse as sp
from fastapi import APIRouter, Header, Query, Response
from numpy.typing import NDArray

from cytosae.explorer.changing import MOST, Changing
from cytosae.explorer.dataset import COMMON_SHARE, DataSet, category
from cytosae.explorer.fields import FieldImages, boxes
from cytosae.explorer.images import CellImages
from cytosae.explorer.neighbours import cells_of_region, similar_cells
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.routes import IMAGE, Index, Name, Text, answer, named
from cytosae.explorer.schemas import cells as s
from cytosae.explorer.schemas.changing import Changed, ConceptEffects

if TYPE_CHECKING:
    from cytosae.explorer.activations import Activations

_PATCHES = r"^\d{1,5}(,\d{1,5})*$"
Size = Literal["64", "112", "224", "448"]


def router(
    reader: StudyReader, cell_images: CellImages, field_images: FieldImages, activations: Callable[[], Activations]
) -> APIRouter:
    """``/api/cells``, and what changing a concept of them does."""
    routes = APIRouter()
    changing = Changing(reader, activations)

    @routes.get("/api/cells/{dataset}", response_model=s.CellList)
    def cells(
        dataset: Name,
        label: Text = None,
        patient: Text = None,
        offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 60,
    ) -> Response:
        """Cells of a data set, in the order of the table."""
        data = reader.dataset(named(dataset))
        rows = selected(data, label, patient)
        return answer(
            s.CellList(total=len(rows), cells=[s.CellRef(**ref) for ref in data.refs(rows[offset : offset + limit])])
        )

    @routes.get("/api/cells/{dataset}/{row}", response_model=s.CellDetail)
    def cell(dataset: Name, row: Index) -> Response:
        """A cell with its strongest concepts."""
        data = reader.dataset(named(dataset))
        data.check_row(row)
        counts, means = data.activations([row])
        (ref,) = data.refs([row])
        width, height = data.size(row)
        concepts = strongest(counts, means, data.common_latents)
        detail = s.CellDetail(
            **ref,
            field=_place(field_images, data.name, row),
            width=width,
            height=height,
            n_active=means.nnz,
            concepts=concepts,
            common_share=COMMON_SHARE,
        )
        return answer(detail)

    @routes.get("/api/cells/{dataset}/{row}/image", response_class=Response, responses=IMAGE)
    def image(
        dataset: Name,
        row: Index,
        size: Size = "224",
        if_none_match: Annotated[str | None, Header(max_length=300)] = None,
    ) -> Response:
        """A cell's image, squashed to a square."""
        return image_response(cell_images.jpeg(reader.dataset(named(dataset)), row, int(size)), if_none_match)

    @routes.get("/api/cells/{dataset}/{row}/patches", response_model=s.Patches)
    def patches(dataset: Name, row: Index) -> Response:
        """The strongest latents of every patch."""
        return answer(activations().patches(reader.dataset(named(dataset)), row))

    @routes.get("/api/cells/{dataset}/{row}/maps/{latent}", response_model=s.LatentMap)
    def map_(dataset: Name, row: Index, latent: Index) -> Response:
        """A latent on a cell."""
        data = reader.dataset(named(dataset))
        data.check_latent(latent)
        return answer(activations().map(activations().tokens(data, row), latent))

    @routes.get("/api/cells/{dataset}/{row}/similar", response_model=s.SimilarCells)
    def similar(dataset: Name, row: Index) -> Response:
        """Cells of the data set that are most like a cell, by their concepts."""
        data = reader.dataset(named(dataset))
        data.check_row(row)
        return answer(similar_cells(data, data.activations([row])[1], row))

    @routes.get("/api/cells/{dataset}/{row}/changed/{latent}", response_model=Changed)
    def changed(
        dataset: Name, row: Index, latent: Index, factor: Annotated[float, Query(ge=0, le=MOST)] = 0
    ) -> Response:
        """What follows where a concept of a cell is removed (0) or amplified."""
        return answer(changing.change(reader.dataset(named(dataset)), row, latent, factor))

    @routes.get("/api/effects/{dataset}/{latent}", response_model=ConceptEffects)
    def effects(dataset: Name, latent: Index) -> Response:
        """What classifiers say where a concept is removed or amplified in all cells, or patients, that show it."""
        return answer(changing.effects(reader.dataset(named(dataset)), latent))

    @routes.get("/api/cells/{dataset}/{row}/region", response_model=s.Region)
    def region(
        dataset: Name, row: Index, patches: Annotated[str, Query(pattern=_PATCHES, max_length=6000)]
    ) -> Response:
        """What is active in common in some patches of a cell, counted row by row, and which cells show that too."""
        data = reader.dataset(named(dataset))
        active = activations().region(data, row, [int(patch) for patch in patches.split(",")])
        return answer(s.Region(concepts=active, elsewhere=cells_of_region(data, active, row)))

    return routes


def _place(images: FieldImages, name: str, row: int) -> s.CellField | None:
    """Where a cell lies; None where fields are not known."""
    if not images.has(name):
        return None
    own = images.places_of(name).cells.iloc[[row]]
    index = int(own["index"].iloc[0])
    if index < 0:
        return None
    field = images.field(name, index)
    (box,) = boxes(own)
    return s.CellField(
        index=index, name=str(field["cell_id"]), width=int(field["width"]), height=int(field["height"]), box=box
    )


def selected(data: DataSet, label: str | None, patient: str | None) -> NDArray[np.int64]:
    """Rows of the cells with a label, of a patient, or of all."""
    is_selected = np.ones(data.n_cells, bool)
    for name, value in (("label", label), ("patient", patient)):
        if value:
            column = data.column(name)
            code = -1 if column is None else category(column, value)
            is_selected &= (column.codes == code) if column is not None and code >= 0 else False
    return np.flatnonzero(is_selected)


def strongest(counts: sp.csr_matrix, means: sp.csr_matrix, is_common: NDArray[np.bool_]) -> list[s.CellConcept]:
    """The concepts of a cell, those with the largest m_i[s] first, of matrices with one row."""
    order = np.argsort(-means.data, kind="stable")
    latents = means.indices[order]
    number = np.zeros(means.shape[1], np.int64)
    number[counts.indices] = counts.data
    return [
        s.CellConcept(
            latent=int(latent), mean_activation=value, count=int(number[latent]), common=bool(is_common[latent])
        )
        for latent, value in zip(latents, means.data[order], strict=True)
    ]


def image_response(content: bytes, known: str | None) -> Response:
    """A JPEG, or that it has not changed since the browser had it."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if known is not None and tag in (one.strip().removeprefix("W/") for one in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/jpeg", headers=headers)
