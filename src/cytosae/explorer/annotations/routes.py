"""The interface of the annotations: worklists, verdicts, names, summaries."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError

from cytosae.artefacts import SPREADSHEET
from cytosae.errors import CytosaeError, NotFound
from cytosae.explorer.annotations import recording, schemas, worklists
from cytosae.explorer.annotations.database import Damaged, Database, OtherAutoencoder, Unknown
from cytosae.explorer.annotations.exchange import everything
from cytosae.explorer.annotations.naming import agreed_names
from cytosae.explorer.annotations.summary import summarise
from cytosae.explorer.annotations.tabular import in_words, to_csv
from cytosae.explorer.annotations.vocabulary import VOCABULARY
from cytosae.explorer.annotations.whereabouts import DIGITS
from cytosae.explorer.schemas.values import ErrorMessage

Asking = Annotated[schemas.Rater | None, Query(description="who asks: to be sent the own annotations of blind lists")]

_MEANING = {
    400: "not JSON",
    404: "no such worklist, item, data set or latent",
    409: "the annotations here are of another study or autoencoder",
    422: "not as described, or too long",
    503: "the database cannot be used now",
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorMessage, "description": meaning} for status, meaning in _MEANING.items()
}
_STALE: dict[int | str, dict[str, Any]] = {
    409: {"model": schemas.Conflict | ErrorMessage, "description": f"another version by now, or {_MEANING[409]}"}
}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/csv": {"schema": {"type": "string"}},
        },
        "description": "The file.",
    }
}
Key = Annotated[str | None, Header(alias="Cytosae-Study", max_length=200, description="`key` of `/api/study`")]


class OneSentence(APIRoute):
    """A route whose errors are one sentence."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with what is not found, not valid, or not to be reached as answers."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise HTTPException(422, _sentence(error)) from error
            except OtherAutoencoder as error:
                raise HTTPException(409, str(error)) from error
            except Damaged as error:
                raise HTTPException(503, str(error)) from error
            except CytosaeError as error:
                raise HTTPException(404 if isinstance(error, NotFound) else 422, str(error)) from error
            except Unknown as error:
                raise HTTPException(404, str(error)) from error
            except SQLAlchemyError as error:
                raise HTTPException(503, "The database of annotations cannot be used now; try again.") from error

        return answer


def annotation_router(database: Database) -> APIRouter:
    """Where routes over one database belong, below ``/api``; pages of another study are refused."""

    def check_study(key: Key = None) -> None:
        if key is not None and key != database.key:
            raise HTTPException(409, "This page was opened on another study than the one that is served here now.")

    return APIRouter(
        prefix="/api",
        tags=["annotations"],
        route_class=OneSentence,
        responses=_PROBLEMS,
        dependencies=[Depends(check_study)],
    )


def router(database: Database) -> APIRouter:
    """All routes of the annotations over one database."""
    api = annotation_router(database)

    @api.get("/worklists")
    def list_worklists() -> list[schemas.WorklistSummary]:
        """All worklists and how far every rater is."""
        with database.reading() as session:
            return worklists.listed(session)

    @api.post("/worklists", status_code=201)
    def make_worklist(wish: schemas.WorklistRequest) -> schemas.Worklist:
        """Make a worklist of chosen latents."""
        number, _ = worklists.add(database, worklists.from_list(wish))
        return open_worklist(number)

    @api.post("/worklists/import", status_code=201)
    def import_worklist(
        file: schemas.WorklistFile,
        title: schemas.Title | None = None,
        blind_labels: bool = False,
        blind_raters: bool = False,
    ) -> schemas.Worklist:
        """Make the worklist of a file of `cytosae panel`; the same once more gives the one that is there."""
        plan = worklists.from_panel(
            file, database.sae, title=title, blind_labels=blind_labels, blind_raters=blind_raters
        )
        number, _ = worklists.add(database, plan)
        return open_worklist(number)

    @api.get("/worklists/{worklist}")
    def open_worklist(worklist: schemas.Id, rater: schemas.Rater | None = None) -> schemas.Worklist:
        """A worklist with the annotations of a rater, and those of the others unless they are hidden."""
        with database.reading() as session:
            return worklists.load_for_rater(session, worklist, rater)

    @api.patch("/worklists/{worklist}")
    def change_worklist(worklist: schemas.Id, wish: schemas.WorklistChange) -> schemas.Worklist:
        """Change the title of a worklist, or what is hidden in it."""
        worklists.change(database, worklist, wish)
        return open_worklist(worklist)

    @api.put("/annotations", response_model=schemas.Annotation, responses=_STALE)
    def put_annotation(wish: schemas.AnnotationRequest) -> schemas.Annotation | JSONResponse:
        """Say something of a latent. When the answer comes it is on the disk."""
        try:
            return recording.save_annotation(database, wish)
        except recording.Stale:
            with database.reading() as session:
                current = recording.current(session, wish)
            detail = "This annotation was changed in another window; nothing was overwritten."
            return JSONResponse(schemas.Conflict(detail=detail, current=current).model_dump(mode="json"), 409)

    @api.get("/annotations")
    def list_annotations(
        latent: schemas.Latent | None = None, rater: schemas.Rater | None = None, asking: Asking = None
    ) -> list[schemas.Annotation]:
        """Current annotations of a latent, of a rater, or all; none of another autoencoder's latents."""
        if database.is_foreign:
            return []
        with database.reading() as session:
            return recording.current_annotations(
                session, latent=latent, rater=rater, blind=True, asking=asking or rater
            )

    @api.get("/annotations/export", response_class=Response, responses=_FILE)
    def export_annotations(format: Literal["json", "csv"] = "json", rater: Asking = None) -> Response:
        """All judgements as a file, but those of others where worklists hide raters from one another."""
        stored = everything(database, blind=True, asking=rater)
        named = f"annotations-{database.sae[:DIGITS]}.{format}"
        kind, body = (
            ("application/json", json.dumps(stored.model_dump(mode="json"), ensure_ascii=False, indent=1).encode())
            if format == "json"
            else ("text/csv; charset=utf-8", to_csv(stored).encode(SPREADSHEET))
        )
        return Response(body, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{named}"'})

    @api.get("/annotations/{dataset:path}/{latent}/history")
    def list_history(dataset: schemas.Dataset, latent: schemas.Latent, rater: Asking = None) -> list[schemas.Change]:
        """Everything that was ever said of a latent in a data set, oldest first."""
        database.check(dataset, latent)
        if database.is_foreign:
            return []
        with database.reading() as session:
            return recording.history(session, dataset, latent, rater)

    @api.get("/names")
    def names(rater: Asking = None) -> dict[str, schemas.Named]:
        """The agreed name of each latent and that of the rater who asks, by latent."""
        if database.is_foreign:
            return {}
        with database.reading() as session:
            shown = recording.current_annotations(session, blind=True, asking=rater)
            agreed = agreed_names(shown, asking=rater)
        return {str(latent): named for latent, named in agreed.items()}

    @api.get("/vocabulary")
    def vocabulary() -> dict[str, list[str]]:
        """The terms that annotations may have, by vocabulary."""
        return {name: list(terms) for name, terms in VOCABULARY.items()}

    @api.get("/summary")
    def summary(worklist: schemas.Id | None = None, rater: Asking = None) -> schemas.Summary:
        """What came of a worklist, or of what was said outside any."""
        with database.reading() as session:
            return summarise(session, worklist, blind=True, asking=rater)

    return api


def _sentence(error: RequestValidationError) -> str:
    """The first thing that is wrong with a request, without what was sent."""
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"] if step not in {"body", "query", "path"})
    return f"{where or 'The request'}: {in_words(first)}.".encode("utf-8", "replace").decode()
