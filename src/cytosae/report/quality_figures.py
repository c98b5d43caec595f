"""How good an autoencoder and its concepts are: all measures at once, and how densely latents fire."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from cytosae.concepts.evaluation import LATENT_METHOD, MEASURES, find_measure
from cytosae.concepts.quality import DENSE_ABOVE
from cytosae.report.style import ACCENT, HISTOGRAM, INK, MUTED, NULL, RULE, axes_at, drawing, heading, number, text_at

_NULLS = {measure.null for measure in MEASURES} - {""}
_ARROWS = {"higher": " ↑", "lower": " ↓"}
_COLUMNS = 4
_PANEL, _NAMES, _ABOVE, _LINE, _BELOW = 3.4, 1.5, 0.45, 0.21, 0.4  # inches
_TITLE, _TABLE = 0.4, 3.4


def quality_summary(figures: pd.DataFrame, *, title: str) -> Figure:
    """All measures of an autoencoder and its concepts, each beside its baselines and its null.

    Parameters
    ----------
    figures
        One line for each measure and method, with ``measure``, ``method``, ``value``, and ``low`` and ``high`` of
        its interval (NaN where there is none). Measures keep the order of the table.
    title
        Over the figure.

    Returns
    -------
    A panel for each measure with two methods or more, a table of the others. The method "latents" stands on top in
    colour, the nulls of the registry at the bottom in grey. An arrow says which way is better.

    Raises
    ------
    ValueError
        A measure has two lines of one method.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    if (twice := figures.duplicated(["measure", "method"])).any():
        raise ValueError(f"more than one line for {' and '.join(figures[twice].iloc[0][['measure', 'method']])}")
    measures = [(str(name), lines) for name, lines in figures.groupby("measure", sort=False)]
    panels = [(name, _ranked(lines)) for name, lines in measures if len(lines) > 1]
    entries = [_entry(name, lines.iloc[0]) for name, lines in measures if len(lines) == 1]
    columns = min(_COLUMNS, len(panels))
    depths = [max(len(lines) for _, lines in panels[i : i + _COLUMNS]) for i in range(0, len(panels), _COLUMNS)]
    heights = [_ABOVE + depth * _LINE + _BELOW for depth in depths]
    side = sum(entry.height for entry in entries) + 0.25
    width = columns * _PANEL + (_TABLE if entries else 0)
    with drawing(max(width, _TABLE) + 0.1, _TITLE + max(sum(heights), side), layout=None) as figure:
        heading(figure, title)
        for index, (name, lines) in enumerate(panels):
            down, across = divmod(index, _COLUMNS)
            left, above = 0.1 + across * _PANEL, _TITLE + sum(heights[:down])
            text_at(figure, left, above + 0.16, _shortened(name, 44) + _arrow(name), fontsize=9.5)
            box = (left + _NAMES, above + _ABOVE, _PANEL - _NAMES - 0.25, len(lines) * _LINE)
            _panel(axes_at(figure, *box), lines)
        if entries:
            axes = axes_at(figure, 0.1 + columns * _PANEL, _TITLE, _TABLE - 0.2, side)
            axes.axis((0, _TABLE - 0.2, side, 0))
            _table(axes, entries)
    return figure


def _ranked(lines: pd.DataFrame) -> pd.DataFrame:
    """The lines of a measure from top to bottom."""
    rank = [0 if name == LATENT_METHOD else 2 if name in _NULLS else 1 for name in lines["method"]]
    return lines.iloc[np.argsort(rank, kind="stable")]


def _arrow(row: str) -> str:
    """Which way is better."""
    measure = find_measure(row)
    return "" if measure is None else _ARROWS.get(measure.better, "")


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _panel(axes: Axes, lines: pd.DataFrame) -> None:
    names = lines["method"].tolist()
    colours = [ACCENT if name == LATENT_METHOD else NULL if name in _NULLS else INK for name in names]
    heights = np.arange(len(lines))
    axes.hlines(heights, lines["low"], lines["high"], colors=colours, linewidth=1.4)
    axes.scatter(
        lines["value"], heights, c=colours, s=[34 if name == LATENT_METHOD else 22 for name in names], zorder=3
    )
    for height in heights[lines["value"].isna()]:
        axes.text(
            0.02, height, number(np.nan), transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=MUTED
        )
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(heights, [_shortened(name, 22) for name in names], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    for label, name, colour in zip(axes.get_yticklabels(), names, colours, strict=True):
        label.set_color(MUTED if name in _NULLS else colour)
        label.set_fontweight("bold" if name == LATENT_METHOD else "normal")


@dataclass(frozen=True)
class _Entry:
    """A measure of one method, as lines of the table."""

    measure: list[str]
    value: str
    detail: str

    @property
    def height(self) -> float:
        return 0.14 + 0.16 * (len(self.measure) + bool(self.detail))


def _entry(measure: str, line: pd.Series) -> _Entry:
    detail = [] if line["method"] == LATENT_METHOD else [line["method"]]
    if np.isfinite([line["low"], line["high"]]).all():
        detail.append(f"{number(line['low'])} to {number(line['high'])}")
    return _Entry(textwrap.wrap(measure + _arrow(measure), 36), number(line["value"]), ", ".join(detail))


def _table(axes: Axes, entries: list[_Entry]) -> None:
    """Line below line, on axes whose data are inches from their upper left corner."""
    axes.set_axis_off()
    base, right = 0.28, axes.get_xlim()[1]
    for entry in entries:
        axes.text(right, base, entry.value, ha="right", fontsize=8.5, fontweight="bold", color=INK)
        for text in entry.measure:
            axes.text(0, base, text, fontsize=8.5, color=INK)
            base += 0.16
        if entry.detail:
            axes.text(0, base, entry.detail, fontsize=7.5, color=MUTED)
            base += 0.16
        axes.axhline(base - 0.09, color=RULE, linewidth=0.8)
        base += 0.14


def density_histogram(frequency: ArrayLike) -> Figure:
    """On how many tokens latents fire.

    Parameters
    ----------
    frequency
        Share of the tokens on which each latent is active, 0 to 1; ``(n_latents,)``.

    Returns
    -------
    Histogram of log10 of the share. Dead latents, of share 0, have no place in it and are counted in the title; dense
    ones, on more than a tenth of the tokens, are shaded and counted.

    Raises
    ------
    ValueError
        A share is not between 0 and 1, or the shape is another.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    frequencies = np.asarray(frequency, dtype=float)
    if frequencies.ndim != 1 or not ((frequencies >= 0) & (frequencies <= 1)).all():
        raise ValueError(f"shares of tokens are (n_latents,), each from 0 to 1; these are of shape {frequencies.shape}")
    x, dense = np.log10(frequencies[frequencies > 0]), int((frequencies > DENSE_ABOVE).sum())
    lowest = int(np.floor(x.min(initial=-2)))
    with drawing(6.2, 3.6) as figure:
        axes = figure.subplots()
        axes.axvspan(np.log10(DENSE_ABOVE), 0, color=ACCENT, alpha=0.12, linewidth=0)
        # Ten bars for each power of ten, so that no bar stands on both sides of the border.
        axes.hist(x, bins=np.linspace(lowest, 0, 1 - 10 * lowest).tolist(), color=HISTOGRAM, linewidth=0)
        axes.text(
            0.99, 0.96, f"dense: {dense:,}", transform=axes.transAxes, ha="right", va="top", fontsize=8.5, color=ACCENT
        )
        axes.set_xlim(lowest, 0)
        axes.set_xlabel("log10 share of the tokens on which a latent fires")
        axes.set_ylabel("latents")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.margins(y=0.14)
        heading(figure, f"{len(frequencies):,} latents: {len(frequencies) - len(x):,} dead, {dense:,} dense")
    return figure
