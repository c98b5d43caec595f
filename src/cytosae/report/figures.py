"""The figures of a study, in one style: colour-blind safe, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cytosae.artefacts import whole_file

INK, MUTED, RULE = "#1c2430", "#66707f", "#d9dee6"
TRAIN, HELD_OUT, HISTOGRAM = "#3b6ea5", "#c2571a", "#8fa9c4"

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
    "savefig.dpi": 160,
    "svg.hashsalt": "cytosae",
}


@contextmanager
def style() -> Iterator[None]:
    """The style of all figures."""
    with mpl.rc_context(_STYLE):
        yield


def overview(var: pd.DataFrame, *, title: str, concept_threshold: float = -3.0) -> Figure:
    """The overview plot (CytoSAE, Fig. 2A).

    Parameters
    ----------
    var
        Latents with ``activation_frequency``, ``mean_activation`` and ``label_entropy``.
    title
        Over the plot, usually the data set.
    concept_threshold
        Where the line of discovered concepts is drawn, in log10 units.

    Returns
    -------
    x: log10 of the activation frequency, y: log10 of the mean activation, colour: label entropy (grey where there
    is none); histograms on both axes. Latents that are never active have no place in it and are counted in the title.
    """
    active = var[(var["activation_frequency"] > 0) & (var["mean_activation"] > 0)]
    x = np.log10(active["activation_frequency"].to_numpy(dtype=float))
    y = np.log10(active["mean_activation"].to_numpy(dtype=float))
    entropy = active["label_entropy"].to_numpy(dtype=float)
    known = np.isfinite(entropy)
    with style():
        figure = Figure(figsize=(7.2, 5.6), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(2, 3, width_ratios=(5, 1.1, 0.16), height_ratios=(1.1, 5), wspace=0.02, hspace=0.02)
        main = figure.add_subplot(grid[1, 0])
        top = figure.add_subplot(grid[0, 0], sharex=main)
        right = figure.add_subplot(grid[1, 1], sharey=main)
        bar = figure.add_subplot(grid[1, 2])
        size = float(np.clip(4000 / max(1, len(active)), 3, 26))
        main.scatter(x[~known], y[~known], s=size, color="#b5bcc7", linewidths=0, rasterized=True)
        points = main.scatter(
            x[known],
            y[known],
            c=entropy[known],
            s=size,
            cmap="viridis",
            vmin=0,
            vmax=max(0.1, entropy[known].max(initial=0)),
            linewidths=0,
            alpha=0.85,
            rasterized=True,
        )
        points.set_gid("latents")
        main.axhline(concept_threshold, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        main.annotate(
            f"concepts: log10 mean > {concept_threshold:g}",
            (0.0, concept_threshold),
            xycoords=("axes fraction", "data"),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
            color=MUTED,
        )
        main.set_xlabel("log10 activation frequency (share of cells)")
        main.set_ylabel("log10 mean activation")
        if len(active):
            top.hist(x, bins=60, color=HISTOGRAM, linewidth=0)
            right.hist(y, bins=60, orientation="horizontal", color=HISTOGRAM, linewidth=0)
        top.tick_params(labelbottom=False, labelsize=7.5)
        right.tick_params(labelleft=False, labelsize=7.5)
        for axes in (top, right):
            axes.grid(False)
        if known.any():
            colours = figure.colorbar(points, cax=bar)
            colours.set_label("label entropy (nats)")
            colours.outline.set_visible(False)
        else:
            bar.set_visible(False)
        concepts = int((y > concept_threshold).sum())
        silent = len(var) - len(active)
        figure.suptitle(
            f"{title}: {concepts:,} concepts of {len(var):,} latents, {silent:,} never active",
            x=0.01,
            ha="left",
            fontsize=11,
            color=INK,
        )
    return figure


_CURVES = (
    ("explained_variance", "Explained variance"),
    ("l0", "L0: active latents a token"),
    ("mse", "Mean squared error"),
    ("l1", "L1: sum of latents a token"),
    ("dead", "Dead latents (share)"),
    ("revival", "Term of the dead latents, before its weight"),
)


def training_curves(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """The figures logged while training, one panel each, over images seen.

    Parameters
    ----------
    metrics
        Lines of ``metrics.jsonl`` (`cytosae.sae.read_metrics`). Names that begin with ``held_out/`` belong to the
        evaluation on held-out cells.
    """
    per_step = next((line["images"] / line["step"] for line in metrics if line.get("images")), 1.0)
    with style():
        figure = Figure(figsize=(9.6, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (name, title) in zip(figure.subplots(2, 3).ravel(), _CURVES, strict=True):
            for key, colour, label in (
                (name, TRAIN, "training batch"),
                (f"held_out/{name}", HELD_OUT, "held-out cells"),
            ):
                lines = [(line["step"] * per_step, line[key]) for line in metrics if line.get(key) is not None]
                if lines:
                    marker = "o" if key.startswith("held") else None
                    axes.plot(
                        *zip(*lines, strict=True),
                        color=colour,
                        label=label,
                        marker=marker,
                        markersize=3,
                        lw=1.2,
                    )
            axes.set_title(title)
            axes.set_ylim(bottom=0 if name != "explained_variance" else None)
            axes.xaxis.set_major_formatter(mpl.ticker.EngFormatter(sep=""))
            if name == "explained_variance":
                axes.set_ylim(top=1)
                axes.legend(fontsize=8, loc="lower right")
        figure.supxlabel("images seen", fontsize=9.5, color=MUTED)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write ``<path>.png`` and ``<path>.svg``; the same figure gives the same bytes."""
    with style():
        for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
            with whole_file(path.with_name(path.name + suffix)) as partial:
                figure.savefig(partial, format=suffix[1:], metadata=metadata, facecolor="white")
