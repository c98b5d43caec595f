"""All latents of an autoencoder at once: how often, how strongly, for how many labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from cytosae.concepts import is_concept
from cytosae.report.style import HISTOGRAM, INK, MUTED, NULL, SERIES, drawing, heading
from cytosae.settings import CONCEPT_THRESHOLD

THRESHOLDS = np.arange(-6, 0.25, 0.25)
"""Of log10 mean activation (CytoSAE, Fig. 2A and 4A)."""


def overview(var: pd.DataFrame, *, title: str, concept_threshold: float = CONCEPT_THRESHOLD) -> Figure:
    """The overview plot (CytoSAE, Fig. 2A).

    Parameters
    ----------
    var
        Latents with ``activation_frequency``, ``mean_activation``, ``label_entropy``; ``is_concept``, without which all
        above the line are concepts.
    title
        Over the plot, usually the data set.
    concept_threshold
        Where the line of discovered concepts is drawn, in log10 units.

    Returns
    -------
    x: log10 of the activation frequency, y: log10 of the mean activation, colour: label entropy (grey where there
    is none); histograms on both axes. Crosses are latents above the line that are no concepts for another
    reason. Latents that are never active have no place in it and are counted in the title.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    concepts = var["is_concept"] if "is_concept" in var else is_concept(var["mean_activation"], concept_threshold)
    var = var.assign(is_concept=np.asarray(concepts, bool))
    active = var[(var["activation_frequency"] > 0) & (var["mean_activation"] > 0)]
    x = np.log10(active["activation_frequency"].to_numpy(dtype=float))
    y = np.log10(active["mean_activation"].to_numpy(dtype=float))
    entropy = active["label_entropy"].to_numpy(dtype=float)
    known = np.isfinite(entropy)
    with drawing(7.2, 5.6) as figure:
        grid = figure.add_gridspec(2, 3, width_ratios=(5, 1.1, 0.16), height_ratios=(1.1, 5), wspace=0.02, hspace=0.02)
        main = figure.add_subplot(grid[1, 0])
        top = figure.add_subplot(grid[0, 0], sharex=main)
        right = figure.add_subplot(grid[1, 1], sharey=main)
        bar = figure.add_subplot(grid[1, 2])
        size = float(np.clip(4000 / max(1, len(active)), 3, 26))
        above = active["is_concept"].to_numpy() | (y <= concept_threshold)
        main.scatter(x[~known], y[~known], s=size, color=NULL, linewidths=0, rasterized=True)
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
        if not above.all():
            main.scatter(x[~above], y[~above], s=size, marker="x", color=INK, linewidths=0.6)
        main.axhline(concept_threshold, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        main.annotate(
            f"concepts: log10 mean > {concept_threshold:g}" + ("" if above.all() else ", without the crosses"),
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
        silent = len(var) - len(active)
        heading(figure, f"{title}: {int(np.sum(concepts)):,} concepts of {len(var):,} latents, {silent:,} never active")
    return figure


def threshold_counts(
    means: Mapping[str, ArrayLike], thresholds: ArrayLike = THRESHOLDS, *, concept_threshold: float = CONCEPT_THRESHOLD
) -> Figure:
    """How many latents pass a threshold of mean activation, for several autoencoders (CytoSAE, Fig. 2A, bottom right).

    Parameters
    ----------
    means
        Name of each autoencoder with the mean activation of its latents, ``(n_latents,)``, or of several seeds,
        ``(n_seeds, n_latents)``.
    thresholds
        In log10 units, rising; ``(n_thresholds,)``.
    concept_threshold
        Where concepts are counted, in log10 units.

    Returns
    -------
    One line each, on a logarithmic axis; with seeds their mean and a band of one standard deviation (of a sample, over
    n_seeds - 1). The legend has the counts at the concept threshold. A latent that is never active, mean 0, passes none.

    Raises
    ------
    ValueError
        A mean activation is NaN, or the array has another shape.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    x = np.asarray(thresholds, dtype=float)
    with drawing(6.2, 4.4) as figure:
        axes = figure.subplots()
        axes.axvline(concept_threshold, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        for index, (name, values) in enumerate(means.items()):
            seeds = _seeds(name, values)
            colour, dashes = SERIES[index % len(SERIES)], ("-", "--", ":")[index // len(SERIES) % 3]
            counts = np.array([is_concept(seeds, threshold).sum(axis=1) for threshold in x])
            concepts = is_concept(seeds, concept_threshold).sum(axis=1)
            label = f"{name}: {concepts.mean():,.0f}"
            if len(seeds) > 1:
                mean, spread = counts.mean(axis=1), counts.std(axis=1, ddof=1)
                axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.25, linewidth=0)
                label += f" ± {concepts.std(ddof=1):,.0f}"
            axes.plot(x, counts.mean(axis=1), color=colour, linestyle=dashes, linewidth=1.4, label=label)
            axes.plot([concept_threshold], [concepts.mean()], "o", color=colour, markersize=4.5)
        axes.set_yscale("log", nonpositive="clip")  # a line ends where nothing passes any more
        axes.set_ylim(bottom=0.8)
        axes.set_xlabel("threshold of log10 mean activation")
        axes.set_ylabel("latents above it")
        if means:
            axes.legend(title=f"concepts: log10 mean > {concept_threshold:g}", alignment="left", fontsize=8.5)
    return figure


def _seeds(name: str, values: ArrayLike) -> NDArray[np.float64]:
    seeds = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if seeds.ndim != 2 or np.isnan(seeds).any():
        raise ValueError(
            f"{name}: mean activations are (n_latents,) or (n_seeds, n_latents) without NaN; "
            f"these are {seeds.shape}, {np.isnan(seeds).sum()} of them NaN"
        )
    return seeds
