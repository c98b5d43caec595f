"""The page of one patient: what is unusual, and the cells that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import escape
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from cytosae import __version__
from cytosae.report.inline import jpeg, png, template
from cytosae.report.overlays import overlay

_EDGE = 160  # pixels of a picture


@dataclass(frozen=True)
class Tile:
    """A cell with a map on it."""

    plain: str
    """The image as base64."""
    marked: str
    """The same with the map over it."""
    title: str
    note: str

    @classmethod
    def from_map(cls, image: NDArray[np.uint8], map_: ArrayLike, top: float, title: str, note: str) -> Tile:
        """From an image, its map ``(rows, columns)`` and the value of the map with the strongest colour."""
        return cls(_small(image), _small(overlay(image, map_, top=top or 1.0, smooth=True)), title, note)


@dataclass(frozen=True)
class Concept:
    """A concept of the patient, with the cells that have most of it."""

    title: str
    facts: Sequence[str]
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Section:
    """What the page says on one question."""

    title: str
    text: str
    """What is shown and by which rule it was selected."""
    figures: Sequence[Figure] = ()
    cells: Sequence[Tile] = ()
    concepts: Sequence[Concept] = ()
    nothing: str = ""
    """Said where there is nothing to show."""
    cells_title: str = "Cells that carry it most"


def patient_page(
    name: str, subtitle: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section], caveats: Sequence[str]
) -> str:
    """The page as HTML that loads nothing from anywhere.

    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    drawn = [
        {
            "title": s.title,
            "text": s.text,
            "figures": [png(figure) for figure in s.figures],
            "cells": s.cells,
            "cells_title": s.cells_title,
            "concepts": s.concepts,
            "nothing": s.nothing,
        }
        for s in sections
    ]
    return template("patient.html.j2").render(
        name=name, subtitle=subtitle, facts=facts, sections=drawn, caveats=caveats, version=__version__
    )


def is_patient_page(path: Path, title: str) -> bool:
    """Whether a file is a page of this program with this title.

    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    with path.open(encoding="utf-8") as file:
        head = file.read(4096)
    return '<meta name="generator" content="cytosae ' in head and f"<title>{escape(title)} - cytosae</title>" in head


def _small(image: NDArray[np.uint8]) -> str:
    return jpeg(np.asarray(Image.fromarray(image).resize((_EDGE, _EDGE), Image.Resampling.LANCZOS)), quality=85)
