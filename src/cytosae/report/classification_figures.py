"""Figures of a classification: scores over thresholds, beside the baselines, confusion and calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FormatStrFormatter, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from cytosae.report.layout import DARK, counted, depth, flags, key_at, reach, wrapped
from cytosae.report.style import (
    ACCENT,
    BLUE,
    HISTOGRAM,
    INK,
    MUTED,
    NULL,
    RULE,
    axes_at,
    drawing,
    heading,
    number,
    text_at,
)

_DASHED = (0, (4, 3))


def threshold_sweep(
    thresholds: ArrayLike,
    score: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    n_latents: ArrayLike,
    *,
    null: tuple[float, float] | None = None,
    paper: tuple[float, float, float] | None = None,
    title: str | None = None,
) -> Figure:
    """How well diseases are predicted with fewer and fewer latents (CytoSAE, Fig. 4A).

    Parameters
    ----------
    thresholds
        Of log10 mean activation, ``(n_thresholds,)``; latents at or below one are left out.
    score, low, high
        Weighted F1 at each threshold and its interval, ``(n_thresholds,)``; NaN where there is none.
    n_latents
        Latents left at each threshold, ``(n_thresholds,)``.
    null
        Interval of the score with permuted labels.
    paper
        A published result: threshold, weighted F1 and its spread.
    title
        Over the figure.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    order = np.argsort(np.asarray(thresholds, dtype=float), kind="stable")
    x, y, below, above, left = (
        np.asarray(values, dtype=float)[order] for values in (thresholds, score, low, high, n_latents)
    )
    with drawing(6.4, 4.9) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        if null is not None:
            upper.axhspan(*null, color=NULL, alpha=0.35, linewidth=0, label="permuted labels")
        upper.fill_between(x, below, above, color=BLUE, alpha=0.2, linewidth=0)
        upper.vlines(x, below, above, color=BLUE, alpha=0.35, linewidth=1)
        upper.plot(x, y, "o-", color=BLUE, markersize=3.5, linewidth=1.4, label="barcodes, with interval")
        if paper is not None:
            properties = {"fmt": "D", "color": ACCENT, "markerfacecolor": "white", "markersize": 6, "capsize": 3}
            upper.errorbar(*paper[:2], yerr=paper[2], label="CytoSAE, as published", **properties)
        lower.plot(x, np.where(left > 0, left, np.nan), "o-", color=INK, markersize=2.5, linewidth=1.2)
        lower.set_yscale("log")
        lower.set_ylim(0.8, 2 * np.nanmax(left, initial=5))
        lower.minorticks_off()
        upper.set_ylabel("weighted F1")
        lower.set_ylabel("latents kept")
        lower.set_xlabel("threshold of log10 mean activation")
        figure.align_ylabels()
        figure.legend(loc="outside lower center", ncols=2, fontsize=8.5)
        if title:
            heading(figure, title)
    return figure


def method_figure(
    table: pd.DataFrame,
    *,
    chance: float | None = None,
    null: tuple[float, float] | None = None,
    left_out: str = "laboratory",
    score: str = "weighted F1",
    title: str,
) -> Figure:
    """A score of several methods, best seen beside chance.

    Parameters
    ----------
    table
        Index: methods, drawn from top to bottom. Columns ``value``, ``low`` and ``high``; with another laboratory's
        patients left out in turn, ``left_out_value``, ``left_out_low`` and ``left_out_high`` too. NaN where there is none.
    chance
        The score of guessing.
    null
        Interval of the score with permuted labels.
    left_out
        What was left out in turn.
    score, title
        Name of the score, below; over the figure.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    names = [wrapped(name, 30) for name in table.index]
    left, steps = 0.25 + reach(names), np.array([max(0.36, depth(name)) for name in names])
    ends = np.cumsum(steps)
    middles, height = ends - steps / 2, float(max(ends.max(initial=0), 0.5))
    two = "left_out_value" in table.columns
    apart = 0.06 if two else 0.0
    entries = 1 + two + (null is not None) + (chance is not None)
    below = 0.55 if entries == 1 else 0.7 + 0.2 * -(-entries // 2)
    with drawing(left + 5.0, 0.5 + height + below, layout=None) as figure:
        heading(figure, title)
        axes = axes_at(figure, left, 0.5, 4.7, height)
        if null is not None:
            axes.axvspan(*null, color=NULL, alpha=0.35, linewidth=0, label="permuted labels")
        if chance is not None:
            axes.axvline(chance, color=INK, linewidth=0.9, linestyle=_DASHED, label=f"chance: {number(chance)}")
        sets = [("", middles - apart, BLUE, f"every {left_out} in training" if two else "value with interval")]
        sets += [("left_out_", middles + apart, "white", f"one {left_out} left out")] * two
        for prefix, at, fill, label in sets:
            value, low, high = (table[f"{prefix}{name}"].to_numpy(dtype=float) for name in ("value", "low", "high"))
            axes.hlines(at, low, high, color=BLUE, linewidth=1.4)
            axes.scatter(value, at, s=30, color=fill, edgecolors=BLUE, linewidths=1.3, zorder=3, label=label)
            for y in at[np.isnan(value)]:
                across = axes.get_yaxis_transform()
                axes.text(1, y, number(np.nan), transform=across, ha="right", va="center", fontsize=7.5, color=MUTED)
        axes.set_ylim(height, 0)
        axes.set_yticks(middles, names, fontsize=8.5, color=INK)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(score)
        axes.margins(x=0.06)
        if entries > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.48 / height), ncols=2, fontsize=8.5)
    return figure


def confusion_figure(matrix: ArrayLike, classes: Sequence[str], *, title: str) -> Figure:
    """Which diseases are taken for which.

    Parameters
    ----------
    matrix
        Patients of a class (rows) predicted as another (columns), whole or means over repeats; ``(n_classes, n_classes)``.
    classes
        Names, ``(n_classes,)``.
    title
        Over the figure.

    Returns
    -------
    A number for each count, colours for its share of the row (grey where the row is empty), the sum of each row at its
    name.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    counts = np.asarray(matrix, dtype=float)
    support = counts.sum(axis=1)
    fractions = np.divide(counts, support[:, None], out=np.full_like(counts, np.nan), where=support[:, None] > 0)
    rows = [f"{wrapped(name, 18)} ({number(total)})" for name, total in zip(classes, support.round(1), strict=True)]
    columns = [wrapped(name, 11 if len(rows) < 7 else 18) for name in classes]
    edge = max(1.6, len(rows) * float(np.clip(5 / max(len(rows), 1), 0.42, 0.85)), sum(map(depth, rows)))
    left, top, below = 0.75 + reach(rows), 0.5, 0.4 + reach(columns, edge)
    with drawing(max(left + edge + 1.0, 4.6), top + edge + below + 0.3, layout=None) as figure:
        heading(figure, title)
        axes = axes_at(figure, left, top, edge, edge)
        edges = np.arange(len(rows) + 1)
        mesh = axes.pcolormesh(edges, edges, fractions, cmap=DARK, vmin=0, vmax=1, edgecolors=RULE, linewidth=0.8)
        axes.set(xlim=(0, max(len(rows), 1)), ylim=(max(len(rows), 1), 0), xticks=[], yticks=[])
        for (row, column), count in np.ndenumerate(counts.round(1)):
            colour = "white" if fractions[row, column] > 0.5 else INK if count else NULL
            centre = (column + 0.5, row + 0.5)
            axes.text(*centre, number(count), ha="center", va="center", fontsize=9, color=colour)
        middles = edges[:-1] + 0.5
        flags(axes, 0 * middles, middles, rows, INK, "left")
        flags(axes, middles, 0 * middles + len(rows), columns, INK, "bottom")
        text_at(figure, 0.1, top + edge / 2, "truth", rotation=90, va="center", color=MUTED)
        text_at(figure, left + edge / 2, top + edge + below, "predicted", ha="center", color=MUTED)
        key_at(figure, mesh, left + edge + 0.2, top, min(edge, 2.4), "share of the row")
    return figure


def calibration_figure(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 8, ece: float | None = None, title: str
) -> Figure:
    """Are predictions as often right as they are sure?

    Parameters
    ----------
    confidence
        Probability of the predicted class, 0 to 1, ``(n,)``; NaN is left out.
    correct
        Whether it was the right one, ``(n,)``.
    bins
        Bins of like size by confidence, equal confidences together; fewer where there are fewer predictions.
    ece
        Expected calibration error.
    title
        Over the figure.

    Returns
    -------
    Above the share correct of each bin at its mean confidence, with Wilson's 95 % interval; below how often predictions
    are how sure.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    known = np.isfinite(np.asarray(confidence, dtype=float))
    sure, right = np.asarray(confidence, dtype=float)[known], np.asarray(correct, dtype=float)[known]
    chunks = np.array_split(np.sort(sure), max(min(bins, len(sure)), 1))
    which = np.searchsorted(np.unique([chunk[0] for chunk in chunks if len(chunk)]), sure, side="right") - 1
    size, hits = np.bincount(which), np.bincount(which, right).astype(float)
    low, high = _wilson(hits, size)
    notes = counted(len(sure), "prediction") + ("" if ece is None else f", expected calibration error {number(ece)}")
    if len(sure):
        each = f"{size.min()} to {size.max()}" if size.min() < size.max() else f"{size[0]}"
        notes += f"\nbins of {each}, 95 % intervals"
    with drawing(4.9, 6.3, layout=None) as figure:
        heading(figure, title)
        text_at(figure, 0.1, 0.4, notes, fontsize=8.5, color=MUTED)
        upper, lower = axes_at(figure, 0.75, 0.85, 3.95, 3.95), axes_at(figure, 0.75, 4.95, 3.95, 0.8)
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=_DASHED)
        at = np.bincount(which, sure) / size
        upper.vlines(at, low, high, color=BLUE, linewidth=1.4, clip_on=False)
        upper.plot(at, hits / size, "o", color=BLUE, markersize=5, clip_on=False)
        lower.hist(sure, bins=np.linspace(0, 1, 21).tolist(), color=HISTOGRAM, linewidth=0)
        upper.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="share correct")
        upper.tick_params(labelbottom=False)
        lower.set(xlim=(0, 1), xlabel="probability of the predicted class", ylabel="predictions")
        lower.set_ylim(bottom=0)
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        figure.align_ylabels()
    return figure


def abstention_figure(table: pd.DataFrame, *, title: str) -> Figure:
    """How accurate predictions are where only the surest patients are answered.

    Parameters
    ----------
    table
        A row for each share of patients answered: ``share`` and ``accuracy``, from 0 to 1, with ``low`` and ``high``.
    title
        Over the figure.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    share, accuracy, low, high = (table[name].to_numpy(dtype=float) for name in ("share", "accuracy", "low", "high"))
    with drawing(5.4, 3.6) as figure:
        axes = figure.subplots()
        axes.fill_between(share, low, high, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(share, accuracy, "o-", color=BLUE, markersize=4, linewidth=1.4, clip_on=False)
        if len(accuracy):
            axes.axhline(accuracy[-1], color=MUTED, linewidth=0.9, linestyle=_DASHED, label="all answered")
            axes.legend(loc="lower left", fontsize=8.5)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="share of the patients answered", ylabel="accuracy among them")
        heading(figure, title)
    return figure


def sparsity_figure(
    table: pd.DataFrame, *, whole: float, null: tuple[float, float] | None = None, title: str
) -> Figure:
    """Weighted F1 of models that may use more and more concepts.

    Parameters
    ----------
    table
        A row for each size: ``concepts`` (used on average) and ``weighted_f1`` with ``low`` and ``high``.
    whole
        Weighted F1 of the classifier of all concepts.
    null
        Interval of the score with permuted labels.
    title
        Over the figure.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    used = np.maximum(table["concepts"].to_numpy(dtype=float), 0.8)  # none has no place on a logarithmic axis
    score, low, high = (table[name].to_numpy(dtype=float) for name in ("weighted_f1", "low", "high"))
    with drawing(5.4, 3.6) as figure:
        axes = figure.subplots()
        if null is not None:
            axes.axhspan(*null, color=NULL, alpha=0.35, linewidth=0, label="permuted labels")
        axes.fill_between(used, low, high, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(used, score, "o-", color=BLUE, markersize=4, linewidth=1.4, clip_on=False)
        axes.axhline(whole, color=MUTED, linewidth=0.9, linestyle=_DASHED, label="all concepts")
        axes.legend(loc="lower right", fontsize=8.5)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50]))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%d"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlim=(0.8, 70), ylim=(0, 1.02), xlabel="concepts that a model uses", ylabel="weighted F1")
        heading(figure, title)
    return figure


def _wilson(hits: NDArray[np.floating], size: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95 % interval of a share (Wilson, 1927)."""
    z = 1.959964
    fraction, root = hits / size, z * np.sqrt(hits * (size - hits) / size + z**2 / 4)
    middle = fraction * size + z**2 / 2
    return (middle - root) / (size + z**2), (middle + root) / (size + z**2)
