"""The figure of the quality measures: what is drawn against the numbers behind it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from cytosae.report import quality_summary
from cytosae.report.style import ACCENT, INK, NULL
from support.report_figures import NAN, QUALITY, assert_legible, measures, texts


def test_quality_summary_draws_methods_and_lists_the_rest() -> None:
    figure = quality_summary(QUALITY, title="blood")
    probe, alignment, table = figure.axes
    assert figure.get_suptitle() == "blood"
    assert [text.get_text() for text in figure.texts] == ["blood", "probe (AUROC)", "alignment"]
    assert [t.get_text() for t in probe.get_yticklabels()] == [
        "latents",
        "tokens",
        "shuffled labels",
        "random directions",
    ]
    bars, dots = probe.collections
    np.testing.assert_allclose(dots.get_offsets(), [[0.8, 0], [0.9, 1], [0.5, 2], [0.6, 3]])
    assert [to_hex(colour) for colour in dots.get_facecolors()] == [ACCENT, INK, NULL, NULL]
    assert [to_hex(colour) for colour in bars.get_colors()] == [ACCENT, INK, NULL, NULL]
    whiskers = [np.asarray(segment).tolist() for segment in bars.get_segments()]
    assert whiskers[:3] == [[[0.7, 0], [0.85, 0]], [[0.88, 1], [0.93, 1]], [[0.48, 2], [0.52, 2]]]
    assert whiskers[3] == []
    assert probe.get_ylim()[0] > probe.get_ylim()[1]  # latents on top
    assert [t.get_text() for t in alignment.get_yticklabels()] == ["latents", "tokens"]
    assert texts(table) == [
        *("0.871", "explained variance ↑"),
        *("2,936", "concepts", "2,822 to 3,050"),
        *("0.98", "ceiling", "whole image, 0.97 to 0.99"),
        *("no value", "broken"),
    ]
    values = [text.get_position()[1] for text in table.texts if text.get_fontweight() == "bold"]
    np.testing.assert_allclose(values, [0.28, 0.58, 1.04, 1.5])  # in inches: one line, two, two
    rules = [line.get_ydata()[0] for line in table.lines]
    assert all(value < rule for value, rule in zip(values, rules, strict=True))
    assert all(rule < value for value, rule in zip(values[1:], rules[:-1], strict=True))
    assert_legible(figure)


def test_quality_summary_of_many_measures() -> None:
    methods = ["tokens of the backbone", "latents", "shuffled labels", "random directions", "PCA"]
    lines = [
        (f"attribute alignment of number {i}, k = 20 (AUROC)", method, 0.5 + 0.02 * i, 0.4, 1.0)
        for i in range(23)
        for method in methods[: 2 + i % 4]
    ]
    lines += [(f"a measure with a long name, in one number only: {i}", "latents", i, 0.0, i) for i in range(30)]
    figure = quality_summary(measures(*lines), title="blood")
    panels = figure.axes[:-1]
    assert len(panels) == 23
    places = [axes.get_position() for axes in panels]
    assert len({round(place.x0, 6) for place in places}) == 4
    assert len({round(place.y1, 6) for place in places}) == 6
    pitch = [axes.get_window_extent().height / len(axes.get_yticks()) for axes in panels]
    np.testing.assert_allclose(pitch, pitch[0])
    assert_legible(figure)


@pytest.mark.parametrize(
    "chosen", [[], ["explained variance"], ["alignment"], ["concepts", "ceiling", "probe (AUROC)"]]
)
def test_small_quality_summaries_are_legible(chosen: list[str]) -> None:
    figure = quality_summary(QUALITY[QUALITY["measure"].isin(chosen)], title="blood")
    assert_legible(figure)


def test_quality_summary_names_what_is_twice_or_missing() -> None:
    with pytest.raises(ValueError, match="alignment and tokens"):
        quality_summary(pd.concat([QUALITY, QUALITY.iloc[[6]]]), title="x")
    figure = quality_summary(measures(("a", "latents", 0.5, NAN, NAN), ("a", "tokens", NAN, NAN, NAN)), title="x")
    (label,) = figure.axes[0].texts
    assert (label.get_text(), label.get_position()[1]) == ("no value", 1)


def test_long_names_are_shortened_without_losing_their_beginning() -> None:
    long = "measure_without_a_space_" * 3
    lines = [(f"{long}{i}", name, 0.5, NAN, NAN) for i in range(2) for name in ("latents", long)]
    figure = quality_summary(measures(*lines), title="x")
    assert figure.axes[0].get_yticklabels()[1].get_text() == "measure_without_a_spa…"
    assert figure.texts[1].get_text() == long[:43] + "…"
    assert_legible(figure)
