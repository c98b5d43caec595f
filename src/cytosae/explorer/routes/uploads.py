"""Cells that are laid before the study: looked at, kept in memory for an hour, never in the study."""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import scipy.sparse as sp
from fastapi import APIRouter, Header, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray
from PIL import Image
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from cytosae.cells import TooManyPixels, UnreadableImage, read_image
from cytosae.cells.images import squashed
from cytosae.explorer.dataset import COMMON_SHARE
from cytosae.explorer.images import SIZES, CellImages, jpeg
from cytosae.explorer.neighbours import similar_cells
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.routes import IMAGE, Index, Name, answer
from cytosae.explorer.routes.cells import Size, image_response, strongest
from cytosae.explorer.schemas import cells as s

if TYPE_CHECKING:
    from cytosae.explorer.activations import Activations, Tokens

FILES, FILE_BYTES, PIXELS = 20, 20 * 10**6, 50 * 10**6
"""Files of one upload, bytes and pixels of each, at most."""
BODY = FILES * FILE_BYTES + 2**20
"""Bytes of one upload."""
MOST_CELLS, SECONDS = 100, 3600.0
"""Cells that are kept, and for how long."""
_TOGETHER = 2  # uploads that are in memory at the same time; others wait before they are read

_DOCUMENTED: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": FILES,
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            }
        },
    }
}


@dataclass(frozen=True)
class Cell:
    """A cell that was uploaded."""

    about: s.UploadedCell
    tokens: Tokens
    jpegs: dict[int, bytes]
    """JPEG by edge."""


class Uploads:
    """The uploads that are kept: the youngest, up to `MOST_CELLS` cells."""

    def __init__(self) -> None:
        self._uploads: OrderedDict[str, list[Cell]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(len(cells) for cells in self._uploads.values())

    def add(self, cells: list[Cell]) -> str:
        """Keep some cells for an hour; gives their name, which nobody can guess."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._uploads[name] = cells
            while len(self) > MOST_CELLS:
                self._uploads.popitem(last=False)
        forget = threading.Timer(SECONDS, self.drop, [name])
        forget.daemon = True
        forget.start()
        return name

    def drop(self, name: str) -> None:
        """Forget an upload."""
        with self._lock:
            self._uploads.pop(name, None)

    def cell(self, name: str, index: int) -> Cell:
        """One of the cells."""
        with self._lock:
            cells = self._uploads.get(name, [])
        if index >= len(cells):
            raise HTTPException(404, "No such upload: it was dropped, or never there. Uploads are kept for an hour.")
        return cells[index]


def router(reader: StudyReader, cell_images: CellImages, activations: Callable[[], Activations]) -> APIRouter:
    """``/api/uploads``."""
    routes = APIRouter()
    uploads = Uploads()
    few = asyncio.Semaphore(_TOGETHER)
    one_at_a_time = threading.Lock()

    def look(files: list[UploadFile]) -> s.Uploaded:
        cells, refused = list[Cell](), list[tuple[s.RefusedFile, int]]()
        with one_at_a_time:
            for number, file in enumerate(files, start=1):
                name = _shown(file.filename or "", number)
                try:
                    image = _decoded(file.file.read(), cell_images.intensity)
                except HTTPException as error:
                    refused.append((s.RefusedFile(name=name, reason=error.detail), error.status_code))
                    continue
                cells.append(_cell(reader, activations(), cell_images, len(cells), name, image))
        if not cells:
            raise HTTPException(refused[0][1], " ".join(f"{one.name}: {one.reason}" for one, _ in refused))
        about = [cell.about for cell in cells]
        return s.Uploaded(id=uploads.add(cells), cells=about, refused=[one for one, _ in refused])

    @routes.post("/api/uploads", response_model=s.Uploaded, openapi_extra=_DOCUMENTED)
    async def upload(request: Request) -> Response:
        """Look at cells that are not in the study; a file that cannot be read is named, and the others are shown."""
        async with few:
            form = await _read(request)
            try:
                files = [part for part in form.getlist("files") if isinstance(part, UploadFile)]
                if not files:
                    raise HTTPException(422, "No file: send the images in the field 'files'.")
                return answer(await run_in_threadpool(look, files))
            finally:
                await form.close()

    @routes.get("/api/uploads/{id}/{index}/image", response_class=Response, responses=IMAGE)
    def image(
        id: Name,
        index: Index,
        size: Size = "224",
        if_none_match: Annotated[str | None, Header(max_length=300)] = None,
    ) -> Response:
        """An uploaded cell's image, squashed to a square."""
        return image_response(uploads.cell(id, index).jpegs[int(size)], if_none_match)

    @routes.get("/api/uploads/{id}/{index}/patches", response_model=s.Patches)
    def patches(id: Name, index: Index) -> Response:
        """The strongest latents of every patch of an uploaded cell."""
        return answer(activations().strongest(uploads.cell(id, index).tokens, reader.common_everywhere))

    @routes.get("/api/uploads/{id}/{index}/maps/{latent}", response_model=s.LatentMap)
    def map_(id: Name, index: Index, latent: Index) -> Response:
        """A latent on an uploaded cell."""
        reader.first.check_latent(latent)
        return answer(activations().map(uploads.cell(id, index).tokens, latent))

    @routes.get("/api/uploads/{id}/{index}/similar", response_model=s.SimilarCells)
    def similar(id: Name, index: Index) -> Response:
        """Cells of the study's first data set that are most like an uploaded cell, by their concepts."""
        _, means = _encoded(activations(), uploads.cell(id, index).tokens, reader.tau)
        return answer(similar_cells(reader.first, means))

    return routes


class _InMemory(MultiPartParser):
    """A form whose files never touch the disk, and are cut one byte after the longest that is read."""

    spool_max_size = BODY

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers, stream, max_files=FILES, max_fields=FILES)
        self._bytes = 0

    def on_part_begin(self) -> None:
        self._bytes = 0
        super().on_part_begin()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        end = min(end, start + FILE_BYTES + 1 - self._bytes)
        if start < end:
            self._bytes += end - start
            super().on_part_data(data, start, end)


async def _read(request: Request) -> FormData:
    """The form of a request."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(415, "Send the images as multipart/form-data, in the field 'files'.")
    try:
        return await _InMemory(request.headers, request.stream()).parse()
    except MultiPartException as error:
        many = error.message.startswith("Too many")
        raise HTTPException(413 if many else 400, f"Not a form with up to {FILES} files: {error.message}") from error


def _shown(name: str, number: int) -> str:
    """A file's name, without folders and what cannot be printed."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c for c in last if c.isprintable())[:200].strip() or f"file {number}"


def _cell(
    reader: StudyReader, activations: Activations, images: CellImages, index: int, name: str, image: Image.Image
) -> Cell:
    import torch  # with the rest, what the explorer's start does not wait for

    from cytosae.analysis import study_framing
    from cytosae.cells import frame_of_one
    from cytosae.concepts import cell_summaries, read_familiarity
    from cytosae.concepts.familiarity import ALARMS

    known = read_familiarity(reader.folder, activations.sae)
    frame, note = frame_of_one(image, study_framing(reader.folder), images.usual_edge)
    shown = {size: squashed(image, size, frame) for size in SIZES}
    tokens = activations.embed(shown[activations.size], name)
    counts, means = _encoded(activations, tokens, reader.tau)
    far = known is not None and bool(known.far(cell_summaries(torch.from_numpy(tokens)[None]), counts)[0])
    beyond = (
        f"It lies farther from the cells of the study than {1 - ALARMS:.0%} of these (so 1 in {1 / ALARMS:.0f} of them "
        "would be marked too): the concepts may not hold for it"
    )
    about = s.UploadedCell(
        index=index,
        name=name,
        width=image.width,
        height=image.height,
        n_active=means.nnz,
        concepts=strongest(counts, means, reader.common_everywhere),
        common_share=COMMON_SHARE,
        notes=[*([] if note is None else [note]), *([beyond] if far else [])],
    )
    return Cell(about, tokens, {size: jpeg(pixels) for size, pixels in shown.items()})


def _decoded(data: bytes, intensity: str | None) -> Image.Image:
    if len(data) > FILE_BYTES:
        raise HTTPException(413, f"The file is larger than {FILE_BYTES / 1e6:.0f} MB.")
    try:
        return read_image(data, intensity, PIXELS).image
    except TooManyPixels as error:
        raise HTTPException(413, _sentence(error)) from error
    except UnreadableImage as error:
        raise HTTPException(415, _sentence(error)) from error


def _sentence(error: Exception) -> str:
    text = f"{error}".rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def _encoded(activations: Activations, tokens: Tokens, tau: float) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Counts and means of a cell, as they are in a study."""
    h: NDArray[np.float32] = activations.encode(tokens).numpy()
    counts, means = (h > tau).sum(axis=0, dtype=np.int32), h.mean(axis=0)
    return sp.csr_matrix(counts[None]), sp.csr_matrix(means[None])
