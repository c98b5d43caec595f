"""The figures of patients and diseases: what is drawn against the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from cytosae.report import (
    calibration_figure,
    comparison_scatter,
    confusion_figure,
    correlation_map,
    disease_barcodes,
    method_figure,
    patient_barcode,
    patient_map,
    save,
    threshold_sweep,
)
from cytosae.report.layout import flags, pooled
from cytosae.report.style import ACCENT, BLUE, INK, NULL, ORANGE, RULE, axes_at, drawing
from support.patient_figures import (
    BARCODES,
    CODES,
    DISEASES,
    GROUPS,
    LEFT_OUT,
    LONG,
    MEANS,
    METHODS,
    SWEEP,
    leaders,
    written,
)
from support.report_figures import NAN, assert_legible, picture_axes, texts

# Columns: strong everywhere, never, in c alone, in b by far, in b a little, weak in a, in a by far.
STRIPS = np.array(
    [
        [90.0, 0.0, 0.0, 1.0, 0.0, 0.01, 50.0],
        [99.0, 0.0, 0.0, 70.0, 0.3, 0.0, 0.0],
        [95.0, 0.0, 2.0, 1.0, 0.2, 0.0, 0.0],
    ]
)
ORDER = [6, 5, 3, 4, 0, 2]


def test_each_disease_shows_a_block_of_its_own() -> None:
    figure = disease_barcodes(STRIPS, ["a_a", "b", "c"], [1, 2000, 3], title="Diseases")
    strips = picture_axes(figure)
    for strip, values in zip(strips, STRIPS, strict=True):
        (image,) = strip.images
        np.testing.assert_array_equal(image.get_array(), values[None, ORDER])
        assert (image.norm.vmin, image.norm.vmax, image.get_extent()) == (0, 99, [0, 6, 0, 1])
        assert image.norm.linear_width == 0.1
    assert len({id(strip.images[0].norm) for strip in strips}) == 1
    tops = [strip.get_position().y1 for strip in strips]
    assert tops == sorted(tops, reverse=True)
    underlined = [strip.collections[0].get_segments()[0][:, 0].tolist() for strip in strips]
    assert underlined == [[0, 2], [2, 5], [5, 6]]
    assert "a a\n1 patient\nb\n2,000 patients\nc\n3 patients" in written(figure)
    assert "6 latents active in any group, of 7\n" in written(figure)
    (key,) = [axes for axes in figure.axes if not axes.images]
    assert key.get_ylabel() == "active patches a cell"
    assert key.get_ylim() == pytest.approx((0, 99))
    assert [label.get_text() for label in key.get_yticklabels()] == ["0", "0.1", "1", "10", "99"]
    assert figure.get_suptitle() == "Diseases"
    assert_legible(figure)


def test_colours_of_barcodes_run_from_white_to_ink_nearly_by_the_logarithm() -> None:
    image = picture_axes(disease_barcodes([[0.0, 0.1, 1.0, 10.0, 100.0]], ["a"], [1], title="x"))[0].images[0]
    lightness = [1 - np.mean(image.cmap(float(image.norm(value)))[:3]) for value in (0.0, 0.1, 1.0, 10.0, 100.0)]
    assert lightness[0] == 0
    assert to_hex(image.cmap(1.0)) == INK
    assert (np.diff(lightness) > 0.05).all()
    assert np.diff(np.asarray(image.norm([1.0, 10.0, 100.0]))) == pytest.approx([0.303, 0.303], abs=0.005)


def test_more_latents_than_pixels_are_pooled_by_their_maximum() -> None:
    values = np.random.default_rng(0).gamma(0.3, 1, (2, 5000))
    values[:, 1000:2000] = 0
    figure = disease_barcodes(values, ["a", "b"], [1, 1], title="x")
    drawn = np.concatenate([strip.images[0].get_array() for strip in picture_axes(figure)])
    assert drawn.shape == (2, 1152)
    np.testing.assert_array_equal(drawn.max(axis=1), values.max(axis=1))
    assert "4,000 latents active in any group, of 5,000; each line is the maximum of up to 4 neighbours" in written(
        figure
    )
    few = disease_barcodes(values[:, :50], ["a", "b"], [1, 1], title="x")
    assert picture_axes(few)[0].images[0].get_array().shape == (1, 50)
    assert "maximum" not in written(few)


@pytest.mark.parametrize("columns", [1, 7, 160, 161, 1000])
def test_pooled_is_the_maximum_of_neighbours(columns: int) -> None:
    rows = np.random.default_rng(0).normal(size=(3, columns))
    rows[0, 0] = NAN
    found, each = pooled(rows, 1.0)
    starts = [int(i * columns / found.shape[1] + 1e-9) for i in range(found.shape[1])] + [columns]
    pieces = [rows[:, a:b] for a, b in pairwise(starts)]
    assert found.shape == (3, min(columns, 160))
    assert each == max(piece.shape[1] for piece in pieces)
    for column, piece in zip(found.T, pieces, strict=True):
        expected = [max([x for x in row if not np.isnan(x)], default=NAN) for row in piece]
        np.testing.assert_array_equal(column, expected)


def test_highlighted_latents_are_numbered_at_their_place() -> None:
    figure = disease_barcodes(STRIPS, ["a", "b", "c"], [1, 1, 1], highlighted=[3, 1, 6], title="x")
    first, second, third = picture_axes(figure)
    assert texts(first) == ["6", "3"]  # 1 is active nowhere
    np.testing.assert_allclose(leaders(first), [[0.5, 1], [2.5, 1]])
    for strip in (second, third):
        assert texts(strip) == []
        assert [line[0, 0] for line in strip.collections[1].get_segments()] == [0.5, 2.5]
    assert_legible(figure)


def test_a_disease_without_patients_is_grey() -> None:
    values = np.vstack([STRIPS, np.full(7, NAN)])
    figure = disease_barcodes(values, ["a", "b", "c", "none"], [1, 1, 1, 0], title="x")
    *known, unknown = picture_axes(figure)
    np.testing.assert_array_equal(known[0].images[0].get_array(), STRIPS[:1, ORDER])
    image = unknown.images[0]
    assert image.get_array().mask.all()
    assert to_hex(image.cmap.get_bad()) == RULE
    assert "grey: no value" in written(figure)
    assert "grey" not in written(disease_barcodes(STRIPS, ["a", "b", "c"], [1, 1, 1], title="x"))


def heights(axes: Axes) -> list[float]:
    (stairs,) = axes.patches
    return stairs.get_data().values.tolist()


def test_patient_and_group_mirror_each_other() -> None:
    """Means of the group: 3, 0, 0.5, 8, 0, 0."""
    reference = np.array([[2, 0, 0.5, 10, 0, 0], [4, 0, 0.5, 6, 0, 0.0]])
    patient = np.array([3, 0, 4.0, 1.0, 0.2, 20])
    figure = patient_barcode(patient, reference, name="P_1", reference_name="healthy", named=4)
    upper, lower = figure.axes
    assert heights(upper) == [1, 3, 4, 20, 0.2]
    assert heights(lower) == [8, 3, 0.5, 0, 0]
    assert upper.patches[0].get_data().edges.tolist() == [0, 1, 2, 3, 4, 5]
    assert upper.get_ylim() == lower.get_ylim()[::-1] == pytest.approx((0, 22))
    assert upper.get_yscale() == lower.get_yscale() == "asinh"
    assert upper.get_position().y0 == pytest.approx(lower.get_position().y1)
    # log(1 + x) differs by 3.04, 1.50 and 1.20, then by 0.18; not at all for latent 0.
    assert (texts(upper), texts(lower)) == (["2", "5", "4"], ["3"])
    np.testing.assert_allclose(leaders(upper), [[2.5, 4], [3.5, 20], [4.5, 0.2]], atol=1e-9)
    np.testing.assert_allclose(leaders(lower), [[0.5, 8]])
    assert {text.get_color() for text in upper.texts} == {ORANGE}
    assert {text.get_color() for text in lower.texts} == {BLUE}
    bars = sorted(np.asarray(segment).tolist() for segment in upper.collections[0].get_segments())
    assert bars == [[[2.5, 0], [2.5, 4]], [[3.5, 0], [3.5, 20]], [[4.5, 0], [4.5, 0.2]]]
    assert "5 latents active in either, of 6, by falling mean of the group" in written(figure)
    assert "mean of 2 patients" in written(figure)
    assert "without a value" not in written(figure)
    assert figure.get_suptitle() == "P 1 beside healthy"
    assert_legible(figure)


def test_as_many_latents_of_a_patient_are_numbered_as_asked() -> None:
    for named in (0, 1, 2):
        figure = patient_barcode([3, 9], [[8.0, 1]], name="a", reference_name="b", named=named, title="Patient a")
        assert [len(axes.texts) for axes in figure.axes] == [min(named, 1), named // 2]
        assert figure.get_suptitle() == "Patient a"
    assert texts(figure.axes[0]) == ["1"]


def test_patients_with_unknown_values() -> None:
    figure = patient_barcode(
        [1, NAN, 2, 0.5], [[0, 1, NAN, 0.2], [0, 1, NAN, NAN]], name="a", reference_name="b", title="x"
    )
    assert [heights(axes) for axes in figure.axes] == [[0.5, 1], [0.2, 0]]
    assert "2 latents active in either, of 4, by falling mean of the group; 2 without a value" in written(figure)
    assert_legible(figure)


def test_barcodes_of_all_latents_of_a_patient() -> None:
    values = np.random.default_rng(0).gamma(0.1, 1, (4, 49152))
    figure = patient_barcode(values[0], values[1:], name="a", reference_name="b")
    upper, lower = figure.axes
    assert len(heights(upper)) == len(heights(lower)) == 1184
    assert max(heights(upper)) == values[0].max()
    assert upper.patches[0].get_data().edges[[0, -1]].tolist() == [0, 49152]
    assert "each bar is the maximum of up to 42 neighbours" in written(figure)
    assert sorted(map(int, texts(upper) + texts(lower))) == sorted(
        np.argsort(-np.abs(np.log1p(values[0]) - np.log1p(values[1:].mean(axis=0))))[:12]
    )
    assert_legible(figure)


def test_correlations_stand_by_group_and_span_the_colours() -> None:
    groups = ["b", "a_a", "b", "a_a", "c"]
    correlation = np.array([[1.0 if i == j else 0.8 + 0.01 * (i + j) for j in range(5)] for i in range(5)])
    figure = correlation_map(correlation, groups, title="Patients")
    axes, key = figure.axes
    (image,) = axes.images
    order = [1, 3, 0, 2, 4]
    np.testing.assert_array_equal(image.get_array(), correlation[np.ix_(order, order)])
    assert image.get_clim() == pytest.approx((0.81, 0.87))
    assert key.get_ylim() == pytest.approx((0.81, 0.87))
    assert key.get_ylabel() == "correlation, 0.81 to 0.87 off the diagonal"
    assert texts(axes) == ["c (1)", "b (2)", "a a (2)", "a a (2)", "b (2)", "c (1)"]  # from the lower left corner
    np.testing.assert_allclose(leaders(axes), [[0, 0.9], [0, 0.6], [0, 0.2], [0.2, 1], [0.6, 1], [0.9, 1]], atol=1e-9)
    across, down = axes.collections[:2]
    assert [segment[0, 1] for segment in across.get_segments()] == [0.4, 0.8]
    assert [segment[0, 0] for segment in down.get_segments()] == [0.4, 0.8]
    assert "grey" not in written(figure)
    assert_legible(figure)


def test_patients_without_correlation_are_grey() -> None:
    correlation = np.array([[1.0, 0.5, NAN], [0.5, 1.0, NAN], [NAN, NAN, NAN]])
    figure = correlation_map(correlation, ["x", "x", "x"], title="x")
    image = figure.axes[0].images[0]
    assert image.get_array().mask.tolist() == np.isnan(correlation).tolist()
    assert to_hex(image.cmap.get_bad()) == RULE
    assert "grey: 2 pairs\nwithout a value" in written(figure)
    assert image.get_clim() == pytest.approx((0.495, 0.505))
    nothing = correlation_map([[1.0]], [NAN], title="x")
    assert texts(nothing.axes[0]) == ["unknown (1)"] * 2
    assert nothing.axes[1].get_ylabel() == "correlation"


def test_map_draws_every_patient_in_colour_and_marker_of_the_group() -> None:
    positions = np.random.default_rng(0).normal(size=(60, 2))
    positions[7] = NAN
    figure = patient_map(positions, GROUPS, title="Patients", note="UMAP")
    (axes,) = figure.axes
    names = sorted(set(GROUPS))
    assert names[-1] == "healthy"
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    for name, points, entry in zip(names, axes.collections, legend, strict=True):
        inside = [i for i in range(60) if GROUPS[i] == name and i != 7]
        np.testing.assert_array_equal(points.get_offsets(), positions[inside])
        assert entry == f"{name.replace('_', ' ')} ({len(inside)})"
    assert written(figure).endswith("UMAP; 1 patient without a position")
    assert axes.get_aspect() == 1
    assert not [*axes.get_xticks(), *axes.get_yticks()]
    assert_legible(figure)


def test_twenty_groups_are_told_apart() -> None:
    figure = patient_map(
        np.random.default_rng(0).normal(size=(40, 2)), [f"group {i % 20:02}" for i in range(40)], title="x"
    )
    points = figure.axes[0].collections
    shapes = [(to_hex(one.get_facecolor()[0]), one.get_paths()[0].vertices.tobytes()) for one in points]
    assert len(set(shapes)) == len(shapes) == 20
    assert len({shape for _, shape in shapes[:7]}) == 7
    assert_legible(figure)


def test_two_diseases_against_each_other() -> None:
    a, b = MEANS[0], MEANS[2]
    order = np.argsort(b - a, kind="stable")
    top_a, top_b = order[:50], order[::-1][:50]
    figure = comparison_scatter(a, b, top_a, top_b, names=("APL_PML_RARA", "CBFB_MYH11"), named=10)
    (axes,) = figure.axes
    grey, first, second = axes.collections[0], axes.collections[1], axes.collections[3]
    rest = np.setdiff1d(np.arange(768), [*top_a, *top_b])
    for drawn, latents, colour in ((grey, rest, NULL), (first, top_a, ORANGE), (second, top_b, BLUE)):
        np.testing.assert_array_equal(drawn.get_offsets(), np.column_stack([a, b])[latents])
        assert to_hex(drawn.get_facecolor()[0]) == colour
    for colour, latents in ((ORANGE, top_a[:10]), (BLUE, top_b[:10])):
        assert sorted(t.get_text() for t in axes.texts if t.get_color() == colour) == sorted(map(str, latents))
    named = [int(text) for text in texts(axes)]
    np.testing.assert_allclose(leaders(axes), np.column_stack([a, b])[named], atol=1e-9)
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlim()[0] < 0 < MEANS[[0, 2]].max() < axes.get_xlim()[1]
    assert axes.get_xscale() == axes.get_yscale() == "asinh"
    apart = axes.transData.transform([(0, 0), (0.1, 0), (1, 0), (10, 0)])[:, 0]
    assert (np.diff(apart) > 20).all()  # pixels: neither 0 nor small counts are crushed
    assert axes.lines[0].get_xy1() == (0, 0)
    assert len(set(axes.lines[0].get_xy2())) == 1
    entries = [text.get_text() for text in axes.get_legend().get_texts()]
    assert entries == ["668 others", "50 most in favour of APL PML RARA", "50 most in favour of CBFB MYH11"]
    assert axes.get_xlabel() == "APL PML RARA: active patches a cell"
    assert axes.get_ylabel() == "CBFB MYH11: active patches a cell"
    assert_legible(figure)


def test_latents_without_a_value_are_not_compared() -> None:
    figure = comparison_scatter([1.0, NAN, 2.0, 3.0], [1.0, 1.0, NAN, 0.0], [3, 1], [2], names=("a", "b"), title="x")
    (axes,) = figure.axes
    assert [len(points.get_offsets()) for points in (axes.collections[0], axes.collections[1])] == [1, 1]
    assert texts(axes) == ["3"]


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_labels_stay_in_order_near_their_points_without_touching(side: str) -> None:
    with drawing(6, 6, layout=None) as figure:
        axes = axes_at(figure, 1, 1, 4, 4)
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
        at = np.array([0.5, 0.52, 0.1, 0.51, 0.98, 0.99])
        flags(axes, at, at, range(100, 106), INK, side)
    assert_legible(figure)
    along = int(side in ("left", "right"))
    found = {text.get_text(): text.xy[along] for text in axes.texts}
    assert list(found) == ["102", "100", "103", "101", "104", "105"]
    assert list(found.values()) == sorted(found.values())
    assert found["102"] == pytest.approx(0.1)
    assert (found["100"] + found["103"] + found["101"]) / 3 == pytest.approx(0.51)
    assert found["105"] < 1
    assert {text.xy[1 - along] > 1 for text in axes.texts} == {side in ("top", "right")}


def test_labels_without_room_stand_upright_and_the_last_are_left_out() -> None:
    for count, upright, shown in ((5, 0, 5), (12, 90, 12), (40, 90, 19)):
        with drawing(6, 6, layout=None) as figure:
            axes = axes_at(figure, 1, 1, 4, 4)
            flags(axes, np.linspace(1, 0, count), np.ones(count), [str(10000 + i) for i in range(count)], INK)
        assert {text.get_rotation() for text in axes.texts} == {upright}
        assert sorted(texts(axes)) == [str(10000 + i) for i in range(shown)]
        assert_legible(figure)


def test_sweep_draws_scores_intervals_and_latents() -> None:
    figure = threshold_sweep(**SWEEP, null=(0.2, 0.3), chosen=-2, paper=(-3, 0.832, 0.044), title="Sweep")
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
    marks = [[line.get_xdata() for line in axes.lines if line.get_linestyle() == "--"] for axes in (upper, lower)]
    assert marks == [[[-2, -2]], [[-2, -2]]]
    (published,) = upper.containers
    assert published.lines[0].get_xydata().tolist() == [[-3, 0.832]]
    np.testing.assert_allclose(published.lines[2][0].get_segments(), [[[-3, 0.788], [-3, 0.876]]])
    assert to_hex(published.lines[0].get_color()) == ACCENT
    entries = {text.get_text() for text in figure.legends[0].get_texts()}
    assert entries == {
        "permuted labels",
        "barcodes, with interval",
        "most often chosen: -2",
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


LONG_NAMES = [f"{i}_{LONG}" for i in range(20)]
UNEVEN = np.repeat(np.arange(20), [1] * 10 + [2] * 5 + [12] * 5)
ODD: dict[str, Callable[[], Figure]] = {
    "diseases, none active": lambda: disease_barcodes(np.zeros((1, 5)), ["x"], [1], title="x"),
    "diseases, constant": lambda: disease_barcodes(np.full((2, 5), 0.003), ["x", "y"], [1, 2], title="x"),
    "diseases, no latent": lambda: disease_barcodes(np.zeros((2, 0)), ["x", "y"], [1, 2], title="x"),
    "diseases, 20": lambda: disease_barcodes(
        BARCODES[:20], LONG_NAMES, [1] * 20, highlighted=list(range(40)), title="x"
    ),
    "patient, nothing": lambda: patient_barcode([0, 0], [[0, 0]], name="a", reference_name="b"),
    "patient, itself": lambda: patient_barcode(BARCODES[0], BARCODES[0], name=LONG, reference_name=LONG, title="x"),
    "patient, many named": lambda: patient_barcode(BARCODES[0], BARCODES[1:], name="a", reference_name=LONG, named=99),
    "correlation, one": lambda: correlation_map([[1.0]], ["x"], title="x"),
    "correlation, constant": lambda: correlation_map(np.ones((4, 4)), [LONG, "a", LONG, None], title="x"),
    "correlation, unknown": lambda: correlation_map(np.full((4, 4), NAN), list("aabb"), title="x"),
    "correlation, 20": lambda: correlation_map(
        np.corrcoef(np.random.default_rng(0).normal(size=(80, 9))), [LONG_NAMES[i] for i in UNEVEN], title="x"
    ),
    "map, one": lambda: patient_map([[1, 2]], ["x"], title="x"),
    "map, one place": lambda: patient_map(np.zeros((3, 2)), [LONG] * 3, title="x"),
    "map, unknown": lambda: patient_map(np.full((2, 2), NAN), ["a", "b"], title="x", note="UMAP"),
    "map, 20": lambda: patient_map(UNEVEN[:, None] * [[1, 2]], [LONG_NAMES[i] for i in UNEVEN], title="x"),
    "comparison, nothing": lambda: comparison_scatter(np.zeros(9), np.zeros(9), [], [], names=("a", "b")),
    "comparison, constant": lambda: comparison_scatter(
        np.full(30, 5.0), np.full(30, 5.0), range(12), range(12, 24), names=(LONG, LONG)
    ),
    "sweep, one": lambda: threshold_sweep([-3], [0.5], [0.4], [0.6], [10]),
    "sweep, unknown": lambda: threshold_sweep([-1, -3], [NAN] * 2, [NAN] * 2, [NAN] * 2, [0, 0], chosen=-3, title="x"),
    "methods, none": lambda: method_figure(METHODS.iloc[:0], title="x"),
    "methods, one": lambda: method_figure(LEFT_OUT.iloc[:1], null=(0.1, 0.2), title="x"),
    "methods, 20": lambda: method_figure(
        pd.DataFrame({"value": 0.5, "low": 0.5, "high": 0.5}, index=LONG_NAMES), title="x"
    ),
    "confusion, one": lambda: confusion_figure([[3]], ["x"], title="x"),
    "confusion, two": lambda: confusion_figure([[0, 0], [1, 1500]], ["x", LONG], title="x"),
    "confusion, five": lambda: confusion_figure(np.eye(5) * 20, DISEASES, title="x"),
    "confusion, 20": lambda: confusion_figure(np.full((20, 20), 10.5), LONG_NAMES, title="x"),
    "calibration, one": lambda: calibration_figure([0.7], [True], ece=NAN, title="x"),
    "calibration, none": lambda: calibration_figure([NAN], [True], title="x"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ODD)
def test_odd_figures_are_legible(name: str) -> None:
    assert_legible(ODD[name]())


def test_names_are_in_full_at_both_sides_of_twenty_groups() -> None:
    for name in ("correlation, 20", "confusion, 20"):
        axes = ODD[name]().axes[0]
        assert len([text for text in texts(axes) if "leukaemia" in text]) == 40


FIGURES: dict[str, Callable[[], Figure]] = {
    "diseases": lambda: disease_barcodes(MEANS, DISEASES, np.bincount(CODES).tolist(), highlighted=[3, 9], title="x"),
    "patient": lambda: patient_barcode(BARCODES[0], BARCODES[CODES == 4], name="a", reference_name="healthy"),
    "correlation": lambda: correlation_map(np.corrcoef(BARCODES), GROUPS, title="x"),
    "map": lambda: patient_map(BARCODES[:, :2], GROUPS, title="x", note="two latents"),
    "comparison": lambda: comparison_scatter(MEANS[0], MEANS[1], [1, 2], [3], names=("a", "b")),
    "sweep": lambda: threshold_sweep(**SWEEP, null=(0.2, 0.3), chosen=-2, paper=(-3, 0.832, 0.044), title="x"),
    "methods": lambda: method_figure(LEFT_OUT, chance=0.2, null=(0.1, 0.3), title="x"),
    "confusion": lambda: confusion_figure(np.eye(5) * 20 + 0.4, DISEASES, title="x"),
    "calibration": lambda: calibration_figure(np.linspace(0.2, 1, 60), np.arange(60) % 3 > 0, ece=0.1, title="x"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_same_figure_same_bytes(name: str, tmp_path: Path) -> None:
    assert_legible(FIGURES[name]())
    for copy in ("a", "b"):
        save(FIGURES[name](), tmp_path / copy)
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
