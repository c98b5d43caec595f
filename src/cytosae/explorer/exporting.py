"""A study as a folder of files that any web server can show: the page and the answers that it asks for."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI

from cytosae.artefacts import ANNOTATIONS, MANIFEST, FileRecord, Manifest, disk_errors, foreign, make_folder, own_files
from cytosae.concepts import check_encoded_with
from cytosae.console import Bar, progress, say
from cytosae.errors import CytosaeError, in_short
from cytosae.explorer.answers import HOST, ask, detail
from cytosae.explorer.app import BUNDLE, create_app
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.security import CONTENT_POLICY

CONCEPTS = 500
"""Concepts that have a page, at most."""
KINDS = ("reference", "random")
"""Kinds of images of each."""
MAPS, COMPARED = 12, 10
"""Maps of a cell, and latents of each side of a comparison that have images."""
UNUSUAL, CARRIERS, MOVING = 3, 6, 20
"""Unusual concepts of a patient of which the cells are listed, beside all taught ones; cells of each list that have a page;
concepts of the classifier that have one. `frontend/src/parts/PatientCells.svelte` knows the first two."""
STAGE = "explorer"
_PRIVATE: dict[str, Any] = {"annotations": None, "former": []}
"""What a page for others does not tell: paths of this machine."""


def export(
    study: Path, folder: Path, *, concepts: int = CONCEPTS, annotations: str | None = None, bundle: Path = BUNDLE
) -> dict[str, Any]:
    """Write a study as a static page; the folder is there whole or not at all.

    Parameters
    ----------
    study
        Its folder.
    folder
        Where the page goes. An earlier export there is replaced.
    concepts
        So many of the strongest discovered concepts have a page, and those that the pages of patients and the
        comparisons tell of.
    annotations
        Address of the annotations; those in the study if None.
    bundle
        The page as it was built.

    Returns
    -------
    Figures: files, pages of concepts, cells, answers that were not there (images that are gone).

    Raises
    ------
    CytosaeError
        Concepts of another autoencoder or of other taught concepts than the study's, another folder that is not empty, no
        permission, a full disk, or a page that cannot be made: it is named.
    """
    index = bundle / "index.html"
    if not index.is_file():
        raise CytosaeError(f"{index}: missing. This installation lacks the page: build it in frontend/.")
    StudyReader(study).close()
    check_encoded_with(study)
    target = folder.resolve()  # where a link leads; its name stays a link
    _refuse_foreign(target, folder)
    make_folder(target.parent)
    page, before = (target.with_name(f".{target.name}.cytosae-{state}") for state in ("partial", "before"))
    with disk_errors(folder):
        _tidy(target, page, before)
        try:
            shutil.copytree(bundle, page)
            (page / "index.html").write_text(_static(index.read_text(encoding="utf-8")), encoding="utf-8")
            figures = _written(study, page / "data", concepts, annotations)
            files = [path for path in page.rglob("*") if path.is_file()]
            outputs = {path.relative_to(page).as_posix(): FileRecord.from_file(path) for path in files}
            Manifest(STAGE, {"concepts": concepts}, {}, outputs, figures).save(page)
            if target.exists():
                _take_over(target, page)
                target.replace(before)
            page.replace(target)
        finally:
            _tidy(target, page, before)
    return {"folder": str(folder), **figures}


def _refuse_foreign(target: Path, folder: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise CytosaeError(f"--export {folder}: is a file. Give a folder that does not exist, or an empty one.")
    if any(target.iterdir()):
        try:
            known = Manifest.load(target)
        except CytosaeError:
            known = None
        if known is None or known.stage != STAGE:
            raise CytosaeError(f"--export {folder}: not empty, and not an earlier export. Choose another folder.")
        if not known.outputs:
            raise CytosaeError(
                f"--export {folder}: an export of an earlier version, which did not note its files. Choose another folder, "
                "or remove this one."
            )


def _take_over(target: Path, page: Path) -> None:
    """Copy what somebody else put into an earlier export into the new one; refuse where it stands in the way."""
    own = {*own_files(target, STAGE), MANIFEST}
    for path in target.rglob("*"):
        name = path.relative_to(target)
        if name.as_posix() in own:
            continue
        if path.is_dir() and not path.is_symlink():
            if (page / name).is_file():
                raise foreign(path, STAGE)
            (page / name).mkdir(parents=True, exist_ok=True)
        elif (page / name).exists():
            raise foreign(path, STAGE)
        else:
            (page / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, page / name, follow_symlinks=False)


def _tidy(target: Path, page: Path, before: Path) -> None:
    """Remove what an interrupted export left; one stopped between two names gives the earlier export its own back."""
    if before.exists() and not target.exists():
        before.replace(target)
    for folder in (page, before):
        if folder.exists():
            shutil.rmtree(folder)


def _static(page: str) -> str:
    """The page, set to read files instead of asking a server."""
    head, tag, rest = page.partition("<head>")
    if not tag:
        raise CytosaeError("index.html of the page has no <head>: build it again in frontend/.")
    policy = CONTENT_POLICY.rpartition("; ")[0]  # a page cannot say itself who may frame it
    tags = '<meta name="cytosae-static" content="true">'
    if "Content-Security-Policy" not in rest:
        tags += f'\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return f"{head}{tag}\n{tags}{rest}"


def _written(study: Path, data: Path, concepts: int, annotations: str | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        if annotations is None and not (study / ANNOTATIONS).exists():
            annotations = f"sqlite:///{scratch}/none.sqlite"  # nothing is made in the study
        app = create_app(study, hosts=[HOST], annotations=annotations, uploads=False)
        # a loop of its own, in a thread of its own: a notebook has one running already
        with progress("export", 0, "files") as bar, start_blocking_portal() as portal:
            return portal.call(_run, app, _Export(app, data, concepts, bar))


async def _run(app: FastAPI, job: _Export) -> dict[str, Any]:
    async with app.router.lifespan_context(app):
        return await job.write()


def segment(name: object) -> str:
    """A name as a part of a path, as a browser's encodeURIComponent has it; never a step upwards."""
    text = quote(str(name), safe="-_.!~*'()")
    return text.replace(".", "%2E") if not text.strip(".") else text


def joined(*names: object) -> str:
    """Path of an answer below ``/api/``."""
    return "/".join(segment(name) for name in names)


@dataclass
class _Export:
    """One export."""

    app: FastAPI
    data: Path
    concepts: int
    bar: Bar
    files: int = 0
    missing: int = 0
    shown: dict[tuple[str, int], set[int]] = field(default_factory=lambda: defaultdict(set))
    """Cells that are shown, with the latents for which they are."""

    async def write(self) -> dict[str, Any]:
        study = await self._json("study")
        tables = {info["name"]: await self._json("latents", info["name"]) for info in study["datasets"]}
        for info in study["datasets"]:
            await self._json("descriptions", info["name"])
            await self._json("typical", info["name"])
        pages = self._most_interesting(tables)
        for name in ("names", "annotations", "vocabulary", "worklists"):
            await self._json(name)
        if study["has"]["patients"]:
            await self._patients(pages, sorted(map(int, study["taught"])))
            await self._comparisons(study, tables, pages)
        if study["has"]["classification"]:
            study["has"]["classification"] = await self._classifier(study, pages)
        for number, (dataset, latent) in enumerate(sorted(pages), 1):
            self._expect(3 * (len(pages) - number) + 15 * len(self.shown))
            await self._concept(dataset, latent)
        for number, (dataset, row) in enumerate(sorted(self.shown), 1):
            self._expect((3 + MAPS) * (len(self.shown) - number + 1))
            await self._cell(dataset, row)
        exported = {name: sorted(latent for owner, latent in pages if owner == name) for name in tables}
        self._write_file("study", json.dumps({**study, "static": True, "exported": exported, **_PRIVATE}).encode())
        if self.missing:
            say(
                f"export: {self.missing:,} answers were not there, such as images whose file is gone; they are left out"
            )
        return {"files": self.files, "concepts": len(pages), "cells": len(self.shown), "missing": self.missing}

    def _most_interesting(self, tables: dict[str, Any]) -> set[tuple[str, int]]:
        """Data set and number of the most interesting concepts, in all data sets where they are concepts."""
        concepts = [
            (interest, latent, name)
            for name, table in tables.items()
            for latent, concept, interest in zip(table["latent"], table["concept"], table["interest"], strict=True)
            if concept
        ]
        chosen: dict[int, None] = {}
        for _, latent, _ in sorted(concepts, key=lambda one: (-one[0], one[1])):
            if len(chosen) == self.concepts:
                break
            chosen[latent] = None
        return {(name, latent) for _, latent, name in concepts if latent in chosen}

    async def _classifier(self, study: Any, pages: set[tuple[str, int]]) -> bool:
        """Whether there is one to show."""
        classifier = await self._optional("classifier")
        for concept in [] if classifier is None else classifier["concepts"][:MOVING]:
            pages.update((info["name"], concept["latent"]) for info in study["datasets"])
        return classifier is not None

    async def _patients(self, pages: set[tuple[str, int]], taught: list[int]) -> None:
        for row in (await self._json("patients"))["patients"]:
            patient = await self._json("patients", row["id"])
            for section in (patient["against"], patient["prediction"]):
                if section is not None:
                    pages.update((row["dataset"], concept["latent"]) for concept in section["concepts"])
                    self._show(section["cells"])
            unusual = [] if patient["against"] is None else patient["against"]["concepts"][:UNUSUAL]
            for latent in dict.fromkeys([*taught, *(concept["latent"] for concept in unusual)]):
                shown = await self._optional("patients", row["id"], "concepts", latent)
                self._show([] if shown is None else shown["cells"][:CARRIERS], latent)
            odd = await self._optional("patients", row["id"], "unfamiliar")
            self._show([] if odd is None or odd["unlike"] is None else odd["unlike"]["cells"][:CARRIERS])

    async def _comparisons(self, study: Any, tables: dict[str, Any], pages: set[tuple[str, int]]) -> None:
        groups = study["groups"].get("diagnosis", [])
        pairs = [(a, b) for a in groups for b in [*groups, "rest"] if a != b]
        concepts = {
            name: {s for s, concept in zip(table["latent"], table["concept"], strict=True) if concept}
            for name, table in tables.items()
        }
        for first, second in pairs:
            comparison = await self._json("compare", first, second, needed=False)  # of one group alone there is none
            if comparison is None:
                continue
            for row in [*comparison["top_first"][:COMPARED], *comparison["top_second"][:COMPARED]]:
                latent = row["latent"]
                pages.update((name, latent) for name, latents in concepts.items() if latent in latents)
                images = await self._json("compare", first, second, "images", latent)
                self._show([*images["first"], *images["second"]], latent)

    async def _concept(self, dataset: str, latent: int) -> None:
        await self._json("latents", dataset, latent)
        for kind in KINDS:
            images = await self._json("latents", dataset, latent, "images", kind, needed=False)
            if images is not None:
                self._show([{**cell, "dataset": dataset} for cell in images["cells"]], latent)

    async def _cell(self, dataset: str, row: int) -> None:
        cell = await self._json("cells", dataset, row)
        await self._save(joined("cells", dataset, row, "image"), needed=False)
        await self._save(joined("cells", dataset, row, "patches"), needed=False)
        strongest = [concept["latent"] for concept in cell["concepts"] if not concept["common"]][:MAPS]
        for latent in sorted({*strongest, *self.shown[dataset, row]}):
            await self._save(joined("cells", dataset, row, "maps", latent), needed=False)

    def _show(self, cells: Iterable[dict[str, Any]], latent: int | None = None) -> None:
        for cell in cells:
            self.shown[cell["dataset"], cell["row"]].update([] if latent is None else [latent])

    def _expect(self, more: int) -> None:
        self.bar.resize(self.files + max(more, 1))

    async def _json(self, *names: object, needed: bool = True) -> Any:
        body = await self._save(joined(*names), needed=needed)
        return None if body is None else json.loads(body)

    async def _optional(self, *names: object) -> Any:
        """An answer without which the rest of the page is whole; None, said and counted, where there is none."""
        try:
            return await self._json(*names)
        except CytosaeError as error:
            say(f"{error} It is left out.")
            self.missing += 1
            return None

    async def _save(self, path: str, *, needed: bool = True) -> bytes | None:
        """Ask for an answer and write it; None where there is none and it is not needed."""
        try:
            status, kind, body = await ask(self.app, f"/api/{path}")
        except Exception as error:  # whatever a damaged file has led to
            raise CytosaeError(f"--export: the page {path} cannot be made: {in_short(error)}") from error
        if status == 404 and not needed:
            self.missing += 1
            return None
        if status != 200:
            raise CytosaeError(f"--export: the page {path} cannot be made: {detail(body)}")
        self._write_file(path, body, ".jpg" if kind == "image/jpeg" else ".json")
        return body

    def _write_file(self, path: str, body: bytes, ending: str = ".json") -> None:
        file = self.data / f"{path}{ending}"
        self.files += not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
        self.bar.to(self.files)
