"""The figures are the same bytes each time, and their style stays theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from cytosae.report import (
    density_histogram,
    overview,
    patch_references,
    quality_summary,
    reference_grid,
    save,
    threshold_counts,
)
from support.report_figures import PATCH_LATENTS, QUALITY, latent_statistics, reference_row

FIGURES: dict[str, Callable[[], Figure]] = {
    "overview": lambda: overview(latent_statistics(), title="x"),
    "thresholds": lambda: threshold_counts({"x": [[0.1, 0.2], [0.0001, 0.2]]}),
    "grid": lambda: reference_grid([reference_row("a", 2)], title="x"),
    "patch": lambda: patch_references(reference_row("a", 1).images[0], (1, 2), PATCH_LATENTS, [reference_row("a", 2)]),
    "quality": lambda: quality_summary(QUALITY, title="x"),
    "density": lambda: density_histogram([0.0, 0.1, 0.5]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_same_figure_same_bytes(name: str, tmp_path: Path) -> None:
    for copy in ("a", "b"):
        save(FIGURES[name](), tmp_path / copy)
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_the_style_of_the_figures_stays_theirs(tmp_path: Path) -> None:
    with mpl.rc_context({"font.size": 7, "axes.spines.top": True}):
        before = dict(mpl.rcParams)
        save(density_histogram([0.1]), tmp_path / "a")
        assert dict(mpl.rcParams) == before
