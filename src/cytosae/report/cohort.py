"""Patients and diseases: their barcodes, how alike they are, and where two diseases differ."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import AsinhNorm, LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from cytosae.report.layout import LINEAR, breadth, count_scale, count_ticks, depth, flags, pooled, wrapped
from cytosae.report.style import BLUE, INK, MUTED, NULL, ORANGE, RULE, SERIES, axes_at, drawing, heading, text_at

_COUNT = "active patches a cell"
_DARK = LinearSegmentedColormap.from_list("dark", ["white", "#b9d7ea", BLUE, INK]).with_extremes(bad=RULE)
_VIRIDIS = mpl.colormaps["viridis"].with_extremes(bad=RULE)
_PIXELS = 160  # of an inch, as in PNG files


def disease_barcodes(
    barcodes: ArrayLike,
    names: Sequence[str],
    counts: Sequence[int],
    *,
    highlighted: Sequence[int] | None = None,
    title: str,
) -> Figure:
    """The barcodes of diseases, one below the other.

    Parameters
    ----------
    barcodes
        Mean count of active patches a cell a_d[s], ``(n_groups, n_latents)``; NaN for a group without patients.
    names, counts
        Name and number of patients of each group.
    highlighted
        Latents to mark and number; those that are 0 everywhere have no place.
    title
        Over the figure.

    Returns
    -------
    A strip for each group, latents in the same order in all: by the group in which they are strongest, and there by
    their lead over the mean of the other groups, on the scale of the colours. Latents that are 0 everywhere are left
    out and counted. Where there are more latents than pixels, a line is the maximum of several neighbours.
    """
    values = np.asarray(barcodes, dtype=float)
    strength = np.arcsinh(np.nan_to_num(values) / LINEAR)
    active = np.flatnonzero(strength.max(axis=0, initial=0) > 0)
    most, total = strength[:, active].max(axis=0), strength[:, active].sum(axis=0)
    strongest = strength[:, active].argmax(axis=0)
    lead = most - (total - most) / max(len(values) - 1, 1)
    order = active[np.lexsort((-lead, strongest))]
    borders = np.searchsorted(np.sort(strongest), np.arange(len(values) + 1))
    marked = np.flatnonzero(np.isin(order, np.asarray(highlighted if highlighted is not None else (), dtype=int)))
    lines, each = pooled(values[:, order], int(7.2 * _PIXELS))
    norm = AsinhNorm(LINEAR, 0, float(np.nan_to_num(values).max(initial=0)) or 1.0)
    left, pitch, top = 1.85, 0.64, 0.95 if len(marked) else 0.5
    height = max(len(values) * pitch, 1.2)
    with drawing(left + 8.1, top + height + 0.4, layout=None) as figure:
        heading(figure, title)
        for place, (name, count) in enumerate(zip(names, counts, strict=True)):
            axes = axes_at(figure, left, top + place * pitch, 7.2, 0.44)
            box = (0, max(len(order), 1), 0, 1)
            axes.imshow(lines[[place]], _DARK, norm, aspect="auto", interpolation="nearest", extent=box)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(True)
            across = axes.get_xaxis_transform()
            axes.hlines(-0.14, *borders[place : place + 2], color=ORANGE, linewidth=2, transform=across, clip_on=False)
            if place:
                axes.vlines(marked + 0.5, 1.02, 1.18, color=INK, linewidth=0.8, transform=across, clip_on=False)
            else:
                flags(axes, marked + 0.5, np.ones(len(marked)), order[marked], INK)
            label = f"{wrapped(name, 22)}\n{count:,} patient{'s' * (count != 1)}"
            text_at(figure, 0.1, top + place * pitch + 0.22, label, va="center", fontsize=8.5)
        notes = f"{len(order):,} latents active in any group, of {values.shape[1]:,}"
        notes += f"; each line is the maximum of up to {each} neighbours" * (each > 1)
        notes += "\nunderlined: latents strongest in this group, by their lead over the mean of the others"
        text_at(figure, left, top + height, notes, fontsize=8, color=MUTED)
        key = axes_at(figure, left + 7.35, top, 0.14, min(height - 0.2, 2.4))
        figure.colorbar(ScalarMappable(norm, _DARK), key, ticks=count_ticks(norm.vmax), format="%.3g", label=_COUNT)
        key.minorticks_off()
        key.tick_params(labelsize=8)
    return figure


def patient_barcode(
    values: ArrayLike,
    reference: ArrayLike,
    *,
    name: str,
    reference_name: str,
    named: int = 12,
    title: str | None = None,
) -> Figure:
    """The barcode of a patient, mirrored by the mean of a group.

    Parameters
    ----------
    values
        Mean count of active patches a cell a_p[s], ``(n_latents,)``.
    reference
        Barcodes of the group, ``(n_patients, n_latents)``; NaN counts for nothing.
    name, reference_name
        Of the patient and the group.
    named
        So many latents that differ most are numbered; by the difference of log(1 + count).
    title
        Over the figure; both names if None.

    Returns
    -------
    Upwards the patient, downwards the mean of the group, latents by the group's falling mean, then by the patient's
    value. Latents that are 0 in both, or without a value, are left out.
    """
    own, group = np.asarray(values, dtype=float), pd.DataFrame(np.atleast_2d(np.asarray(reference, dtype=float)))
    mean = group.mean().to_numpy()
    kept = np.flatnonzero(np.maximum(own, mean) > 0)  # never so with NaN
    kept = kept[np.lexsort((-own[kept], -mean[kept]))]
    gap = np.log1p(own[kept]) - np.log1p(mean[kept])
    chosen = np.argsort(-np.abs(gap), kind="stable")[:named]
    largest = max(own[kept].max(initial=0), mean[kept].max(initial=0)) or 1.0
    left, width, panel, top = 0.75, 7.4, 1.5, 0.9
    sides = (("the patient", name, own, ORANGE, chosen[gap[chosen] > 0], "more"),)
    sides += ((f"mean of {len(group):,} patients", reference_name, mean, BLUE, chosen[gap[chosen] < 0], "less"),)
    with drawing(left + width + 1.7, top + 2 * panel + 0.8, layout=None) as figure:
        heading(
            figure, textwrap.shorten(title or f"{name} beside {reference_name}".replace("_", " "), 100, placeholder="…")
        )
        for down, (what, whose, counts, colour, at, than) in enumerate(sides):
            axes = axes_at(figure, left, top + down * panel, width, panel)
            bars, each = pooled(counts[None, kept], int(width * _PIXELS))
            axes.stairs(bars[0], np.linspace(0, len(kept), bars.shape[1] + 1), fill=True, color=NULL, linewidth=0)
            axes.set(xlim=(0, max(len(kept), 1)), xticks=[])
            count_scale(axes, largest)
            axes.tick_params(labelsize=8)
            if down:
                axes.invert_yaxis()
            axes.spines["bottom"].set_visible(False)
            axes.axhline(0, color=INK, linewidth=0.8)
            thick = max(1.8, 50 * width / max(len(kept), 1))
            axes.vlines(at + 0.5, 0, counts[kept[at]], color=colour, linewidth=thick)
            flags(axes, at + 0.5, counts[kept[at]], kept[at], colour, "bottom" if down else "top")
            beside, middle = left + width + 0.12, top + (down + 0.5) * panel
            text_at(figure, beside, middle - 0.1, wrapped(whose, 19), va="bottom", fontsize=9.5)
            text_at(figure, beside, middle - 0.06, what, fontsize=8, color=MUTED)
            text_at(figure, beside, middle + 0.12, f"numbers: {than} than\nthe mean", fontsize=8, color=colour)
        notes = f"{len(kept):,} latents active in either, of {len(own):,}, by falling mean of the group"
        notes += f"; each bar is the maximum of up to {each} neighbours" * (each > 1)
        notes += f"; {np.isnan(own + mean).sum():,} without a value" * bool(np.isnan(own + mean).any())
        text_at(figure, left, top + 2 * panel + 0.52, notes, fontsize=8, color=MUTED)
        text_at(figure, 0.1, top + panel, _COUNT, rotation=90, va="center", fontsize=9)
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
    """
    members = _members(groups)
    order = np.concatenate([np.zeros(0, dtype=int), *members.values()])
    values = np.asarray(correlation, dtype=float)[np.ix_(order, order)]
    pairs = values[np.triu_indices(len(values), 1)]
    found = pairs[np.isfinite(pairs)]
    low, high = (float(found.min()), float(found.max())) if len(found) else (-1.0, 1.0)
    alike = 0.005 * (low == high)
    labels = [f"{wrapped(name, 20)} ({len(rows):,})" for name, rows in members.items()]
    ends = np.cumsum([len(rows) for rows in members.values()]) / max(len(order), 1)
    middles = (ends + np.append(0, ends[:-1])) / 2
    edge, names, top = max(5.2, sum(map(depth, labels))), 0.45 + breadth(labels), 0.5
    with drawing(names + edge + 1.1, top + edge + names + 0.2, layout=None) as figure:
        heading(figure, title)
        axes = axes_at(figure, names, top, edge, edge)
        limits = {"vmin": low - alike, "vmax": high + alike}
        picture = axes.imshow(values, _VIRIDIS, **limits, interpolation="nearest", extent=(0, 1, 1, 0))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.hlines(ends[:-1], 0, 1, color="white", linewidth=0.9)
        axes.vlines(ends[:-1], 0, 1, color="white", linewidth=0.9)
        flags(axes, np.zeros(len(labels)), middles, labels, INK, "left")
        flags(axes, middles, np.ones(len(labels)), labels, INK, "bottom")
        key = axes_at(figure, names + edge + 0.2, top, 0.14, 2.8)
        figure.colorbar(picture, key, label=f"correlation, {low:.3g} to {high:.3g} off the diagonal")
        key.tick_params(labelsize=8)
        if missing := len(pairs) - len(found):
            note = f"grey: {missing:,} pairs without a value"
            text_at(figure, names + edge + 1, top + edge + 0.1, note, fontsize=8, color=MUTED, ha="right")
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
    """
    points = np.asarray(positions, dtype=float).reshape(-1, 2)
    known = np.isfinite(points).all(axis=1)
    notes = [note] * bool(note) + [f"{(~known).sum():,} patients without a position"] * bool((~known).any())
    members = _members(groups)
    labels = [f"{wrapped(name, 24)} ({known[rows].sum():,})" for name, rows in members.items()]
    height = max(4.6, sum(map(depth, labels)))
    with drawing(6.0 + breadth(labels), height + 0.8, layout=None) as figure:
        heading(figure, title)
        axes = axes_at(figure, 0.1, 0.45, 5.3, height)
        for place, (label, rows) in enumerate(zip(labels, members.values(), strict=True)):
            colour, marker = SERIES[place % len(SERIES)], "os^DvPX"[place % 7]
            drawn = points[rows[known[rows]]]
            axes.scatter(*drawn.T, s=38, color=colour, marker=marker, edgecolors="white", linewidths=0.5, label=label)
        axes.set(xticks=[], yticks=[])
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(0.08)
        axes.spines[:].set_visible(True)
        if labels:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=8.5)
        text_at(figure, 0.1, height + 0.52, "; ".join(notes), fontsize=8, color=MUTED)
    return figure


def comparison_scatter(
    a: ArrayLike,
    b: ArrayLike,
    top_a: Sequence[int],
    top_b: Sequence[int],
    *,
    names: tuple[str, str],
    title: str | None = None,
    named: int = 10,
) -> Figure:
    """The barcodes of two diseases against each other (CytoSAE, Fig. 5).

    Parameters
    ----------
    a, b
        Mean count of active patches a cell of each disease, ``(n_latents,)``; latents with NaN are not drawn.
    top_a, top_b
        Latents most in favour of each, strongest first.
    names
        Of the two diseases.
    title
        Over the figure; both names if None.
    named
        So many of each side are numbered.
    """
    points = np.column_stack([np.asarray(a, dtype=float), np.asarray(b, dtype=float)])
    largest = float(np.nan_to_num(points).max(initial=0)) or 1.0
    known = np.flatnonzero(np.isfinite(points).all(axis=1))
    others = np.setdiff1d(known, np.concatenate([top_a, top_b]))
    with drawing(6.6, 7.3, layout=None) as figure:
        heading(figure, textwrap.shorten(title or " and ".join(names).replace("_", " "), 75, placeholder="…"))
        axes = axes_at(figure, 0.85, 0.85, 5.0, 5.0)
        count_scale(axes, largest, "xy", low=-0.03 * LINEAR * np.arcsinh(largest / LINEAR))
        axes.axline((0, 0), (largest, largest), color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        label = f"{len(others):,} others"
        axes.scatter(*points[others].T, s=6, color=NULL, linewidths=0, rasterized=True, label=label)
        for top, colour, name, side in ((top_a, ORANGE, names[0], "right"), (top_b, BLUE, names[1], "top")):
            chosen = np.asarray(top, dtype=int)
            label = f"{len(chosen):,} most in favour of {wrapped(name, 55)}"
            axes.scatter(*points[chosen].T, s=20, color=colour, edgecolors="white", linewidths=0.4, label=label)
            flags(axes, *points[chosen[:named]].T, chosen[:named], colour, side)
        axes.set_xlabel(across := wrapped(f"{names[0]}: {_COUNT}", 55))
        axes.set_ylabel(wrapped(f"{names[1]}: {_COUNT}", 55))
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.07 - depth(across) / 5), fontsize=8.5)
    return figure


def _members(groups: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Rows of each group, groups by name."""
    names = pd.Series(list(groups), dtype=object).fillna("unknown").astype(str)
    return {str(name): np.asarray(rows) for name, rows in names.groupby(names).indices.items()}
