"""The figures of reference images and patches: what is drawn against the numbers behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from cytosae.cells import load_squashed
from cytosae.report import Row, overlay, patch_references, reference_grid
from cytosae.report.style import GREEN, INK, NULL, ORANGE, SKY
from support.report_figures import PATCH_LATENTS, assert_legible, picture_axes, reference_row, texts


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
