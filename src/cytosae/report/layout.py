"""What the figures of patients share: labels that do not touch, one scale for counts, no more columns than pixels."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from cytosae.report.style import BLUE, INK, RULE, axes_at

LINEAR = 0.1
"""Counts far below it are drawn in proportion, far above by their logarithm (asinh), so that 0 has a place."""
DARK = LinearSegmentedColormap.from_list("dark", ["white", "#b9d7ea", BLUE, INK]).with_extremes(bad=RULE)
"""White for 0; light grey where there is no value."""
_DECADES = (0.1, 1.0, 10.0, 100.0)
_PIXELS = 160  # of an inch, as in PNG files


def wrapped(name: str, width: int, lines: int = 3) -> str:
    """A name in up to so many lines, its underscores as spaces."""
    return textwrap.fill(str(name).replace("_", " "), width, max_lines=lines, placeholder="…")


def counted(number: int, noun: str) -> str:
    """So many of something, in words."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def members(groups: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Rows of each group, groups by name."""
    names = pd.Series(list(groups), dtype=object).fillna("unknown").astype(str)
    return {str(name): np.asarray(rows) for name, rows in names.groupby(names).indices.items()}


def depth(label: str) -> float:
    """Inches that the lines of a label take, with a little space."""
    return 0.07 + 0.14 * (label.count("\n") + 1)


def reach(labels: Iterable[str], length: float | None = None) -> float:
    """Inches that labels of `flags` reach outwards beside axes, or below and above them in a row of this length."""
    texts = list(labels)
    widest = max(map(_breadth, texts), default=0.0)
    return widest if length is None or _upright(texts, length) else max(map(depth, texts), default=0.0)


def _breadth(label: str) -> float:
    return 0.072 * max(map(len, label.splitlines()), default=0)


def _upright(labels: Sequence[str], length: float) -> bool:
    """Have labels to stand upright to find room in a row of this length in inches?"""
    return sum(0.12 + _breadth(label) for label in labels) > length


def flags(axes: Axes, x: ArrayLike, y: ArrayLike, labels: Iterable[object], colour: str, side: str = "top") -> None:
    """Labels in a row at one side of the axes, each with a line to its point; of many the first, as many as find room.

    They stand as near to their points as they can without touching (least squares).

    Parameters
    ----------
    axes
        With limits and a place of their own already.
    x, y
        Points in data, ``(n_labels,)``.
    side
        "top" or "bottom" (upright where there is no room otherwise), "left" or "right".
    """
    texts = [str(label) for label in labels]
    if not texts:
        return
    along, out = (1, 0) if side in ("left", "right") else (0, 1)
    size = np.asarray(axes.bbox.size) / axes.figure.dpi
    upright = along == 0 and _upright(texts, size[0])
    room = np.array([depth(text) if along or upright else 0.12 + _breadth(text) for text in texts])
    shown = np.flatnonzero(np.cumsum(room) <= size[along] + 1e-9)
    points = axes.transAxes.inverted().transform(axes.transData.transform(np.column_stack([x, y])))
    shown = shown[np.argsort(points[shown, along], kind="stable")]
    steps = np.cumsum(room[shown]) - room[shown] / 2
    nearest = isotonic_regression(points[shown, along] * size[along] - steps).x
    edge, outwards = (1, 1) if side in ("top", "right") else (0, -1)
    corners = np.full((len(shown), 3, 2), float(edge))  # the point, the edge beside it, the label
    corners[:, 0] = points[shown]
    corners[:, 1, along] = points[shown, along]
    corners[:, 2, along] = (np.clip(nearest, 0, max(size[along] - room[shown].sum(), 0)) + steps) / size[along]
    corners[:, 2, out] += outwards * 0.24 / size[out]
    axes.add_collection(
        LineCollection(list(corners), colors=colour, linewidths=0.5, transform=axes.transAxes, clip_on=False)
    )
    for index, corner in zip(shown, corners[:, 2], strict=True):
        axes.annotate(
            texts[index],
            corner,
            xycoords="axes fraction",
            xytext=(2.5 * outwards, 0) if along else (0, 2.5 * outwards),
            textcoords="offset points",
            ha={"left": "right", "right": "left"}.get(side, "center"),
            va={"top": "bottom", "bottom": "top"}.get(side, "center"),
            rotation=90 if upright else 0,
            fontsize=8,
            color=colour,
        )


def key_at(
    figure: Figure, mappable: Any, left: float, top: float, height: float, label: str, **properties: Any
) -> Axes:
    """The key of some colours, in inches from the upper left corner."""
    axes = axes_at(figure, left, top, 0.14, height)
    figure.colorbar(mappable, axes, **properties).outline.set_edgecolor(RULE)
    axes.set_ylabel(label, fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.minorticks_off()
    return axes


def count_ticks(largest: float) -> list[float]:
    """0, powers of ten and the largest count."""
    return [0.0, *(decade for decade in _DECADES if decade < largest / 1.7), largest]


def count_scale(axes: Axes, largest: float, directions: str = "y", margin: float = 0.0) -> None:
    """Mean counts of active patches from 0 to the largest, nearly logarithmic; a margin below 0 for points at 0."""
    low = -margin * LINEAR * np.arcsinh(largest / LINEAR)
    ticks = count_ticks(largest)
    for direction in directions:
        axes.set(**{f"{direction}lim": (low, 1.1 * largest)})
        getattr(axes, f"set_{direction}scale")("asinh", linear_width=LINEAR)
        getattr(axes, f"set_{direction}ticks")(ticks, [f"{tick:.3g}" for tick in ticks], fontsize=8)
    axes.minorticks_off()


def pooled(rows: NDArray[np.float64], width: float) -> tuple[NDArray[np.float64], int]:
    """Maxima of neighbouring columns, so that as many are left as pixels in so many inches; how many went into one."""
    columns = rows.shape[1]
    starts = np.linspace(0, columns, min(columns, int(width * _PIXELS)), endpoint=False).astype(int)
    return (np.fmax.reduceat(rows, starts, axis=1) if columns else rows), -(-columns // max(len(starts), 1))
