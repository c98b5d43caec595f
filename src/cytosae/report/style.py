"""One style for all figures: colour-blind safe, as PNG and SVG, the same figure as the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from cytosae.artefacts import refuse_foreign, whole_file

INK, MUTED, RULE, NULL = "#1c2430", "#66707f", "#d9dee6", "#a3abb7"
BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
"""The colours of Okabe and Ito that can be read on white, in the order in which lines take them."""
SERIES = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY)
ACCENT = ORANGE
HISTOGRAM = "#8fa9c4"

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#eef1f5",
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "figure.dpi": 160,
    "svg.hashsalt": "cytosae",
}


@contextmanager
def style() -> Iterator[None]:
    """The style of all figures."""
    with mpl.rc_context(_STYLE):
        yield


@contextmanager
def drawing(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Iterator[Figure]:
    """An empty figure of this size in inches, and the style while it is drawn.

    With ``layout=None`` axes stay where `axes_at` puts them.
    """
    with style():
        figure = Figure(figsize=(width, height), layout=layout)
        FigureCanvasAgg(figure)
        yield figure


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes in inches from the upper left corner: pictures of one size, however many there are."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def text_at(figure: Figure, left: float, top: float, text: str, **properties: Any) -> Text:
    """Text in inches from the upper left corner."""
    across, down = figure.get_size_inches()
    return figure.text(left / across, 1 - top / down, text, **{"color": INK, "va": "top", **properties})


def heading(figure: Figure, text: str) -> None:
    """The line over the whole figure."""
    across, down = figure.get_size_inches()
    position = {} if figure.get_layout_engine() else {"y": 1 - 0.12 / down}
    figure.suptitle(text, x=0.1 / across, ha="left", fontsize=11, color=INK, **position)


def number(value: float) -> str:
    """Three digits that count; whole from a thousand on.

    Examples
    --------
    >>> number(0.12345), number(12345.6)
    ('0.123', '12,346')
    """
    if np.isnan(value):
        return "no value"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


_PROGRAM = "cytosae"
_METADATA = {".svg": {"Date": None, "Creator": _PROGRAM}, ".png": {"Software": _PROGRAM}}


def figure_files(figure: str) -> list[str]:
    """Names of the files of a figure.

    Examples
    --------
    >>> sorted(figure_files("references"))
    ['references.png', 'references.svg']
    """
    return [figure + suffix for suffix in _METADATA]


def refuse_foreign_figure(path: Path, command: str) -> None:
    """Refuse to replace ``<path>.png`` or ``<path>.svg`` where they are not figures of this program.

    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    for name in figure_files(path.name):
        refuse_foreign(path.with_name(name), command, _is_own)


def _is_own(path: Path) -> bool:
    if path.suffix == ".png":
        with Image.open(path) as image:
            return image.info.get("Software") == _PROGRAM
    with path.open(encoding="utf-8") as file:
        return f"<dc:title>{_PROGRAM}</dc:title>" in file.read(4096)


def save(figure: Figure, path: Path) -> None:
    """Write ``<path>.png`` and ``<path>.svg``; the same figure gives the same bytes.

    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    with style():
        # Laid out once and drawn once for each file: `Figure.savefig` would lay out and draw twice for each.
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
            figure.set_layout_engine("none")
        figure.set_facecolor("white")
        with whole_file(path.with_name(f"{path.name}.png")) as temporary:
            FigureCanvasAgg(figure).print_png(temporary, metadata=_METADATA[".png"])
        with whole_file(path.with_name(f"{path.name}.svg")) as temporary:
            FigureCanvasSVG(figure).print_svg(temporary, metadata=_METADATA[".svg"])
