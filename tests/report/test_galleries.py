"""The figures: what is drawn against the numbers behind it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from cytosae.cells import load_squashed
from cytosae.report import (
    Row,
    density_histogram,
    enlarge,
    multiplied,
    overlay,
    overview,
    patch_references,
    quality_summary,
    reference_grid,
    save,
    threshold_counts,
    training_curves,
)
from cytosae.report.style import ACCENT, GREEN, INK, NULL, ORANGE, SKY
from support.report_figures import (
    NAN,
    PATCH_LATENTS,
    QUALITY,
    assert_legible,
    corners,
    latent_statistics,
    measures,
    picture_axes,
    reference_row,
    texts,
)


def test_overview_draws_every_active_latent_where_it_belongs() -> None:
    var = latent_statistics()
    figure = overview(var, title="blood", concept_threshold=-3)
    main, top, right, bar = figure.axes
    grey, coloured = main.collections[:2]
    drawn = np.concatenate([grey.get_offsets(), coloured.get_offsets()])
    active = var[var["mean_activation"] > 0]
    expected = np.log10(active[["activation_frequency", "mean_activation"]].to_numpy())
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(expected, axis=0))
    known = active["label_entropy"].notna()
    np.testing.assert_allclose(coloured.get_array(), active["label_entropy"][known])
    assert bar.get_visible()
    assert (bar.get_ylabel(), bar.get_ylim()[0]) == ("label entropy (nats)", 0)
    assert len(grey.get_offsets()) == (~known).sum()
    assert sum(bar.get_height() for bar in top.patches) == len(active)
    assert sum(bar.get_width() for bar in right.patches) == len(active)
    assert main.lines[0].get_ydata()[0] == -3
    assert figure.get_suptitle() == f"blood: {var['is_concept'].sum()} concepts of 200 latents, 9 never active"
    assert "frequency" in main.get_xlabel()
    assert "mean activation" in main.get_ylabel()
    assert_legible(figure)


def test_published_overview_counts_the_published_concepts(golden: dict[str, np.ndarray]) -> None:
    var = pd.DataFrame({k: golden[k] for k in ("mean_activation", "activation_frequency", "label_entropy")})
    assert "3,801 concepts of 49,152 latents" in overview(var, title="MLL23").get_suptitle()


def test_overview_without_labels_or_active_latents() -> None:
    var = latent_statistics().assign(label_entropy=np.nan)
    figure = overview(var, title="x")
    figure.canvas.draw()
    assert not figure.axes[3].get_visible()
    overview(var.assign(mean_activation=0.0, activation_frequency=0.0), title="x").canvas.draw()


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


def test_enlarge_repeats_each_patch() -> None:
    expected = [[1, 1, 2, 2, 3, 3]] * 3 + [[4, 4, 5, 5, 6, 6]] * 3
    assert enlarge([[1, 2, 3], [4, 5, 6]], 6).tolist() == expected


def test_smooth_keeps_place_and_range() -> None:
    hot = np.zeros((7, 7))
    hot[2, 4] = 2
    large = enlarge(hot, 98, smooth=True)
    assert large.shape == (98, 98)
    assert large.min() == 0
    assert 1.9 < large.max() <= 2
    rows, columns = np.nonzero(large > 1.0)
    assert (rows.mean(), columns.mean()) == (2.5 * 14 - 0.5, 4.5 * 14 - 0.5)
    step = enlarge([[0.0, 0, 3, 3]], 64, smooth=True)  # bicubic alone would reach beyond 0 and 3
    assert (step.min(), step.max()) == (0, 3)
    assert len(np.unique(step[0])) > 10
    assert (enlarge(np.full((2, 2), 3.0), 9, smooth=True) == 3).all()


IMAGE = np.full((4, 4, 3), 100, dtype=np.uint8)
MAP = np.array([[0.0, 1.0], [2.0, 4.0]])


def test_overlay_by_hand() -> None:
    """Viridis at 1/2 is (0.1276, 0.5669, 0.5506), at 1 it is (0.9932, 0.9062, 0.1439)."""
    half = [80, 113, 112]  # 0.7 * 100 + 0.3 * 255 * colour
    full = [192, 179, 62]  # 0.4 * 100 + 0.6 * 255 * colour
    drawn = overlay(IMAGE, MAP)
    assert drawn.dtype == np.uint8
    assert (corners(drawn)[0], corners(drawn)[2], corners(drawn)[3]) == ([100, 100, 100], half, full)
    assert corners(overlay(IMAGE, MAP, top=2.0))[1:] == [half, full, full]
    assert corners(overlay(IMAGE, MAP, top=8.0))[3] == half
    assert corners(overlay(IMAGE, MAP, opacity=1.0))[3] == [253, 231, 37]
    assert corners(overlay(IMAGE, MAP, opacity=1.0, colours="magma"))[3] == [252, 253, 191]


def test_multiplied_by_hand() -> None:
    assert [c[0] for c in corners(multiplied(IMAGE, MAP))] == [0, 25, 50, 100]
    assert [c[0] for c in corners(multiplied(IMAGE, MAP, top=2.0))] == [0, 50, 100, 100]
    assert len(np.unique(multiplied(IMAGE, MAP, smooth=True))) > 4


def test_without_activation_the_image_stays(real_cells: Path) -> None:
    cell = load_squashed(real_cells / "pbc/basophil/BA_555760.jpg", 224)
    nothing = np.zeros((16, 16), dtype=np.float16)
    for smooth in (False, True):
        assert (overlay(cell, nothing, smooth=smooth) == cell).all()
        assert (overlay(cell, nothing, top=3.0, smooth=smooth) == cell).all()
        assert not multiplied(cell, nothing, smooth=smooth).any()


@pytest.mark.parametrize("patch", [(0, 0), (3, 9), (15, 0), (15, 15)])
def test_a_hot_patch_colours_its_own_pixels(real_cells: Path, patch: tuple[int, int]) -> None:
    cell = load_squashed(real_cells / "pbc/basophil/BA_555760.jpg", 224)
    hot = np.zeros((16, 16), dtype=np.float16)
    hot[patch] = 0.7
    own = np.zeros((224, 224), dtype=bool)
    own[14 * patch[0] : 14 * patch[0] + 14, 14 * patch[1] : 14 * patch[1] + 14] = True
    assert ((overlay(cell, hot) != cell).any(-1) == own).all()
    assert (multiplied(cell, hot) == cell * own[..., None]).all()


@pytest.mark.parametrize("draw", [overlay, multiplied])
@pytest.mark.parametrize(
    ("image", "map_", "words"),
    [
        (IMAGE, [0.0, 1.0], r"\(rows, columns\).*\(2,\)"),
        (IMAGE, np.zeros((0, 2)), r"\(rows, columns\)"),
        (IMAGE, np.zeros((3, 2)), "3 x 2 patches do not fit into 4 x 4"),
        (IMAGE, np.zeros((2, 3)), "2 x 3 patches do not fit into 4 x 4"),
        (IMAGE, [[0.0, np.nan]], "NaN"),
        (IMAGE, [[0.0, np.inf]], "infinity"),
        (IMAGE, [[0.0, -1.0]], "never negative.*-1"),
        (IMAGE[..., 0], MAP, r"\(edge, edge, 3\).*\(4, 4\)"),
        (IMAGE[:2], MAP, r"\(2, 4, 3\)"),
        (IMAGE[..., :2], MAP, r"\(4, 4, 2\)"),
        (IMAGE.astype(float), MAP, "float64"),
    ],
)
def test_what_cannot_be_laid_over(draw: Callable[..., Any], image: np.ndarray, map_: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw(image, map_)


@pytest.mark.parametrize("top", [0.0, -1.0, np.nan])
def test_top_is_above_zero(top: float) -> None:
    with pytest.raises(ValueError, match="top"):
        overlay(IMAGE, MAP, top=top)
    with pytest.raises(ValueError, match="top"):
        reference_grid([reference_row("a", 1)], title="x", top=top)


def test_reference_grid_draws_every_image_with_one_scale(real_cells: Path) -> None:
    table = pd.read_csv(real_cells / "cells.csv")
    rng = np.random.default_rng(0)
    rows = []
    for name, count, strength in (("pbc", 3, 1.0), ("segwbc_cellavision", 2, 5.0), ("bccd_crops", 0, 1.0)):
        chosen = table[table["dataset"] == name].iloc[:count]
        images = [load_squashed(real_cells / path, 224) for path in chosen["path"]]
        maps = [strength * rng.random((16, 16)) for _ in images]
        rows.append(Row(name, images, maps, chosen["label"].tolist(), [float(map_.mean()) for map_ in maps]))
    figure = reference_grid(rows, title="Latent 7")
    drawn = picture_axes(figure)
    top = max(rows[1].maps[0].max(), rows[1].maps[1].max())
    expected = [(row, index) for row in rows for index in range(len(row.images))]
    for axes, (row, index) in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(
            axes.images[0].get_array(), overlay(row.images[index], row.maps[index], top=top), strict=True
        )
        assert texts(axes) == [f"{row.values[index]:.3g}", row.labels[index]]
    assert figure.get_suptitle() == "Latent 7"
    names = {text.get_text(): text.get_position()[1] for text in figure.texts}
    places = [axes.get_position() for axes in drawn]
    for row, place in (("pbc", places[0]), ("segwbc_cellavision", places[3])):
        assert names[row] == pytest.approx((place.y0 + place.y1) / 2)
    assert names["no reference image"] == names["bccd_crops"] < places[3].y0
    assert [place.x0 for place in places[3:]] == [place.x0 for place in places[:2]]
    (key,) = [axes for axes in figure.axes if not axes.images]
    assert key.get_ylim() == pytest.approx((0, top))
    assert_legible(figure)


def test_rows_may_have_scales_of_their_own() -> None:
    weak, strong = (
        Row(name, [np.full((32, 32, 3), 100, np.uint8)], [top * np.eye(16)], ["x"], [1.0])
        for name, top in (("weak", 0.25), ("strong", 4.0))
    )

    def drawn(each_row: bool) -> list[np.ndarray]:
        figure = reference_grid([weak, strong], title="t", each_row=each_row)
        return [np.asarray(axes.images[0].get_array()).astype(int) for axes in figure.axes if axes.images]

    (own_weak, own_strong), (weak_among_strong, alone_strong) = drawn(True), drawn(False)
    np.testing.assert_array_equal(own_weak, own_strong)
    np.testing.assert_array_equal(own_strong, alone_strong)
    assert 0 < np.abs(weak_among_strong - 100).sum() < np.abs(own_weak - 100).sum() / 4
    key = reference_grid([weak, strong], title="t", each_row=True).axes[-1]
    assert "row's strongest" in key.get_ylabel()


def test_key_of_the_grid_has_the_colours_of_an_overlay_on_white() -> None:
    figure = reference_grid([reference_row("a", 2)], title="x", top=4.0)
    (key,) = [axes for axes in figure.axes if not axes.images]
    assert key.get_ylim() == (0, 4)
    colours = key.collections[-1].cmap
    white = np.full((1, 1, 3), 255, dtype=np.uint8)
    for activation in (0.0, 1.0, 3.0, 4.0):
        rgb = np.array(colours(activation / 4)[:3]) * 255
        expected = overlay(white, [[activation]], top=4.0)[0, 0] if activation else white[0, 0]
        np.testing.assert_allclose(rgb, expected, atol=2)
    np.testing.assert_array_equal(
        picture_axes(figure)[0].images[0].get_array(),
        overlay(reference_row("a", 2).images[0], reference_row("a", 2).maps[0], top=4.0),
    )


def test_captions_name_what_is_unknown_and_shorten_what_is_long() -> None:
    figure = reference_grid([reference_row("a", 3)], title="x")
    captions = [texts(axes) for axes in picture_axes(figure)]
    assert captions[0] == ["0.5", "immature", "granulocyte"]
    assert captions[1] == ["0.25", "unlabelled"]
    assert captions[2] == ["0.167", "a very long label", "that does not fit…"]


@pytest.mark.parametrize("counts", [[], [0], [1], [0, 0], [4, 3, 0, 4]])
def test_grids_of_any_size_are_legible(counts: list[int]) -> None:
    rows = [reference_row(f"a concept of data set number {i}", n) for i, n in enumerate(counts)]
    figure = reference_grid(rows, title="Latent 7")
    assert len(picture_axes(figure)) == sum(counts)
    assert_legible(figure)


def test_maps_without_activation_are_drawn() -> None:
    row = reference_row("a", 2, strength=0.0)
    figure = reference_grid([row], title="x")
    np.testing.assert_array_equal(picture_axes(figure)[0].images[0].get_array(), row.images[0])


def test_a_row_has_as_many_maps_as_images() -> None:
    row = reference_row("lonely", 2)
    with pytest.raises(ValueError, match=r"lonely: \[2, 1, 2, 2\]"):
        Row("lonely", row.images, row.maps[:1], row.labels, row.values)


def test_patch_references(real_cells: Path) -> None:
    cell = load_squashed(real_cells / "pbc/basophil/BA_555760.jpg", 224)
    rows = [reference_row("latent 7", 6), reference_row("Latent 9", 2, 3.0), reference_row("third", 1)]
    figure = patch_references(cell, (3, 9), PATCH_LATENTS, rows)
    shown, *references = picture_axes(figure)
    np.testing.assert_array_equal(shown.images[0].get_array(), cell)
    (outline,) = shown.patches
    assert outline.get_bbox().extents.tolist() == [125.5, 41.5, 139.5, 55.5]  # pixel 126 begins at 125.5
    assert not outline.get_fill()

    (spectrum,) = [axes for axes in figure.axes if not axes.images]
    assert [bar.get_height() for bar in spectrum.patches] == [3.0, 2.5, 1.5, 0.5, 0.1]
    assert [to_hex(bar.get_facecolor()) for bar in spectrum.patches] == [NULL, ORANGE, GREEN, SKY, SKY]
    assert [bar.get_x() + bar.get_width() / 2 for bar in spectrum.patches] == pytest.approx([1, 2, 3, 4, 5])
    assert texts(spectrum) == ["latent 7: 2.5", "latent 9: 1.5"]
    assert [text.xy for text in spectrum.texts] == [(2, 2.5), (3, 1.5)]
    assert [text.get_color() for text in spectrum.texts] == [ORANGE, GREEN]
    counts = [text.get_text() for text in spectrum.get_legend().get_texts()]
    assert counts == ["in nearly every image: 1", "others: 4"]

    expected = [(row, index) for row in rows for index in range(len(row.images))]
    for axes, (row, index) in zip(references, expected, strict=True):
        own = overlay(row.images[index], row.maps[index], top=max(map_.max() for map_ in row.maps))
        np.testing.assert_array_equal(axes.images[0].get_array(), own)
    colours = {text.get_text(): text.get_color() for text in figure.texts}
    assert (colours["latent 7"], colours["Latent 9"], colours["third"]) == (ORANGE, GREEN, INK)
    assert f"full colour at {max(map_.max() for map_ in rows[1].maps):.3g}" in colours
    places = [axes.get_position() for axes in references]
    assert places[5].x0 == places[0].x0
    assert places[5].y1 < places[0].y0
    assert len({place.y0 for place in places[:5]}) == 1
    assert_legible(figure)


@pytest.mark.parametrize(
    ("counts", "active"), [([], 0), ([1], 1), ([0], 3), ([5, 5], 300), ([10, 10], 60), ([10, 10, 10], 300)]
)
def test_patches_with_few_and_many_references_are_legible(counts: list[int], active: int) -> None:
    table = pd.DataFrame(
        {
            "latent": np.arange(active) + 49000,
            "activation": np.linspace(2.0, 0.01, active),
            "common": np.arange(active) % 3 == 0,
        }
    )
    rows = [reference_row(f"Latent 4900{i} in this data set", n) for i, n in enumerate(counts)]
    figure = patch_references(np.zeros((32, 32, 3), np.uint8), (0, 15), table, rows)
    cell, *references = picture_axes(figure)
    assert len(references) == sum(counts)
    (spectrum,) = [axes for axes in figure.axes if not axes.images]
    beside, below = cell.get_position(), spectrum.get_position()
    assert (below.y1 < beside.y0) == (sum(counts) > 10)
    assert (below.x0 > beside.x1) == (sum(counts) <= 10)
    assert_legible(figure)


def test_patches_of_another_grid() -> None:
    cell = np.zeros((32, 32, 3), np.uint8)
    figure = patch_references(cell, (1, 3), PATCH_LATENTS, [], grid=(2, 4))
    assert picture_axes(figure)[0].patches[0].get_bbox().extents.tolist() == [23.5, 15.5, 31.5, 31.5]
    for patch in ((2, 0), (0, 4), (-1, 0)):
        with pytest.raises(ValueError, match="2 x 4 patches"):
            patch_references(cell, patch, PATCH_LATENTS, [], grid=(2, 4))


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
