"""The figures of a training, of thresholds and densities: what is drawn against the numbers behind it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from cytosae.report import density_histogram, threshold_counts, training_curves
from support.report_figures import assert_legible, texts


def test_training_curves_draw_the_log() -> None:
    lines: list[dict[str, Any]] = [
        {
            "step": s,
            "images": 64 * s,
            "explained_variance": s / 100,
            "l0": 9,
            "mse": 1,
            "l1": 2,
            "dead": 0,
            "revival": 0,
        }
        for s in (10, 20, 30)
    ]
    lines.append({"step": 30, "held_out/explained_variance": 0.25})
    figure = training_curves(lines)
    training, held = figure.axes[0].lines
    assert training.get_xdata().tolist() == [640, 1280, 1920]
    assert training.get_ydata().tolist() == [0.1, 0.2, 0.3]
    assert (held.get_xdata().tolist(), held.get_ydata().tolist()) == ([1920], [0.25])
    assert_legible(figure)


def test_threshold_counts_are_lines_with_a_band() -> None:
    one = [0.0, 2e-6, 0.002, 0.02, 0.2, 2.0]
    seeds = [[0.5] + [0.002] * n + [0.0] * (8 - n) for n in (0, 4, 8)]
    figure = threshold_counts({"one": one, "seeds": seeds}, thresholds=[-6, -3, -1, 0])
    (axes,) = figure.axes
    border, first, first_mark, second, second_mark = axes.lines
    assert border.get_xdata() == [-3, -3]
    assert first.get_xdata().tolist() == second.get_xdata().tolist() == [-6, -3, -1, 0]
    assert first.get_ydata().tolist() == [5, 4, 2, 1]
    np.testing.assert_allclose(second.get_ydata(), [5, 5, 1, 0])
    assert (first_mark.get_xdata(), first_mark.get_ydata()) == ([-3], [4])
    assert (second_mark.get_xdata(), second_mark.get_ydata()) == ([-3], [5])
    (band,) = axes.collections
    corners = {(round(x, 6), round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert {(-6, 1), (-6, 9), (-3, 1), (-3, 9), (-1, 1), (0, 0)} <= corners
    assert axes.get_yscale() == "log"
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["one: 4", "seeds: 5 ± 4"]
    assert legend.get_title().get_text() == "concepts: log10 mean > -3"
    assert_legible(figure)
    assert first.get_color() == first_mark.get_color() != second.get_color() == second_mark.get_color()


def test_published_threshold_counts(golden: dict[str, np.ndarray]) -> None:
    figure = threshold_counts({"64": golden["mean_activation"]})
    line = figure.axes[0].lines[1]
    assert line.get_xdata()[[0, -1]].tolist() == [-6, 0]
    assert line.get_ydata()[12] == 3801
    assert (np.diff(line.get_ydata()) <= 0).all()


def test_threshold_counts_tell_many_lines_apart_and_refuse_nan() -> None:
    lines = threshold_counts({str(i): [0.1] for i in range(10)}).axes[0].lines[1::2]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threshold_counts({}).canvas.draw()
    with pytest.raises(ValueError, match=r"x: .*NaN"):
        threshold_counts({"x": [0.1, np.nan]})
    with pytest.raises(ValueError, match=r"n_seeds"):
        threshold_counts({"x": np.zeros((2, 2, 2))})


def test_density_histogram_counts_dead_and_dense() -> None:
    shares = np.array([0.0, 0.0, 0.00015, 0.0015, 0.0016, 0.05, 0.1, 0.11, 0.5, 1.0])
    figure = density_histogram(shares)
    (axes,) = figure.axes
    assert figure.get_suptitle() == "10 latents: 2 dead, 3 dense"
    assert texts(axes) == ["dense: 3"]
    shaded, *bars = axes.patches
    assert shaded.get_bbox().intervalx.tolist() == [-1, 0]
    counted = {round(bar.get_x(), 1): bar.get_height() for bar in bars if bar.get_height()}
    assert counted == {-3.9: 1, -2.9: 1, -2.8: 1, -1.4: 1, -1.0: 2, -0.4: 1, -0.1: 1}
    assert axes.get_xlim() == (-4, 0)
    assert_legible(figure)


def test_density_without_living_latents_and_of_impossible_shares() -> None:
    assert_legible(density_histogram([0.0, 0.0]))
    assert "0 latents: 0 dead, 0 dense" in density_histogram([]).get_suptitle()
    for shares in ([0.1, 1.1], [-0.1], [np.nan], [[0.1]]):
        with pytest.raises(ValueError, match="0 to 1"):
            density_histogram(shares)
