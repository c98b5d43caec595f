"""The figures of a classification: what is drawn against the numbers behind it."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_hex

from cytosae.report import calibration_figure, confusion_figure, method_figure, threshold_sweep
from cytosae.report.style import ACCENT, BLUE, INK, NULL, RULE
from support.patient_figures import LEFT_OUT, METHODS, SWEEP, leaders, written
from support.report_figures import NAN, assert_legible, texts


def test_sweep_draws_scores_intervals_and_latents() -> None:
    figure = threshold_sweep(**SWEEP, null=(0.2, 0.3), paper=(-3, 0.832, 0.044), title="Sweep")
    upper, lower = figure.axes
    np.testing.assert_array_equal(upper.lines[0].get_xydata(), [[-3, 0.8], [-2, 0.75], [-1, 0.7], [0, NAN]])
    np.testing.assert_array_equal(lower.lines[0].get_xydata(), [[-3, 1000], [-2, 100], [-1, 10], [0, NAN]])
    assert lower.get_yscale() == "log"
    band, whiskers = upper.collections[:2]
    corners = {(round(x, 6), round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert {(-3, 0.72), (-3, 0.85), (-1, 0.6), (-1, 0.75)} <= corners
    assert [segment[:, 1].tolist() for segment in whiskers.get_segments()[:3]] == [
        [0.72, 0.85],
        [0.7, 0.8],
        [0.6, 0.75],
    ]
    assert upper.patches[0].get_bbox().intervaly.tolist() == [0.2, 0.3]
    (published,) = upper.containers
    assert published.lines[0].get_xydata().tolist() == [[-3, 0.832]]
    np.testing.assert_allclose(published.lines[2][0].get_segments(), [[[-3, 0.788], [-3, 0.876]]])
    assert to_hex(published.lines[0].get_color()) == ACCENT
    entries = {text.get_text() for text in figure.legends[0].get_texts()}
    assert entries == {
        "permuted labels",
        "barcodes, with interval",
        "CytoSAE, as published",
    }
    assert figure.get_suptitle() == "Sweep"
    assert_legible(figure)


def test_methods_are_dots_with_intervals_from_top_to_bottom() -> None:
    figure = method_figure(METHODS, chance=0.2, null=(0.15, 0.3), title="Methods")
    (axes,) = figure.axes
    whiskers, dots = axes.collections
    places = axes.get_yticks()
    np.testing.assert_array_equal(dots.get_offsets()[:2], np.column_stack([[0.8, 0.7], places[:2]]))
    assert [segment[:, 0].tolist() for segment in whiskers.get_segments()[:2]] == [[0.7, 0.9], [0.6, 0.75]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["barcodes", "tokens mean", "none"]
    assert (np.diff(places) > 0).all()
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert [(text.get_text(), text.get_position()[1]) for text in axes.texts] == [("no value", places[2])]
    assert axes.patches[0].get_bbox().intervalx.tolist() == [0.15, 0.3]
    assert axes.lines[0].get_xdata() == [0.2, 0.2]
    entries = [text.get_text() for text in axes.get_legend().get_texts()]
    assert entries == ["permuted labels", "chance: 0.2", "value with interval"]
    assert (axes.get_xlabel(), figure.get_suptitle()) == ("weighted F1", "Methods")
    assert method_figure(METHODS, title="x").axes[0].get_legend() is None
    assert_legible(figure)


def test_a_laboratory_left_out_is_hollow_beside_it() -> None:
    figure = method_figure(LEFT_OUT, title="x", score="accuracy")
    (axes,) = figure.axes
    _, solid, whiskers, hollow = axes.collections
    assert to_hex(solid.get_facecolor()[0]) == BLUE
    assert to_hex(hollow.get_facecolor()[0]) == "#ffffff"
    assert to_hex(hollow.get_edgecolor()[0]) == BLUE
    assert hollow.get_offsets()[0, 0] == 0.6
    assert whiskers.get_segments()[0][:, 0].tolist() == [0.5, 0.7]
    assert solid.get_offsets()[0, 1] < axes.get_yticks()[0] < hollow.get_offsets()[0, 1]
    entries = [text.get_text() for text in axes.get_legend().get_texts()]
    assert entries == ["every laboratory in training", "one laboratory left out"]
    assert texts(axes) == ["no value"] * 3
    assert axes.get_xlabel() == "accuracy"
    assert_legible(figure)


def test_confusion_shows_counts_and_colours_shares_of_the_row() -> None:
    counts = np.array([[6.0, 2.0, 0.0], [0.4, 1.6, 0.0], [0.0, 0.0, 0.0]])
    figure = confusion_figure(counts, ["APL_PML", "b", "c"], title="Truth")
    axes, key = figure.axes
    (mesh,) = [part for part in axes.collections if part.get_array() is not None]
    np.testing.assert_allclose(mesh.get_array().filled(NAN), [[0.75, 0.25, 0], [0.2, 0.8, 0], [NAN] * 3])
    assert mesh.get_clim() == (0, 1)
    assert to_hex(mesh.cmap.get_bad()) == RULE
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first class on top
    cells = {text.get_position(): text for text in axes.texts if text.get_transform() == axes.transData}
    assert [cells[column + 0.5, row + 0.5].get_text() for row in range(3) for column in range(3)] == [
        *("6", "2", "0"),
        *("0.4", "1.6", "0"),
        *("0", "0", "0"),
    ]
    assert cells[0.5, 0.5].get_color() == "white"
    assert (cells[1.5, 0.5].get_color(), cells[2.5, 0.5].get_color()) == (INK, NULL)
    assert texts(axes)[9:] == ["c (0)", "b (2)", "APL PML (8)", "APL PML", "b", "c"]
    np.testing.assert_allclose(leaders(axes)[:, 1], [2.5, 1.5, 0.5, 3, 3, 3])
    np.testing.assert_allclose(leaders(axes)[:, 0], [0, 0, 0, 0.5, 1.5, 2.5], atol=1e-9)
    assert key.get_ylabel() == "share of the row"
    assert {"truth", "predicted"} <= {text.get_text() for text in figure.texts}
    assert_legible(figure)


def test_calibration_has_bins_of_like_size_with_wilson_intervals() -> None:
    confidence = np.linspace(0.205, 0.995, 40)[np.random.default_rng(0).permutation(40)]
    correct = confidence > 0.45
    correct[np.argsort(confidence)[10]] = True
    figure = calibration_figure(confidence, correct, bins=4, ece=0.1234, title="Calibration")
    upper, lower = figure.axes
    points = upper.lines[1].get_xydata()
    parts = np.array_split(np.argsort(confidence), 4)
    np.testing.assert_allclose(points, [[confidence[part].mean(), correct[part].mean()] for part in parts])
    intervals = {part[0, 0]: part[:, 1] for part in upper.collections[0].get_segments()}
    known = {0.0: (0, 0.2775), 0.8: (0.4902, 0.9433), 1.0: (0.7225, 1)}  # of 10, after Wilson
    assert {round(share, 9) for share in points[:, 1]} == set(known)
    for x, share in points:
        np.testing.assert_allclose(intervals[x], known[round(share, 9)], atol=1e-4)
    assert upper.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]
    bars = [bar.get_height() for bar in lower.patches]
    assert bars == np.histogram(confidence, bins=20, range=(0, 1))[0].tolist()
    assert "40 predictions, expected calibration error 0.123\nbins of 10, 95 % intervals" in written(figure)
    assert_legible(figure)


def test_equal_confidences_are_one_bin_and_unknown_ones_none() -> None:
    figure = calibration_figure([0.7] * 10 + [NAN, 0.9], [True] * 4 + [False] * 6 + [True, True], title="x")
    np.testing.assert_allclose(figure.axes[0].lines[1].get_xydata(), [[0.7, 0.4], [0.9, 1]])
    assert "11 predictions\nbins of 1 to 10" in written(figure)
    assert "error" not in written(figure)
