"""The table of the quality measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.concepts.quality import Alignment, Estimate
from cytosae.console import say

FIGURES = "figures.csv"


class Table:
    """A row for each measure and method."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.skipped: dict[str, str] = {}
        self.estimates: dict[tuple[str, str], Estimate] = {}

    def add(self, measure: str, method: str, figure: Estimate | float, n: int | None = None) -> None:
        """Add a figure; a plain number has no interval."""
        estimate = figure if isinstance(figure, Estimate) else Estimate(float(figure))
        self.estimates[measure, method] = estimate
        self.rows.append({"measure": measure, "method": method, **with_ends(estimate), "n": n})

    def skip(self, measure: str, why: str) -> None:
        """Say why a measure is not there."""
        self.skipped[measure] = why
        say(f"quality: no {measure}: {why}")

    def gains(self, ours: str) -> list[dict[str, Any]]:
        """By how much `ours` is ahead of each other method, where both were drawn with the same cells."""
        return [
            {"measure": measure, "over": other, **with_ends(self.estimates[measure, ours].gain_over(other_estimate))}
            for (measure, other), other_estimate in self.estimates.items()
            if other != ours and (measure, ours) in self.estimates
            if len(other_estimate.draws) and len(other_estimate.draws) == len(self.estimates[measure, ours].draws)
        ]

    def frame(self) -> pd.DataFrame:
        """All figures."""
        return pd.DataFrame(self.rows, columns=["measure", "method", "value", "low", "high", "n"])


def with_ends(estimate: Estimate) -> dict[str, float]:
    """A figure and the ends of its interval, for a table."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def aligned(names: Sequence[str], alignment: Alignment, concepts: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The best latent for each of some truths, with its AUROC, for JSON; those without a figure are left out."""
    rows = []
    for column, name in enumerate(names):
        if alignment.best[column] >= 0:
            estimate = Estimate.from_draws(alignment.area[column], alignment.draws[:, column])
            rows.append({"value": name, "latent": int(concepts[alignment.best[column]]), "auroc": with_ends(estimate)})
    return rows


def read_figures(study: Path) -> pd.DataFrame:
    """The table of a study's quality measures; what is the column ``method`` was ``contender`` in earlier versions."""
    return pd.read_csv(study / "quality" / FIGURES).rename(columns={"contender": "method"})
