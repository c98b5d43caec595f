"""The routes of the read API, a file for each thing that is asked about."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import BaseModel

from cytosae.explorer.schemas.values import ErrorMessage

_LARGEST = 2**31 - 1

Index = Annotated[int, Path(ge=0, le=_LARGEST)]
"""Of a cell, a latent, a file."""
Name = Annotated[str, Path(min_length=1, max_length=300)]
"""Of a data set, a patient, a group, as it stands in a path; see `named`."""
Text = Annotated[str | None, Query(max_length=300)]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorMessage, "description": text}
    for status, text in {
        400: "The request makes no sense.",
        401: "No token, or a wrong one.",
        403: "From another site.",
        404: "Not there.",
        413: "Too large.",
        415: "Not an image.",
        422: "A value out of its range, or one that makes no sense here.",
        500: "A file of the study is damaged or has been replaced; the text names it.",
    }.items()
}
IMAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}, "description": "A JPEG."},
    304: {"description": "Not changed."},
}


def named(text: str) -> str:
    """A name out of a path, in which a slash of the name's own is still encoded (`cytosae.explorer.security.Guard`)."""
    return text.replace("%2F", "/").replace("%2f", "/")


def to_json(model: BaseModel) -> bytes:
    """A response as JSON, for the cache."""
    return model.model_dump_json().encode()


def answer(model: BaseModel | bytes) -> Response:
    """A response from a model of the route's type, or from its JSON."""
    content = model if isinstance(model, bytes) else to_json(model)
    return Response(content, media_type="application/json")
