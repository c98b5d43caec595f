"""What the figures of barcodes share: labels that do not touch, one scale for counts, no more columns than pixels."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

LINEAR = 0.1
"""Counts far below it are drawn in proportion, far above by their logarithm (asinh), so that 0 has a place."""
_DECADES = (0.1, 1.0, 10.0, 100.0)


def wrapped(name: str, width: int) -> str:
    """A name in up to three lines, its underscores as spaces."""
    return textwrap.fill(str(name).replace("_", " "), width, max_lines=3, placeholder="…")


def depth(label: str) -> float:
    """Inches that the lines of a label take, with a little space."""
    return 0.07 + 0.14 * (label.count("\n") + 1)


def breadth(labels: Iterable[str]) -> float:
    """Inches that the longest line of some labels takes."""
    return 0.072 * max((len(line) for label in labels for line in label.splitlines()), default=0)


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
    size = axes.bbox.size / axes.figure.dpi
    wide = np.array([0.12 + breadth([text]) for text in texts])
    turned = along == 0 and wide.sum() > size[0]
    room = np.array([depth(text) for text in texts]) if along or turned else wide
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
    axes.add_collection(LineCollection(corners, colors=colour, linewidths=0.5, transform=axes.transAxes, clip_on=False))
    for index, corner in zip(shown, corners[:, 2], strict=True):
        axes.annotate(
            texts[index],
            corner,
            xycoords="axes fraction",
            xytext=(2.5 * outwards, 0) if along else (0, 2.5 * outwards),
            textcoords="offset points",
            ha={"left": "right", "right": "left"}.get(side, "center"),
            va={"top": "bottom", "bottom": "top"}.get(side, "center"),
            rotation=90 if turned else 0,
            fontsize=8,
            color=colour,
        )


def count_ticks(largest: float) -> list[float]:
    """0, powers of ten and the largest count."""
    return [0.0, *(decade for decade in _DECADES if decade < largest / 1.7), largest]


def count_scale(axes: Axes, largest: float, directions: str = "y", low: float = 0.0) -> None:
    """Mean counts of active patches from 0 to the largest, nearly logarithmic."""
    ticks = count_ticks(largest)
    for direction in directions:
        axes.set(**{f"{direction}lim": (low, 1.1 * largest)})
        getattr(axes, f"set_{direction}scale")("asinh", linear_width=LINEAR)
        getattr(axes, f"set_{direction}ticks")(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()


def pooled(rows: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], int]:
    """Maxima of neighbouring columns, so that no more than `most` are left, and how many went into one."""
    columns = rows.shape[1]
    starts = np.linspace(0, columns, min(columns, most), endpoint=False).astype(int)
    return (np.fmax.reduceat(rows, starts, axis=1) if columns else rows), -(-columns // max(len(starts), 1))
