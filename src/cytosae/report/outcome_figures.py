"""Figures of predicted numbers and hazards."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from cytosae.report.style import BLUE, MUTED, SERIES, drawing, heading

_PARTS = 3


def outcome_figure(predicted: ArrayLike, values: ArrayLike, events: ArrayLike | None, *, name: str) -> Figure:
    """Predicted numbers over the true ones; or who is without the event, for each third of the predicted hazard.

    Parameters
    ----------
    predicted
        The number, or the logarithm of the relative hazard, of each patient, ``(n,)``; NaN is left out.
    values
        The true number, or the time, ``(n,)``.
    events
        Of times: whether the event was seen, ``(n,)``; None for numbers.
    name
        Of what is predicted.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    known = np.isfinite(np.asarray(predicted, float))
    predictions, true = np.asarray(predicted, float)[known], np.asarray(values, float)[known]
    with drawing(4.9, 4.4) as figure:
        axes = figure.subplots()
        if events is None:
            axes.plot(true, predictions, "o", color=BLUE, markersize=4, alpha=0.7)
            if len(true):
                ends = [min(true.min(), predictions.min()), max(true.max(), predictions.max())]
                axes.plot(ends, ends, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.set(xlabel=name, ylabel="predicted")
            heading(figure, f"{name}: truth and prediction")
            return figure
        seen = np.asarray(events, bool)[known]
        order = np.argsort(predictions, kind="stable")
        for part, colour, label in zip(np.array_split(order, _PARTS), SERIES, ("low", "middle", "high"), strict=False):
            times, alive = without_event(true[part], seen[part])
            axes.step(times, alive, where="post", color=colour, linewidth=1.5, label=f"{label} ({len(part)})")
        axes.set(xlim=(0, None), ylim=(0, 1.02), xlabel=name, ylabel="share without the event")
        axes.legend(title="predicted hazard (patients)", fontsize=8.5, title_fontsize=8.5, loc="lower left")
        heading(figure, "Thirds of the predicted hazard")
    return figure


def without_event(
    times: NDArray[np.floating], events: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of patients without the event at each time, from time 0 (Kaplan and Meier, 1958)."""
    at = np.unique(times)
    at_risk = np.array([(times >= time).sum() for time in at])
    happened = np.array([((times == time) & events).sum() for time in at])
    alive = np.cumprod(1 - happened / np.maximum(at_risk, 1))
    return np.concatenate([[0.0], at]), np.concatenate([[1.0], alive])
