"""Fields of a smear: all of a data set, one with its cells, its image."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from fastapi import APIRouter, Header, Query, Response

from cytosae.explorer.fields import FieldImages, boxes, largest_counts
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.routes import IMAGE, Index, Name, Text, answer, named
from cytosae.explorer.routes.cells import image_response
from cytosae.explorer.schemas import fields as s

Size = Literal["320", "1600"]


def router(reader: StudyReader, images: FieldImages) -> APIRouter:
    """``/api/fields``."""
    routes = APIRouter()

    @routes.get("/api/fields/{dataset}", response_model=s.FieldList)
    def fields(dataset: Name, patient: Text = None) -> Response:
        """The fields of a data set, or those with cells of a patient."""
        refs = _refs(reader, images, named(dataset))
        return answer(s.FieldList(fields=[ref for ref in refs if patient is None or ref.patient == patient]))

    @routes.get("/api/fields/{dataset}/{index}", response_model=s.FieldDetail)
    def field(dataset: Name, index: Index, latent: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None) -> Response:
        """A field with its cells, and with a latent's count in each if asked."""
        name = named(dataset)
        data, places = reader.dataset(name), images.places_of(name)
        images.field(name, index)
        if latent is not None:
            data.check_latent(latent)
        rows = np.flatnonzero(places.cells["index"] == index)
        own, refused = places.cells.iloc[rows], places.rejected[places.rejected["index"] == index]
        counts = None if latent is None or not len(rows) else data.activations(rows.tolist())[0][:, [latent]].toarray()
        objects = [
            s.FieldCell(
                row=int(row),
                cell_id=str(cell_id),
                label=label,
                box=box,
                touching=bool(touching),
                at_border=bool(at_border),
                count=None if counts is None else int(counts[k, 0]),
            )
            for k, (row, cell_id, label, box, touching, at_border) in enumerate(
                zip(
                    rows,
                    own["cell_id"],
                    data.values("label", rows),
                    boxes(own),
                    own["touching"].eq(True),
                    own["at_border"].eq(True),
                    strict=True,
                )
            )
        ]
        first = own.iloc[0] if len(own) else pd.Series({"mpp": np.nan, "mpp_from": None})
        detail = s.FieldDetail(
            **_refs(reader, images, name)[index].model_dump(),
            mpp=float(first["mpp"]),
            mpp_from=None if pd.isna(first["mpp_from"]) else str(first["mpp_from"]),
            objects=objects,
            refused=[
                s.RejectedObject(box=box, reason=str(reason))
                for box, reason in zip(boxes(refused), refused["reason"], strict=True)
            ],
            concepts=[
                s.FieldConceptCount(latent=one, mean=mean) for one, mean in largest_counts(data, np.asarray(rows))
            ],
        )
        return answer(detail)

    @routes.get("/api/fields/{dataset}/{index}/image", response_class=Response, responses=IMAGE)
    def image(
        dataset: Name,
        index: Index,
        size: Size = "1600",
        if_none_match: Annotated[str | None, Header(max_length=300)] = None,
    ) -> Response:
        """A field's image, its longest edge reduced."""
        return image_response(images.jpeg(named(dataset), index, int(size)), if_none_match)

    return routes


def _refs(reader: StudyReader, images: FieldImages, name: str) -> list[s.FieldRef]:
    """All fields of a data set, with the patient of their cells."""
    data, places = reader.dataset(name), images.places_of(name)
    n = len(places.fields)
    index = places.cells["index"].to_numpy()
    cells = np.bincount(index[index >= 0], minlength=n)
    rejected = np.bincount(places.rejected["index"].to_numpy(), minlength=n)
    first = {int(number): row for row, number in reversed(list(enumerate(index)))}
    in_listing = [number for number in range(n) if number in first]
    patients = dict(zip(in_listing, data.values("patient", [first[number] for number in in_listing]), strict=True))
    return [
        s.FieldRef(
            index=k,
            name=str(field),
            patient=patients.get(k),
            width=int(width),
            height=int(height),
            cells=int(cells[k]),
            rejected=int(rejected[k]),
        )
        for k, (field, width, height) in enumerate(
            places.fields[["cell_id", "width", "height"]].itertuples(index=False)
        )
    ]
