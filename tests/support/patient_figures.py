"""What the tests of the figures of patients draw, and what they read off a figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from support.report_figures import NAN

LONG = "acute_myeloid_leukaemia_with_a_name t(8;21)(q22;q22.1) that nobody reads to its end" * 2
DISEASES = ["APL_PML_RARA", "NPM1", "CBFB_MYH11", "RUNX1_RUNX1T1", "healthy"]


def made_up_barcodes(n_patients: int = 60, n_latents: int = 768) -> tuple[np.ndarray, np.ndarray]:
    """Barcodes of patients, many latents at 0, and the disease of each."""
    rng = np.random.default_rng(0)
    codes = rng.integers(5, size=n_patients)
    rate = np.exp(rng.normal(-2, 2, n_latents)) * (rng.random(n_latents) < 0.7)
    strength = np.exp(rng.normal(0, 1, (5, n_latents)))[codes] * rng.gamma(3, 1 / 3, (n_patients, n_latents))
    return np.minimum(np.round(rate * strength, 2), 257), codes


BARCODES, CODES = made_up_barcodes()
MEANS = np.stack([BARCODES[disease == CODES].mean(axis=0) for disease in range(5)])
GROUPS = [DISEASES[code] for code in CODES]


def written(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def leaders(axes: Axes) -> np.ndarray:
    """Of the lines from points to labels: the points, in data."""
    segments = np.array([line for group in axes.collections for line in _corners(group) if len(line) == 3])
    return axes.transData.inverted().transform(axes.transAxes.transform(segments[:, 0]))


def _corners(collection: object) -> list[np.ndarray]:
    return collection.get_segments() if hasattr(collection, "get_segments") else []


SWEEP = {
    "thresholds": [-1.0, -3.0, -2.0, 0.0],
    "score": [0.7, 0.8, 0.75, NAN],
    "low": [0.6, 0.72, 0.7, NAN],
    "high": [0.75, 0.85, 0.8, NAN],
    "n_latents": [10, 1000, 100, 0],
}
METHODS = pd.DataFrame(
    {"value": [0.8, 0.7, NAN], "low": [0.7, 0.6, NAN], "high": [0.9, 0.75, NAN]},
    index=["barcodes", "tokens_mean", "none"],
)
LEFT_OUT = METHODS.assign(left_out_value=[0.6, NAN, NAN], left_out_low=[0.5, NAN, NAN], left_out_high=[0.7, NAN, NAN])
