"""The pictures of the explorer in the documentation, light and dark, made of the demonstration's study.

``python -m demo.pictures`` after ``python -m demo`` and ``python -m demo.tuning``; needs Debian's chromium. Annotations go
into a copy of the study.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from cytosae.cells import patch_tissues, read_cells
from demo.study import STUDY

IMAGES = Path(__file__).parents[1] / "docs" / "images"
NAME = "synthetic"
RATERS = ("Anna", "Ben")
CELL, PATCH = 3, (7, 9)
PANELS = {"change": "[data-change]", "region": "[data-similar]", "tuning": "[data-tuning]"}
"""Views of which only a panel is taken."""
REGION = (103, 104, 119, 120)
"""Patches of the nucleus of `CELL`, counted row by row."""
_ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_SHOWN = """() => [...document.images].every(one => one.getBoundingClientRect().top > innerHeight
    || (one.complete && one.naturalWidth > 0))"""


@dataclass(frozen=True)
class Explorer:
    """A running explorer."""

    base: str

    def ask(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """An answer of its API."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.base}api/{path}",
            data,
            {"Content-Type": "application/json"} if data else {},
            method=method if data else "GET",
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)


@contextmanager
def explorer(study: Path) -> Iterator[Explorer]:
    """The explorer of a study, until the block ends."""
    command = [sys.executable, "-m", "cytosae", "explore", str(study), "--port", "0", "--no-open", "--no-token"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Explorer(process.stdout.readline().strip())
        finally:
            process.send_signal(signal.SIGINT)


def strongest_concepts(server: Explorer, most: int) -> list[int]:
    """The concepts that the list of concepts begins with."""
    table = server.ask(f"latents/{NAME}")
    interest = np.where(table["concept"], np.array(table["interest"], float), -np.inf)
    return [int(table["latent"][place]) for place in np.argsort(-interest, kind="stable")[:most]]


def strongest_in(server: Explorer, cell: int) -> int:
    """Of a cell's concepts the one that is listed first among all."""
    shown = {concept["latent"] for concept in server.ask(f"cells/{NAME}/{cell}")["concepts"]}
    return next(latent for latent in strongest_concepts(server, 2000) if latent in shown)


def judge(server: Explorer, concepts: list[int]) -> int:
    """A worklist that two raters have worked through; its number."""
    items = [{"dataset": NAME, "latent": latent} for latent in concepts]
    wish = {"title": "Most interesting concepts", "items": items, "source": "demonstration"}
    worklist = int(server.ask("worklists", wish)["id"])
    for number, rater in enumerate(RATERS):
        for place, latent in enumerate(concepts[: len(concepts) - 3 * number]):
            verdict = "artefact" if place % (4 + number) == 3 else "meaningful"
            types = server.ask(f"latents/{NAME}/{latent}")["by_label"]
            name = max(types, key=lambda one: one["mean"])["name"] if number == 0 and place < 3 else ""
            annotation = {"worklist": worklist, "dataset": NAME, "latent": latent, "rater": rater, "version": 0}
            server.ask("annotations", {**annotation, "verdict": verdict, "name": name}, "PUT")
    return worklist


def teach(server: Explorer, study: Path) -> None:
    """Marks of nuclei on cells of several patients, from the drawn masks."""
    cells = read_cells(study / "cells.parquet")
    rows = [CELL, *cells.groupby("patient", observed=True).head(1).index[:12].tolist()]
    marks = []
    for row in dict.fromkeys(rows):
        nucleus = patch_tissues(study / cells["mask"][row], (16, 16))[0].ravel()
        for patches, mark in ((np.argsort(-nucleus)[:4], "this"), (np.flatnonzero(nucleus == 0)[::60], "not")):
            marks += [
                {"uid": f"picture-{row}-{patch}", "dataset": NAME, "row": int(row), "patch": int(patch), "mark": mark}
                for patch in patches
            ]
    server.ask("marks", {"concept": "Nucleus", "rater": RATERS[0], "marks": marks}, "PUT")


def smaller(picture: Image.Image) -> Image.Image:
    """In 256 colours: 176 of those that cover most of it, and 80 far from one another, which maps and marks have."""
    often, far = picture.quantize(176), picture.quantize(80, method=Image.Quantize.MAXCOVERAGE)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(often.getpalette() or [])[: 3 * 176], *(far.getpalette() or [])[: 3 * 80]])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def take(server: Explorer, study: Path, folder: Path, only: list[str]) -> None:
    """Write ``explorer-VIEW-light.png`` and ``-dark.png`` of some views; of all if none is named."""
    from playwright.sync_api import Locator, Page, sync_playwright

    concepts = strongest_concepts(server, 12)
    worklist = judge(server, concepts)
    teach(server, study)
    first, second = concepts[:2]
    groups = server.ask("study")["groups"]["diagnosis"]
    views = {
        "concepts": (f"concepts/{NAME}?latent={first}", "figure canvas"),
        "concept": (f"concept/{NAME}/{first}", ".grid img"),
        "beside": (f"concept/{NAME}/{first}?beside={second}", "article:nth-of-type(2) .grid img"),
        "cell": (f"cell/{NAME}/{CELL}?patch={PATCH[0]},{PATCH[1]}", "[data-patch-list]"),
        "cells": (f"cells/{NAME}?label=blast", ".picture img"),
        "patients": ("patients", "tbody tr"),
        "patient": ("patient/P000?against=healthy", "figure canvas"),
        "compare": (f"compare/{groups[0]}/{groups[-1]}", ".sides img"),
        "classifier": ("classifier", "table"),
        "upload": ("upload", "input[type=file]"),
        "worklists": ("worklists", "li h2"),
        "annotate": (f"annotate/{worklist}/{len(concepts) - 2}?rater={RATERS[1]}", "[role=radiogroup]"),
        "teach": (f"cell/{NAME}/{CELL}?teach=Nucleus", "text=What was learned"),
        "summary": (f"summary/{worklist}", "[data-rater-row]"),
        "change": (f"cell/{NAME}/{CELL}?latent={strongest_in(server, CELL)}", "[data-change] table"),
        "region": (f"cell/{NAME}/{CELL}?region={','.join(map(str, REGION))}", "[data-similar] li img"),
        "tuning": (f"concept/{NAME}/{first}", "[data-tuning] svg"),
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
            page.set_default_timeout(300_000)
            page.goto(f"{server.base}#/concepts/{NAME}")
            page.get_by_role("button", name="No, thanks").click()  # the tour
            for name in only or views:
                address, expected = views[name]
                page.goto(f"{server.base}#/{address}")
                page.wait_for_selector(expected)
                if name == "upload":
                    image = read_cells(study / "cells.parquet")["path"][CELL]
                    page.set_input_files("input[type=file]", str(study / image))
                    page.wait_for_selector("[data-patches] img")
                if name == "cell":
                    page.locator("[data-patch-list] button").first.click()
                shown: Page | Locator = page
                if name in PANELS:
                    shown = page.locator(PANELS[name])
                    shown.scroll_into_view_if_needed()
                for _ in range(2):  # what an answer brings asks for images
                    page.wait_for_load_state("networkidle")
                    page.wait_for_timeout(2000)
                page.wait_for_function(_SHOWN)
                picture = smaller(Image.open(BytesIO(shown.screenshot())).convert("RGB"))
                picture.save(folder / f"explorer-{name}-{scheme}.png", optimize=True)
            page.close()
        browser.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("views", nargs="*", help="all if none is named")
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--output", type=Path, default=IMAGES)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(given.study, Path(folder) / STUDY))
        with explorer(copy) as server:
            take(server, copy, given.output, given.views)


if __name__ == "__main__":
    main()
