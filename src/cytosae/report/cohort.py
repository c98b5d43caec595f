"""Patients and diseases: their barcodes, how alike they are, and where two diseases differ."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cytosae.report.layout import (
    DARK,
    LINEAR,
    count_scale,
    count_ticks,
    counted,
    depth,
    flags,
    key_at,
    members,
    pooled,
    reach,
    wrapped,
)
from cytosae.report.style import BLUE, INK, MUTED, NULL, ORANGE, RULE, SERIES, axes_at, drawing, heading, text_at

_COUNT = "active patches a cell"
_VIRIDIS = mpl.colormaps["viridis"].with_extremes(bad=RULE)


def disease_barcodes(
    barcodes: ArrayLike,
    names: Sequence[str],
    counts: Sequence[int],
    *,
    highlighted: ArrayLike | None = None,
    unit: str = _COUNT,
    title: str,
) -> Figure:
    """The barcodes of diseases, one below the other.

    Parameters
    ----------
    barcodes
        A block of the barcodes, such as the mean count of active patches a cell a_d[s], ``(n_groups, n_latents)``; NaN
        for a group without patients.
    names, counts
        Name and number of patients of each group.
    highlighted
        Latents to mark and number; those that are 0 everywhere have no place.
    unit, title
        Of the values, and over the figure.

    Returns
    -------
    A strip for each group, latents in the same order in all: by the group in which they are strongest, and there by
    their lead over the mean of the other groups, on the scale of the colours. Latents that are 0 everywhere are left
    out and counted. Where there are more latents than pixels, a line is the maximum of several neighbours.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    values = np.asarray(barcodes, dtype=float)
    strength = np.arcsinh(np.nan_to_num(values) / LINEAR)
    active = np.flatnonzero(strength.max(axis=0, initial=0) > 0)
    rows = strength[:, active]
    strongest, most = rows.argmax(axis=0), rows.max(axis=0)
    lead = most - (rows.sum(axis=0) - most) / np.maximum(np.isfinite(values[:, active]).sum(axis=0) - 1, 1)
    order = active[np.lexsort((-lead, strongest))]
    borders = np.searchsorted(np.sort(strongest), np.arange(len(values) + 1))
    marked = np.flatnonzero(np.isin(order, np.asarray(() if highlighted is None else highlighted)))
    lines, each = pooled(values[:, order], 7.2)
    largest = float(np.nan_to_num(values).max(initial=0)) or 1.0
    norm = AsinhNorm(LINEAR, 0, largest)
    left, pitch, top = 1.85, 0.64, 0.95 if len(marked) else 0.5
    height = max(len(values) * pitch, 1.6)
    with drawing(left + 8.1, top + height + 0.4, layout=None) as figure:
        heading(figure, title)
        for index, (name, count) in enumerate(zip(names, counts, strict=True)):
            axes = axes_at(figure, left, top + index * pitch, 7.2, 0.44)
            box = (0, max(len(order), 1), 0, 1)
            axes.imshow(lines[[index]], DARK, norm, aspect="auto", interpolation="nearest", extent=box)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(True)
            across = axes.get_xaxis_transform()
            axes.hlines(-0.14, *borders[index : index + 2], color=ORANGE, linewidth=2, transform=across, clip_on=False)
            if index:
                axes.vlines(marked + 0.5, 1.02, 1.18, color=INK, linewidth=0.8, transform=across, clip_on=False)
            else:
                flags(axes, marked + 0.5, np.ones(len(marked)), order[marked], INK)
            label = f"{wrapped(name, 22)}\n{counted(count, 'patient')}"
            text_at(figure, 0.1, top + index * pitch + 0.22, label, va="center", fontsize=8.5)
        notes = f"{len(order):,} latents active in any group, of {values.shape[1]:,}"
        notes += f"; each line is the maximum of up to {each} neighbours" * (each > 1)
        notes += "; grey: no value" * bool(np.isnan(lines).any())
        notes += "\nunderlined: latents strongest in this group, by their lead over the mean of the others"
        text_at(figure, left, top + height, notes, fontsize=8, color=MUTED)
        colours, ticks = ScalarMappable(norm, DARK), count_ticks(largest)
        key_at(figure, colours, left + 7.35, top, min(height - 0.1, 2.4), wrapped(unit, 30), ticks=ticks, format="%.3g")
    return figure


def patient_barcode(
    values: ArrayLike,
    reference: ArrayLike,
    *,
    name: str,
    reference_name: str,
    named: int = 12,
    unit: str = _COUNT,
    title: str | None = None,
) -> Figure:
    """The barcode of a patient, mirrored by the mean of a group.

    Parameters
    ----------
    values
        A block of the barcode, such as the mean count of active patches a cell a_p[s], ``(n_latents,)``.
    reference
        The same of the group, ``(n_patients, n_latents)``; NaN counts for nothing.
    name, reference_name, title
        Of the patient, of the group, and over the figure: both names if None.
    unit
        Of the values.
    named
        So many latents that differ most are numbered, by the difference of log(1 + value).

    Returns
    -------
    Upwards the patient, downwards the mean of the group, latents by the group's falling mean, then by the patient's
    value. Latents that are 0 in both, or without a value, are left out.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    own, group = np.asarray(values, dtype=float), pd.DataFrame(np.atleast_2d(np.asarray(reference, dtype=float)))
    mean = group.mean().to_numpy()
    shown = np.flatnonzero(np.maximum(own, mean) > 0)  # never so with NaN
    shown = shown[np.lexsort((-own[shown], -mean[shown]))]
    gap = np.log1p(own[shown]) - np.log1p(mean[shown])
    chosen = np.argsort(-np.abs(gap), kind="stable")[:named]
    largest = max(own[shown].max(initial=0), mean[shown].max(initial=0)) or 1.0
    left, width, panel, top = 0.75, 7.4, 1.5, 0.9
    more, less = chosen[gap[chosen] > 0], chosen[gap[chosen] < 0]
    typical = f"mean of {counted(len(group), 'patient')}"
    sides = [(name, "the patient", own, ORANGE, more, "more"), (reference_name, typical, mean, BLUE, less, "less")]
    with drawing(left + width + 1.7, top + 2 * panel + 0.8, layout=None) as figure:
        heading(figure, wrapped(title or f"{name} beside {reference_name}", 100, 1))
        for down, (side, side_title, counts, colour, at, than) in enumerate(sides):
            axes = axes_at(figure, left, top + down * panel, width, panel)
            bars, each = pooled(counts[None, shown], width)
            axes.stairs(bars[0], np.linspace(0, len(shown), bars.shape[1] + 1), fill=True, color=NULL, linewidth=0)
            axes.set(xlim=(0, max(len(shown), 1)), xticks=[])
            count_scale(axes, largest)
            if down:
                axes.invert_yaxis()
                axes.yaxis.get_major_ticks()[0].label1.set_visible(False)  # 0 stands above
            axes.spines["bottom"].set_visible(False)
            axes.axhline(0, color=INK, linewidth=0.8)
            thick = np.clip(370 / max(len(shown), 1), 1.8, 10)
            axes.vlines(at + 0.5, 0, counts[shown[at]], color=colour, linewidth=thick)
            flags(axes, at + 0.5, counts[shown[at]], shown[at], colour, "bottom" if down else "top")
            beside, middle = left + width + 0.12, top + (down + 0.5) * panel
            text_at(figure, beside, middle - 0.1, wrapped(side, 19), va="bottom", fontsize=9.5)
            text_at(figure, beside, middle - 0.06, side_title, fontsize=8, color=MUTED)
            legend = f"numbers: {than} than\nthe mean" * bool(len(at))
            text_at(figure, beside, middle + 0.12, legend, fontsize=8, color=colour)
        notes = f"{len(shown):,} latents active in either, of {len(own):,}, by falling mean of the group"
        notes += f"; each bar is the maximum of up to {each} neighbours" * (each > 1)
        notes += f"; {np.isnan(own + mean).sum():,} without a value" * bool(np.isnan(own + mean).any())
        text_at(figure, left, top + 2 * panel + 0.52, notes, fontsize=8, color=MUTED)
        text_at(figure, 0.1, top + panel, wrapped(unit, 44), rotation=90, va="center", fontsize=9)
    return figure


def correlation_map(correlation: ArrayLike, groups: Sequence[str], *, title: str) -> Figure:
    """How alike the barcodes of patients are.

    Parameters
    ----------
    correlation
        ``(n, n)``; NaN where there is none.
    groups
        Group of each patient, ``(n,)``.
    title
        Over the figure.

    Returns
    -------
    Patients by group, groups by name, within them in the given order. The colours span the values off the diagonal.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    group_rows = members(groups)
    order = np.concatenate([np.zeros(0, dtype=int), *group_rows.values()])
    values = np.asarray(correlation, dtype=float)[np.ix_(order, order)]
    pairs = values[np.triu_indices(len(values), 1)]
    finite = pairs[np.isfinite(pairs)]
    low, high = (finite.min(), finite.max()) if len(finite) else (-1.0, 1.0)
    pad = 0.005 * (low == high)
    labels = [f"{wrapped(name, 20)} ({len(rows):,})" for name, rows in group_rows.items()]
    ends = np.cumsum([len(rows) for rows in group_rows.values()]) / max(len(order), 1)
    middles = (ends + np.append(0, ends[:-1])) / 2
    edge, names, top = max(5.2, sum(map(depth, labels))), 0.45 + reach(labels), 0.5
    with drawing(names + edge + 1.2, top + edge + reach(labels, edge) + 0.45, layout=None) as figure:
        heading(figure, title)
        axes = axes_at(figure, names, top, edge, edge)
        extent = (0, 1, 1, 0)
        image = axes.imshow(values, _VIRIDIS, vmin=low - pad, vmax=high + pad, interpolation="nearest", extent=extent)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.hlines(ends[:-1], 0, 1, color="white", linewidth=0.9)
        axes.vlines(ends[:-1], 0, 1, color="white", linewidth=0.9)
        flags(axes, np.zeros(len(labels)), middles, labels, INK, "left")
        flags(axes, middles, np.ones(len(labels)), labels, INK, "bottom")
        span = f", {low:.3g} to {high:.3g} off the diagonal" * bool(len(finite))
        key_at(figure, image, names + edge + 0.2, top, 2.8, f"correlation{span}")
        if missing := len(pairs) - len(finite):
            note = f"grey: {missing:,} pairs\nwithout a value"
            text_at(figure, names + edge + 0.2, top + 3, note, fontsize=8, color=MUTED)
    return figure


def patient_map(positions: ArrayLike, groups: Sequence[str], *, title: str, note: str | None = None) -> Figure:
    """Patients as points, near where their barcodes are alike.

    Parameters
    ----------
    positions
        ``(n, 2)``; patients with NaN are left out and counted.
    groups
        Group of each patient, ``(n,)``.
    title, note
        Over the figure, and small below it: how the positions were found.

    Returns
    -------
    Colour and marker for the group. The axes have no unit, hence no numbers.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    points = np.asarray(positions, dtype=float).reshape(-1, 2)
    known = np.isfinite(points).all(axis=1)
    notes = [note] if note else []
    notes += [f"{counted(int((~known).sum()), 'patient')} without a position"] * bool((~known).any())
    group_rows = members(groups)
    labels = [f"{wrapped(name, 24)} ({known[rows].sum():,})" for name, rows in group_rows.items()]
    height = max(4.6, sum(map(depth, labels)))
    with drawing(6.0 + reach(labels), height + 0.8, layout=None) as figure:
        heading(figure, title)
        axes = axes_at(figure, 0.1, 0.45, 5.3, height)
        for index, (label, rows) in enumerate(zip(labels, group_rows.values(), strict=True)):
            colour, marker = SERIES[index % len(SERIES)], "os^DvPX"[index % 7]
            x, y = points[rows[known[rows]]].T
            axes.scatter(x, y, s=38, color=colour, marker=marker, edgecolors="white", linewidths=0.5, label=label)
        axes.set(xticks=[], yticks=[])
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(0.08)
        axes.spines[:].set_visible(True)
        if labels:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=8)
        text_at(figure, 0.1, height + 0.52, "; ".join(notes), fontsize=8, color=MUTED)
    return figure


def comparison_scatter(
    a: ArrayLike,
    b: ArrayLike,
    top_a: ArrayLike,
    top_b: ArrayLike,
    *,
    names: tuple[str, str],
    unit: str = _COUNT,
    title: str | None = None,
    named: int = 10,
) -> Figure:
    """The barcodes of two diseases against each other (CytoSAE, Fig. 5).

    Parameters
    ----------
    a, b
        Mean value of each disease, ``(n_latents,)``; latents with NaN are not drawn.
    top_a, top_b
        Latents most in favour of each, strongest first.
    names, unit
        Of the two diseases, and of the values.
    title
        Over the figure: both names if None.
    named
        So many of each side are numbered.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    known = np.flatnonzero(np.isfinite(x + y))
    largest = max(x[known].max(initial=0), y[known].max(initial=0)) or 1.0
    tops = (np.asarray(top, dtype=int) for top in (top_a, top_b))
    sides = list(zip(tops, names, (ORANGE, BLUE), ("right", "top"), strict=True))
    others = np.setdiff1d(known, np.concatenate([latents for latents, *_ in sides]))
    across, upwards = (wrapped(f"{name}: {unit}", 55) for name in names)
    labels = [f"{len(latents):,} most in favour of {wrapped(name, 55)}" for latents, name, *_ in sides]
    left, below = 0.6 + depth(upwards), 0.3 + depth(across)
    with drawing(left + 5.75, 6.4 + below + sum(map(depth, labels)), layout=None) as figure:
        heading(figure, wrapped(title or " and ".join(names), 75, 1))
        axes = axes_at(figure, left, 0.85, 5.0, 5.0)
        count_scale(axes, largest, "xy", margin=0.03)
        axes.axline((0, 0), (largest, largest), color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        label = f"{len(others):,} others"
        axes.scatter(x[others], y[others], s=6, color=NULL, linewidths=0, rasterized=True, label=label)
        for (latents, _, colour, side), label in zip(sides, labels, strict=True):
            at = latents[np.isin(latents, known)]
            axes.scatter(x[at], y[at], s=20, color=colour, edgecolors="white", linewidths=0.4, label=label)
            flags(axes, x[at[:named]], y[at[:named]], at[:named], colour, side)
        axes.set(xlabel=across, ylabel=upwards)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -below / 5), fontsize=8.5)
    return figure
