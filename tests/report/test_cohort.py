"""The figures of patients and diseases: what is drawn against the numbers behind it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from cytosae.report import comparison_scatter, correlation_map, disease_barcodes, patient_barcode, patient_map
from cytosae.report.layout import flags, pooled
from cytosae.report.style import BLUE, INK, NULL, ORANGE, RULE, axes_at, drawing
from support.patient_figures import GROUPS, MEANS, leaders, written
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
    figure = patient_map(positions, GROUPS, title="Patients", note="t-SNE")
    (axes,) = figure.axes
    names = sorted(set(GROUPS))
    assert names[-1] == "healthy"
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    for name, points, entry in zip(names, axes.collections, legend, strict=True):
        inside = [i for i in range(60) if GROUPS[i] == name and i != 7]
        np.testing.assert_array_equal(points.get_offsets(), positions[inside])
        assert entry == f"{name.replace('_', ' ')} ({len(inside)})"
    assert written(figure).endswith("t-SNE; 1 patient without a position")
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
