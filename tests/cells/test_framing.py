"""What is shown of an image: all, one physical size, or the cell with a margin."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.cells import (
    Frame,
    Reading,
    frame_of_one,
    frame_rule,
    image_digests,
    list_cells,
    load_squashed,
    with_frames,
)
from cytosae.cells import frames as making
from cytosae.cells.framing import framed, framed_array
from cytosae.cells.images import squashed
from cytosae.errors import CytosaeError
from cytosae.segmentation import read_tissues
from cytosae.settings import FrameConfig
from tests.support.paths import SHARED

DATA = SHARED / "data" / "cells"
REAL = pytest.mark.skipif(not DATA.is_dir(), reason="real cells are not here")


def _disc(width: int, height: int, radius: float) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) < radius
    return Image.fromarray(np.where(inside[..., None], [90, 40, 130], [240, 235, 230]).astype(np.uint8))


def _edges(pixels: np.ndarray) -> tuple[int, int]:
    dark = pixels[..., 1] < 140
    return int(dark.any(axis=0).sum()), int(dark.any(axis=1).sum())


def test_a_disc_stays_a_disc() -> None:
    image = _disc(160, 110, 30)
    wide, high = _edges(squashed(image, 224))
    assert high / wide > 1.4  # what a frame is for
    wide, high = _edges(squashed(image, 224, Frame.square("cell 0.5", 80, 55, 120)))
    assert abs(wide - high) <= 1
    assert abs(wide - 60 * 224 / 120) <= 2


def test_the_whole_image_as_a_frame_is_the_image() -> None:
    image = _disc(90, 90, 30)
    assert np.abs(squashed(image, 224).astype(int) - squashed(image, 224, Frame("um 9", 0, 0, 90, 90))).max() <= 1


def test_beyond_the_border_the_image_is_reflected() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (10, 12, 3)).astype(np.uint8)
    seen = np.asarray(
        framed(Image.fromarray(pixels), Frame("um 1", -4, -3, 16, 13), (20, 16), Image.Resampling.NEAREST)
    )
    assert (seen[3:13, 4:16] == pixels).all()
    assert (seen[3:13, :4] == pixels[:, 3::-1]).all()
    assert (seen[13:, 4:16] == pixels[:-4:-1]).all()
    far = framed(Image.fromarray(pixels), Frame("um 1", -40, -40, 50, 50), (90, 90), Image.Resampling.NEAREST)
    assert set(map(tuple, np.asarray(far).reshape(-1, 3))) <= set(map(tuple, pixels.reshape(-1, 3)))


def test_maps_are_cut_as_images_are() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (40, 60)).astype(np.uint8)
    frame = Frame("cell 1", -10, 5, 54, 69)
    seen = framed(Image.fromarray(pixels), frame, (64, 64), Image.Resampling.NEAREST)
    assert (framed_array(pixels, frame, (60, 40), 64) == np.asarray(seen)).all()


def test_a_frame_that_is_none_is_named() -> None:
    with pytest.raises(CytosaeError, match="file_frame: 'um 25 3'"):
        Frame.parse("um 25 3")
    with pytest.raises(CytosaeError, match="no way to frame"):
        FrameConfig.from_rule("eye 3")
    for config in (FrameConfig("um", frame_um=31), FrameConfig("um", ruler="nucleated"), FrameConfig("cell")):
        assert FrameConfig.from_rule(config.rule) == config


@pytest.fixture(scope="module")
def real() -> pd.DataFrame:
    """Twelve cells of each laboratory with masks."""
    table = pd.read_csv(DATA / "cells.csv")
    rows = [group.iloc[::11][:9] for name, group in table.groupby("dataset") if name.startswith("segwbc")]
    cells = pd.concat(rows).reset_index(drop=True)
    for column in ("path", "mask"):
        cells[column] = [str(DATA / name) for name in cells[column]]
    sizes = [Image.open(path).size for path in cells["path"]]
    cells["width"], cells["height"] = zip(*sizes, strict=True)
    return cells.assign(cell_id=[f"c{row}" for row in range(len(cells))], file_sha256=cells["path"])


@REAL
def test_the_cell_is_framed_as_its_mask_says(real: pd.DataFrame) -> None:
    framed_cells, remarks = with_frames(real, FrameConfig("cell", frame_margin=0.25), workers=0)
    assert not remarks
    assert frame_rule(framed_cells) == "cell 0.25"
    held, shares = [], []
    for row in framed_cells.itertuples():
        frame = Frame.parse(row.file_frame)
        assert abs((frame.right - frame.left) - (frame.bottom - frame.top)) < 0.02
        mask = read_tissues(Image.open(row.mask), (row.height, row.width)) > 64
        y, x = np.nonzero(mask)
        held.append(((x > frame.left) & (x < frame.right) & (y > frame.top) & (y < frame.bottom)).mean())
        shares.append(max(np.ptp(x), np.ptp(y)) / (frame.right - frame.left))
    assert np.mean(np.array(held) > 0.99) > 0.9
    assert abs(np.median(shares) - 1 / 1.5) < 0.05
    assert np.mean(np.abs(np.array(shares) - 1 / 1.5) < 0.12) > 0.8


@REAL
def test_one_scale_from_red_cells_or_else_from_the_cells_and_it_is_said(real: pd.DataFrame) -> None:
    framed_cells, remarks = with_frames(real, FrameConfig("um", frame_um=25), workers=0)
    edges = framed_cells["file_frame"].map(lambda text: Frame.parse(text).right - Frame.parse(text).left)
    red, none = remarks
    assert "segwbc_cellavision: " in red
    assert "red cells" in red
    assert " to " in red
    assert "segwbc_tecom: too few whole red cells" in none
    assert "--mpp" in none
    assert edges.groupby(real["dataset"]).agg(np.ptp).lt(0.05).all()
    assert 0.08 < 25 / edges[real["dataset"] == "segwbc_cellavision"].iloc[0] < 0.11


@REAL
def test_the_median_cell_as_a_ruler_gets_the_same_size_in_every_laboratory(real: pd.DataFrame) -> None:
    config = FrameConfig("um", frame_um=28, ruler="nucleated")
    framed_cells, remarks = with_frames(real, config, workers=0)
    assert all("if its median nucleated cell has 14 micrometres" in remark for remark in remarks)
    assert not any("red cells" in remark for remark in remarks)
    edges = framed_cells["file_frame"].map(lambda text: Frame.parse(text).right - Frame.parse(text).left)
    masks = [read_tissues(Image.open(row.mask), (row.height, row.width)) > 64 for row in real.itertuples()]
    cells = pd.Series([max(np.ptp(np.nonzero(mask)[0]), np.ptp(np.nonzero(mask)[1])) + 1 for mask in masks])
    assert (cells / edges).groupby(real["dataset"]).median().between(0.43, 0.57).all()


def _drawn(folder, images: list[Image.Image], **columns: object) -> pd.DataFrame:
    for number, image in enumerate(images):
        image.save(folder / f"{number}.png")
    table = pd.DataFrame({"path": [f"{n}.png" for n in range(len(images))], **columns})
    table.to_csv(folder / "cells.csv", index=False)
    return list_cells(folder / "cells.csv").cells


def test_stated_scales_go_first(tmp_path) -> None:
    cells = _drawn(tmp_path, [_disc(100, 100, 30)] * 2, mpp=[0.1, 0.2])
    frames = [
        Frame.parse(text) for text in with_frames(cells, FrameConfig("um", frame_um=20), workers=0)[0]["file_frame"]
    ]
    assert [frame.right - frame.left for frame in frames] == [200, 100]
    option = with_frames(cells, FrameConfig("um", frame_um=20, mpp=0.4), workers=0)[0]["file_frame"]
    assert option.map(lambda text: Frame.parse(text).right - Frame.parse(text).left).tolist() == [50, 50]


def test_without_a_scale_an_option_is_asked_for(tmp_path) -> None:
    cells = _drawn(tmp_path, [Image.new("RGB", (60, 60), (240, 240, 240))] * 2)
    with pytest.raises(CytosaeError, match=r"neither red cells nor nucleated cells were found in 2 .* --mpp"):
        with_frames(cells, FrameConfig("um"), workers=0)
    with pytest.raises(CytosaeError, match=r"column 'mpp': cell 0\.png has -1"):
        with_frames(cells.assign(mpp=[-1, 2]), FrameConfig("um"), workers=0)


def test_cells_without_a_nucleus_are_said_and_shown_as_the_others(tmp_path) -> None:
    empty = Image.new("RGB", (140, 140), (240, 238, 235))
    cells = _drawn(tmp_path, [_disc(140, 140, 30), _disc(140, 140, 32), empty])
    framed_cells, (remark,) = with_frames(cells, FrameConfig("cell"), workers=0)
    assert "no nucleus in the middle of 1 of 3 images (first: 2.png)" in remark
    assert "as its other cells" in remark
    own, other, lost = (Frame.parse(text) for text in framed_cells["file_frame"])
    assert own.right - own.left < lost.right - lost.left < other.right - other.left
    assert (lost.left + lost.right) / 2 == 70
    _, (remark,) = with_frames(_drawn(tmp_path, [empty]), FrameConfig("cell"), workers=0)
    assert "any of its 1 images" in remark


def test_cells_are_looked_for_once_and_frames_belong_to_the_pixels(tmp_path, monkeypatch) -> None:
    cells = _drawn(tmp_path, [_disc(141, 140, 30), _disc(140, 131, 32)])
    shifted = cells.assign(width=cells["width"] + 7)  # so that no cell lies in the very middle
    first, _ = with_frames(shifted, FrameConfig("cell"), workers=0)
    monkeypatch.setattr(making, "look_at_cell", lambda pixels: pytest.fail("looked again"))
    second, _ = with_frames(shifted, FrameConfig("cell"), first, workers=0)
    assert second["file_frame"].tolist() == first["file_frame"].tolist()
    with pytest.raises(pytest.fail.Exception, match="looked again"):
        with_frames(shifted, FrameConfig("cell", frame_margin=0.5), first, workers=0)
    assert image_digests(first) != image_digests(cells)
    assert with_frames(first, FrameConfig())[0].columns.tolist() == cells.columns.tolist()
    with pytest.raises(CytosaeError, match="framed in several ways"):
        frame_rule(first.assign(file_frame=[first["file_frame"][0], "um 25: 0 0 1 1"]))


def test_files_are_read_through_their_frame(tmp_path) -> None:
    _disc(120, 80, 30).save(tmp_path / "a.png")
    frame = Frame.square("cell 0.5", 60, 40, 120)
    assert (
        load_squashed(tmp_path / "a.png", 64, Reading(None, frame)) == squashed(_disc(120, 80, 30), 64, frame)
    ).all()


def test_an_image_alone_says_what_was_done_instead() -> None:
    empty = Image.new("RGB", (140, 100), (240, 238, 235))
    frame, note = frame_of_one(empty, FrameConfig("cell"), None)
    assert frame is not None
    assert frame.right - frame.left == 100
    assert "no nucleus" in str(note)
    frame, note = frame_of_one(empty, FrameConfig("um"), 80.0)
    assert frame is not None
    assert frame.right - frame.left == 80
    assert "no scale" in str(note)
    assert frame_of_one(empty, FrameConfig(), 80.0) == (None, None)
    frame, note = frame_of_one(_disc(140, 100, 30), FrameConfig("cell", frame_margin=0.5), None)
    assert note is None
    assert frame is not None
    assert abs(frame.right - frame.left - 120) < 12
