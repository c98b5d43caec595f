"""Reference images of concepts, with the patches that make them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cytosae.report.overlays import overlay
from cytosae.report.style import GREEN, INK, MUTED, NULL, ORANGE, SKY, axes_at, drawing, heading, number, text_at

_IMAGE, _CAPTION, _GAP, _HEADING = 1.05, 0.5, 0.12, 0.5  # inches
_NAMED = (ORANGE, GREEN)
_IN_LINE = 5


@dataclass(frozen=True)
class Row:
    """Reference images of one concept in one data set, strongest first."""

    name: str
    """Shown with the images: the latent, the data set, or both."""
    images: Sequence[NDArray[np.uint8] | None]
    """Each ``(edge, edge, 3)``; None leaves a gap."""
    maps: Sequence[NDArray[np.floating] | None]
    """Concept map of each image, ``(rows, columns)``."""
    labels: Sequence[str | None]
    """Label of each image, None where it is unknown."""
    values: Sequence[float | None]
    """Activation m_i[s] of each image."""

    def __post_init__(self) -> None:
        lengths = [len(column) for column in (self.images, self.maps, self.labels, self.values)]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"{self.name}: {lengths} images, maps, labels and values; there is one of each for an image"
            )

    @property
    def top(self) -> float:
        """Strongest activation of a patch; 1 where there is none above 0."""
        return max((float(np.max(map_)) for map_ in self.maps if map_ is not None), default=0.0) or 1.0


def reference_grid(
    rows: Sequence[Row],
    *,
    title: str,
    top: float | None = None,
    each_row: bool = False,
    headings: Mapping[int, str] | None = None,
) -> Figure:
    """Reference images of concepts across data sets (CytoSAE, Fig. 2B).

    Parameters
    ----------
    rows
        Drawn one below the other; where one has fewer images than the longest, the rest of its line stays blank.
    title
        Over the figure, usually the latent.
    top
        Activation of a patch with the strongest colour in all rows; the strongest of all patches if None.
    each_row
        Every row has a scale of its own up to its strongest patch: shows where, in rows that are not equally strong.
    headings
        Text over the column with this number and those after it.

    Returns
    -------
    Every image with its concept map over it and its label and m_i[s] below. Figures with the same `top` compare.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    if each_row:
        rows, top = [replace(row, maps=[m if m is None else m / row.top for m in row.maps]) for row in rows], 1.0
    if top is None:
        top = max((row.top for row in rows if len(row.maps)), default=1.0)
    columns = max((len(row.images) for row in rows), default=0)
    names = [textwrap.fill(row.name, 20) for row in rows]
    left = 0.3 + 0.073 * max((len(line) for name in names for line in name.splitlines()), default=0)
    height = max(len(rows), 1) * (_IMAGE + _CAPTION)
    bar = left + max(columns, 2) * (_IMAGE + _GAP) + 0.1
    begin = 0.7 if headings else 0.45
    with drawing(bar + 0.8, begin + 0.05 + height, layout=None) as figure:
        heading(figure, title)
        for column, text in (headings or {}).items():
            text_at(figure, left + column * (_IMAGE + _GAP), 0.45, text, fontsize=9, color=MUTED)
        for position, (row, name) in enumerate(zip(rows, names, strict=True)):
            above = begin + position * (_IMAGE + _CAPTION)
            text_at(figure, 0.1, above + _IMAGE / 2, name, va="center")
            if not len(row.images):
                text_at(figure, left, above + _IMAGE / 2, "no reference image", va="center", color=MUTED, fontsize=8)
            for index in range(len(row.images)):
                corner = left + index * (_IMAGE + _GAP), above
                _reference(figure, corner, row, index, top)
        if columns:
            beside = axes_at(figure, bar, begin, 0.14, min(height - _CAPTION, 2.6))
            key = figure.colorbar(ScalarMappable(Normalize(0, top), _colours()), cax=beside)
            key.set_label("share of the row's strongest patch" if each_row else "patch activation", fontsize=8.5)
            key.ax.tick_params(labelsize=8)
            key.outline.set_visible(False)
    return figure


def patch_references(
    image: NDArray[np.uint8],
    patch: tuple[int, int],
    latents: pd.DataFrame,
    rows: Sequence[Row],
    *,
    grid: tuple[int, int] = (16, 16),
) -> Figure:
    """What one patch of a cell activates, and where else that is found (CytoSAE, Fig. 3).

    Parameters
    ----------
    image
        The cell, uint8 of shape ``(edge, edge, 3)``.
    patch
        Row and column of the patch, from 0.
    latents
        The patch's active latents: ``latent``, ``activation``, and ``common``, whether it is active in nearly every image.
    rows
        Reference images of the latents to explain the patch by: the strongest that are not common, strongest first.
        The first two have the colours of the two latents named in the plot. Each row has a colour scale of its own.
    grid
        Rows and columns of patches.

    Returns
    -------
    Left the cell with the patch outlined, in the middle (beside many references: below the cell) its active latents by
    falling activation, right their reference images.

    Raises
    ------
    ValueError
        There is no such patch.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    if not (0 <= patch[0] < grid[0] and 0 <= patch[1] < grid[1]):
        raise ValueError(f"patch {patch} is not one of the {grid[0]} x {grid[1]} patches, counted from 0")
    columns = max((min(_IN_LINE, max(len(row.images), 3)) for row in rows), default=0)  # 3 for the name
    heights = [_HEADING + -(-len(row.images) // _IN_LINE) * (_IMAGE + _CAPTION) for row in rows]
    # Beside many references the plot has its place below the cell, or that would stay empty.
    stacked = sum(heights) > 6
    right = 3.75 if stacked else 7.3
    height = max(7.5 if stacked else 4.1, sum(heights) + 0.1)
    with drawing(right + columns * (_IMAGE + _GAP), height, layout=None) as figure:
        _outlined(axes_at(figure, 0.1, _HEADING, 3, 3), image, patch, grid)
        _spectrum(axes_at(figure, *((0.55, 4.1, 2.75, 2.6) if stacked else (3.75, _HEADING, 3, 2.8))), latents)
        for position, row in enumerate(rows):
            above = sum(heights[:position])
            colour = _NAMED[position] if position < len(_NAMED) else INK
            text_at(figure, right, above + 0.14, row.name, fontsize=10.5, color=colour)
            text_at(figure, right, above + 0.32, f"full colour at {number(row.top)}", fontsize=7.5, color=MUTED)
            for index in range(len(row.images)):
                down, across = divmod(index, _IN_LINE)
                corner = (right + across * (_IMAGE + _GAP), above + _HEADING + down * (_IMAGE + _CAPTION))
                _reference(figure, corner, row, index, row.top)
    return figure


def _reference(figure: Figure, corner: tuple[float, float], row: Row, index: int, top: float) -> None:
    image, map_, value = row.images[index], row.maps[index], row.values[index]
    if image is None or map_ is None or value is None:
        return
    axes = axes_at(figure, *corner, _IMAGE, _IMAGE)
    axes.imshow(overlay(image, map_, top=top))
    axes.set_axis_off()
    label = (row.labels[index] or "unlabelled").replace("_", " ")
    for line, text in enumerate([number(value), *textwrap.wrap(label, 18, max_lines=2, placeholder="…")]):
        axes.annotate(
            text,
            (0, 0),
            xycoords="axes fraction",
            xytext=(0, -10 - 10.5 * line),
            textcoords="offset points",
            fontsize=7.5,
            color=INK if line else MUTED,
        )


def _colours() -> ListedColormap:
    """The colours of an overlay on white, so that the key looks like the pictures and 0 like none."""
    white = np.full((256, 256, 3), 255, dtype=np.uint8)
    return ListedColormap(overlay(white, np.linspace(0, 1, 256)[:, None])[:, 0] / 255)


def _outlined(axes: Axes, image: NDArray[np.uint8], patch: tuple[int, int], grid: tuple[int, int]) -> None:
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_title(f"Patch in row {patch[0]}, column {patch[1]}")
    height, width = len(image) / grid[0], len(image) / grid[1]
    # Pixels are drawn around whole numbers, so the first one begins at -0.5.
    corner = (patch[1] * width - 0.5, patch[0] * height - 0.5)
    axes.add_patch(
        Rectangle(
            corner,
            width,
            height,
            fill=False,
            edgecolor=ORANGE,
            linewidth=1.6,
            clip_on=False,
            path_effects=[withStroke(linewidth=3.4, foreground="white")],
        )
    )


def _spectrum(axes: Axes, latents: pd.DataFrame) -> None:
    ranked = latents.sort_values("activation", ascending=False, kind="stable", ignore_index=True)
    is_common = ranked["common"].to_numpy(dtype=bool)
    named = np.flatnonzero(~is_common)[: len(_NAMED)]
    colours = np.where(is_common, NULL, SKY).astype(object)
    colours[named] = _NAMED[: len(named)]
    axes.bar(np.arange(len(ranked)) + 1, ranked["activation"], color=colours, width=0.8)
    axes.set_title(f"{len(ranked)} latents active")
    axes.set_xlabel("strongest first")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylabel("activation")
    axes.grid(axis="x", visible=False)
    axes.set_xlim(0.3, max(len(ranked), 20) + 0.7)
    axes.set_ylim(0, 1.35 * ranked["activation"].max() if len(ranked) else 1)  # room for the names
    for line, (rank, colour) in enumerate(zip(named, _NAMED, strict=False)):
        latent, activation = ranked.loc[rank, ["latent", "activation"]]
        axes.annotate(
            f"latent {latent:.0f}: {number(activation)}",
            (rank + 1, activation),
            xytext=(1, 0.96 - 0.08 * line),
            textcoords="axes fraction",
            ha="right",
            va="top",
            fontsize=8.5,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "relpos": (0, 0.5)},
        )
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in (NULL, SKY)]
    texts = [f"in nearly every image: {is_common.sum()}", f"others: {(~is_common).sum()}"]
    axes.legend(handles, texts, loc="upper left", bbox_to_anchor=(-0.05, -0.16), ncols=2, fontsize=8)
