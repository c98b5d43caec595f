"""The application: the read API, the annotations and the page, behind one guard."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Scope

from cytosae import __version__
from cytosae.console import say
from cytosae.errors import CytosaeError, NotFound, Unanswerable
from cytosae.explorer.annotations import Database, mark_routes, open_database
from cytosae.explorer.annotations import routes as annotation_routes
from cytosae.explorer.caching import once
from cytosae.explorer.fields import FieldImages
from cytosae.explorer.images import CellImages
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.routes import PROBLEMS
from cytosae.explorer.routes import cells as cell_routes
from cytosae.explorer.routes import classifier as classifier_routes
from cytosae.explorer.routes import fields as field_routes
from cytosae.explorer.routes import latents as latent_routes
from cytosae.explorer.routes import patients as patient_routes
from cytosae.explorer.routes import study as study_routes
from cytosae.explorer.routes import teaching as teaching_routes
from cytosae.explorer.routes import uploads as upload_routes
from cytosae.explorer.security import Guard, PublicAddress

if TYPE_CHECKING:
    from cytosae.explorer.activations import Activations
    from cytosae.explorer.cohorts import Cohort
    from cytosae.explorer.taught import TaughtConcepts

BUNDLE = Path(__file__).with_name("bundle")
"""The page, as it was built from ``frontend/``."""
_WARM_UP = 2.0  # seconds after which what the first view does not need is loaded, before anybody asks for it
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ABOUT: dict[str, Any] = {"title": "cytosae explorer", "version": __version__, "responses": PROBLEMS}


def create_app(
    study: Path,
    *,
    token: str | None = None,
    hosts: Sequence[str] = LOOPBACK,
    public_url: str | None = None,
    annotations: str | None = None,
    uploads: bool = True,
) -> FastAPI:
    """The explorer of a study, for any ASGI server.

    Parameters
    ----------
    study
        Its folder.
    token
        Asked for on every path; None asks for nothing.
    hosts
        Names by which the server may be addressed.
    public_url
        Address at which a proxy offers the server to others, such as ``https://cells.hospital.org``.
    annotations
        SQLAlchemy address of the annotations; ``annotations.sqlite`` in the study if None.
    uploads
        Whether cells may be uploaded to be looked at.

    Raises
    ------
    CytosaeError
        Not a finished study, annotations that cannot be opened, or no such public address.
    """
    public = None if public_url is None else PublicAddress.parse(public_url)
    reader = StudyReader(study)
    database = open_database(study, annotations)
    if database.notice is not None:
        say(f"explorer: {database.notice}")
    reader.weights_fit  # noqa: B018  says now what is not shown, and what to run

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warm = threading.Timer(_WARM_UP, warm_up)
        warm.daemon = True
        warm.start()
        yield
        warm.cancel()
        database.close()
        reader.close()

    app = FastAPI(
        **_ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        middleware=[
            Middleware(Guard, token=token, hosts=hosts, public=public, bodies={"/api/uploads": upload_routes.BODY}),
            Middleware(GZipMiddleware, minimum_size=1024, compresslevel=4),
        ],
    )
    cell_images = CellImages(reader)

    @once
    def activations() -> Activations:
        from cytosae.explorer.activations import Activations  # imports torch

        return Activations(reader, cell_images)

    @once
    def cohort() -> Cohort:
        from cytosae.explorer.cohorts import Cohort  # imports scikit-learn

        return Cohort(reader, activations())

    @once
    def taught() -> TaughtConcepts:
        from cytosae.explorer.taught import TaughtConcepts  # imports scikit-learn

        return TaughtConcepts(reader, activations)

    def warm_up() -> None:
        with suppress(CytosaeError):  # the request for it reports the error
            reader.first.alike  # noqa: B018
            activations().sae  # noqa: B018
            cohort()

    app.state.study = reader.folder
    uploads = uploads and reader.backbone is not None
    for router in _routers(reader, database, cell_images, activations, cohort, taught, uploads=uploads):
        app.include_router(router)
    _explain_problems(app)
    app.mount("/", _Page(directory=BUNDLE, html=True, check_dir=False))
    return app


def _routers(
    reader: StudyReader,
    database: Database,
    cell_images: CellImages,
    activations: Callable[[], Activations],
    cohort: Callable[[], Cohort],
    taught: Callable[[], TaughtConcepts],
    *,
    uploads: bool,
) -> list[APIRouter]:
    """All routes of the API: a file of `cytosae.explorer.routes` is a line here."""
    field_images = FieldImages(reader, cell_images)
    return [
        study_routes.router(reader, field_images, uploads, database),
        latent_routes.router(reader, activations),
        cell_routes.router(reader, cell_images, field_images, activations),
        field_routes.router(reader, field_images),
        patient_routes.router(reader, cohort),
        classifier_routes.router(reader),
        *([upload_routes.router(reader, cell_images, activations)] if uploads else []),
        mark_routes.router(database, reader),
        teaching_routes.router(reader, database, taught),
        annotation_routes.router(database),
    ]


def description() -> dict[str, Any]:
    """The OpenAPI description of the API, from which the page's types are made. It needs no study: routes read one only
    when they answer.
    """
    app, nothing = FastAPI(**_ABOUT), cast(Any, None)
    for router in _routers(nothing, nothing, nothing, nothing, nothing, nothing, uploads=True):
        app.include_router(router)
    return app.openapi()


def _explain_problems(app: FastAPI) -> None:
    """Every error as one sentence."""

    @app.exception_handler(CytosaeError)
    async def failed(request: Request, error: CytosaeError) -> JSONResponse:
        status = 404 if isinstance(error, NotFound) else 422 if isinstance(error, Unanswerable) else 500
        if status == 500:
            say(f"explorer: {quote(request.url.path)}: {error}")
        return JSONResponse({"detail": str(error)}, status)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        """What nobody expected; the server's own output has the rest."""
        return JSONResponse(
            {"detail": f"The explorer cannot answer this ({type(error).__name__}); see its output."}, 500
        )

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"detail": str(error.detail)}, error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"] if step not in {"path", "query", "body", "header"})
        return JSONResponse({"detail": f"{where or 'body'}: {first['msg']}"}, 422)


class _Page(StaticFiles):
    """The page; the names of its files may stay while they change, so that browsers ask again."""

    async def check_config(self) -> None:
        """No complaint if the page is not built; whoever asks for it gets the reason."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file of the page."""
        if path == "api" or path.startswith(("api/", "api\\")):
            raise HTTPException(404, "No such route.")
        if not BUNDLE.is_dir():
            raise HTTPException(404, "This installation lacks the page: build it in frontend/.")
        try:
            response = await super().get_response(path, scope)
        except (OSError, ValueError) as error:  # names that no file can have
            raise HTTPException(404, "No such file.") from error
        response.headers["Cache-Control"] = "no-cache"
        return response
