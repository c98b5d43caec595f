"""What was logged while an autoencoder was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from cytosae.report.style import BLUE, MUTED, ORANGE, drawing
from cytosae.sae.metrics import HELD_OUT, PREFIXES

_CURVES = (
    ("explained_variance", "Explained variance"),
    ("l0", "L0: active latents a token"),
    ("mse", "Mean squared error"),
    ("l1", "L1: sum of latents a token"),
    ("dead", "Dead latents (share)"),
    ("revival", "Term of dead latents, unweighted"),
)


def training_curves(metrics: Sequence[Mapping[str, Any]], measured_on: str = HELD_OUT) -> Figure:
    """The figures logged while training, one panel each, over images seen.

    Parameters
    ----------
    metrics
        Lines of ``metrics.jsonl`` (`cytosae.sae.read_metrics`). Names that begin with ``held_out/`` or ``training_cells/``
        belong to the evaluations.
    measured_on
        Whose figures these are (`cytosae.sae.measured_on`).

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    per_step = next((line["images"] / line["step"] for line in metrics if line.get("images")), 1.0)
    with drawing(9.6, 4.6) as figure:
        for axes, (name, title) in zip(figure.subplots(2, 3).ravel(), _CURVES, strict=True):
            evaluated = [f"{prefix}/{name}" for prefix in PREFIXES.values()]
            for keys, colour, label, marker in (
                ([name], BLUE, "training batch", None),
                (evaluated, ORANGE, measured_on, "o"),
            ):
                lines = [
                    (line["step"] * per_step, line[key])
                    for line in metrics
                    for key in keys
                    if line.get(key) is not None
                ]
                if lines:
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
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            if name == "explained_variance":
                axes.set_ylim(top=1)
                if axes.lines:
                    axes.legend(fontsize=8, loc="lower right")
        figure.supxlabel("images seen", fontsize=9.5, color=MUTED)
    return figure
